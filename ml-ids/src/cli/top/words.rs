//! Numbers and text of others, made fit for people and for a terminal.

/// Longest text that is shown, in characters.
const LONGEST: usize = 300;
/// Steps of a thousand.
const PREFIXES: [&str; 5] = ["", " k", " M", " G", " T"];
/// Units of time with their seconds, the largest first.
const TIMES: [(f64, &str); 4] = [(86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s")];

/// Text from the network without what a terminal might obey, or what would turn the line around.
pub(super) fn clean(text: &str) -> String {
    let obeyed = |char: char| {
        char.is_control()
            || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    text.chars().take(LONGEST).map(|char| if obeyed(char) { '\u{fffd}' } else { char }).collect()
}

/// `18.2 k`: three digits, with the unit behind a blank if there is one.
pub(super) fn short(value: f64, unit: &str) -> String {
    let value = if value.is_finite() { value.max(0.0) } else { 0.0 };
    let (mut scaled, mut prefix) = (value, 0);
    while scaled >= 999.5 && prefix + 1 < PREFIXES.len() {
        scaled /= 1000.0;
        prefix += 1;
    }
    let digits = if scaled >= 99.95 || (prefix == 0 && scaled.fract() == 0.0) {
        format!("{scaled:.0}")
    } else if scaled < 10.0 && prefix == 0 {
        format!("{scaled:.2}")
    } else {
        format!("{scaled:.1}")
    };
    let prefix = PREFIXES.get(prefix).copied().unwrap_or_default();
    match (unit, prefix) {
        ("", prefix) => format!("{digits}{prefix}"),
        (unit, "") => format!("{digits} {unit}"),
        (unit, prefix) => format!("{digits}{prefix}{unit}"),
    }
}

/// `2 h 5 min`: the two largest units.
pub(super) fn span(seconds: f64) -> String {
    let seconds = if seconds.is_finite() { seconds.max(0.0) } else { 0.0 };
    if seconds < 10.0 {
        return format!("{seconds:.1} s");
    }
    let mut left = seconds.floor();
    let mut words = Vec::new();
    for (size, unit) in TIMES {
        let count = (left / size).floor();
        left -= count * size;
        if count > 0.0 && words.len() < 2 {
            words.push(format!("{count:.0} {unit}"));
        } else if !words.is_empty() {
            break;
        }
    }
    words.join(" ")
}

/// `1,204`.
pub(super) fn whole(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left_in_text_of_others() {
        assert_eq!(clean("a\u{1b}[2Jb\r\n\u{202e}c\u{9b}d"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}\u{fffd}c\u{fffd}d");
        assert_eq!(clean("Ünüsual – ok"), "Ünüsual – ok");
        assert_eq!(clean(&"x".repeat(1000)).len(), LONGEST);
    }

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        for (value, unit, expected) in [
            (0.0, "", "0"),
            (7.0, "", "7"),
            (0.333, "/s", "0.33 /s"),
            (18_204.0, "", "18.2 k"),
            (999_600.0, "B", "1.0 MB"),
            (123_456_789.0, "B/s", "123 MB/s"),
            (512.0, "B", "512 B"),
            (f64::NAN, "B", "0 B"),
            (-3.0, "", "0"),
        ] {
            assert_eq!(short(value, unit), expected, "{value}");
        }
        assert_eq!((whole(0), whole(999), whole(1_234_567)), ("0".into(), "999".into(), "1,234,567".into()));
    }

    #[test]
    fn times_have_their_two_largest_units() {
        for (seconds, expected) in [
            (0.04, "0.0 s"),
            (9.87, "9.9 s"),
            (10.0, "10 s"),
            (75.0, "1 min 15 s"),
            (3_600.0, "1 h"),
            (7_505.0, "2 h 5 min"),
            (86_405.0, "1 d"),
            (f64::INFINITY, "0.0 s"),
        ] {
            assert_eq!(span(seconds), expected, "{seconds}");
        }
    }
}
