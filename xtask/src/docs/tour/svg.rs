//! A picture of what a terminal shows: text stays text, on a ground of its own, so that it is legible on any page.

use std::fmt::Write as _;

/// Pixels of a character.
const CELL: (f64, f64) = (8.4, 18.0);
/// Size of the letters.
const LETTERS: f64 = 14.0;
/// Around the text, and the bar with the title above.
const EDGE: f64 = 16.0;
const BAR: f64 = 34.0;
/// Ground and letters without a colour.
const GROUND: &str = "#12181f";
const INK: &str = "#d8dee6";
/// The colours 0 to 15 of terminals.
const COLOURS: [&str; 16] = [
    "#3b4552", "#f07178", "#8fce6f", "#e6b450", "#5ea8f2", "#c792ea", "#4fc3c9", "#d8dee6", "#7d8a99", "#ff8f96",
    "#aee692", "#ffcf70", "#86c1ff", "#dcb2ff", "#7fe0e6", "#ffffff",
];
/// Steps of the cube of colours 16 to 231.
const STEPS: [u8; 6] = [0, 95, 135, 175, 215, 255];

/// How text looks.
#[derive(Clone, Debug, Default, PartialEq)]
struct Style {
    ink: Option<String>,
    ground: Option<String>,
    bold: bool,
    dim: bool,
    reverse: bool,
}

/// Text that looks alike, and where it begins.
#[derive(Debug, PartialEq)]
struct Span {
    column: usize,
    text: String,
    style: Style,
}

/// Draws what `tmux capture-pane -e` gives.
pub(super) fn draw(screen: &str, title: &str) -> String {
    let mut style = Style::default();
    let rows: Vec<Vec<Span>> = screen.trim_end().lines().map(|line| spans(line, &mut style)).collect();
    let columns = rows.iter().flatten().map(|span| span.column + span.text.chars().count()).max().unwrap_or(0);
    let (width, height) = (2.0 * EDGE + columns as f64 * CELL.0, BAR + EDGE + rows.len() as f64 * CELL.1 + EDGE / 2.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\" \
         font-family=\"ui-monospace,'DejaVu Sans Mono','Liberation Mono',Menlo,Consolas,monospace\" font-size=\"{LETTERS}\">\n\
         <title>{title}</title>\n<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{GROUND}\"/>\n"
    );
    for (place, colour) in ["#f07178", "#e6b450", "#8fce6f"].iter().enumerate() {
        let x = EDGE + 6.0 + place as f64 * 18.0;
        let _ = writeln!(svg, "<circle cx=\"{x}\" cy=\"17\" r=\"5.5\" fill=\"{colour}\"/>");
    }
    for (row, spans) in rows.iter().enumerate() {
        for Span { column, text, style } in spans {
            let (x, top) = (EDGE + *column as f64 * CELL.0, BAR + row as f64 * CELL.1);
            let length = text.chars().count() as f64 * CELL.0;
            let (mut ink, mut ground) = (style.ink.as_deref().unwrap_or(INK), style.ground.as_deref());
            if style.reverse {
                (ink, ground) = (ground.unwrap_or(GROUND), Some(ink));
            }
            if let Some(ground) = ground {
                let _ = writeln!(
                    svg,
                    "<rect x=\"{x:.1}\" y=\"{top:.0}\" width=\"{length:.1}\" height=\"{}\" fill=\"{ground}\"/>",
                    CELL.1
                );
            }
            if text.trim().is_empty() {
                continue;
            }
            let weight = if style.bold { " font-weight=\"bold\"" } else { "" };
            let faint = if style.dim { " opacity=\"0.65\"" } else { "" };
            let _ = writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{:.0}\" fill=\"{ink}\"{weight}{faint} textLength=\"{length:.1}\" lengthAdjust=\"spacingAndGlyphs\">{}</text>",
                top + 13.5,
                escaped(text)
            );
        }
    }
    svg + "</svg>\n"
}

/// The spans of a line; `style` is what the one before has left.
fn spans(line: &str, style: &mut Style) -> Vec<Span> {
    let (mut spans, mut column, mut rest) = (Vec::<Span>::new(), 0, line);
    while !rest.is_empty() {
        if let Some((codes, after)) = rest.strip_prefix("\u{1b}[").and_then(|rest| rest.split_once('m')) {
            apply(codes, style);
            rest = after;
            continue;
        }
        let end = rest.char_indices().skip(1).find(|(_, c)| *c == '\u{1b}').map_or(rest.len(), |(at, _)| at);
        let (text, after) = rest.split_at(end);
        spans.push(Span { column, text: text.to_owned(), style: style.clone() });
        column += text.chars().count();
        rest = after;
    }
    spans
}

fn apply(codes: &str, style: &mut Style) {
    let mut codes = codes.split([';', ':']).map(|code| code.parse::<u16>().unwrap_or(0));
    while let Some(code) = codes.next() {
        match code {
            0 => *style = Style::default(),
            1 => style.bold = true,
            2 => style.dim = true,
            7 => style.reverse = true,
            22 => (style.bold, style.dim) = (false, false),
            27 => style.reverse = false,
            30..=37 => style.ink = Some(indexed(code - 30)),
            38 => style.ink = further(&mut codes),
            39 => style.ink = None,
            40..=47 => style.ground = Some(indexed(code - 40)),
            48 => style.ground = further(&mut codes),
            49 => style.ground = None,
            90..=97 => style.ink = Some(indexed(code - 82)),
            100..=107 => style.ground = Some(indexed(code - 92)),
            _ => {}
        }
    }
}

/// A colour of 256, or of all.
fn further(codes: &mut impl Iterator<Item = u16>) -> Option<String> {
    match codes.next()? {
        5 => codes.next().map(indexed),
        2 => {
            let [red, green, blue] = [codes.next()?, codes.next()?, codes.next()?];
            Some(format!("#{red:02x}{green:02x}{blue:02x}"))
        }
        _ => None,
    }
}

fn indexed(index: u16) -> String {
    let step = |place: u16| STEPS.get(usize::from(place % 6)).copied().unwrap_or(0);
    match index {
        0..=15 => COLOURS.get(usize::from(index)).copied().unwrap_or(INK).to_owned(),
        16..=231 => {
            let place = index - 16;
            format!("#{:02x}{:02x}{:02x}", step(place / 36), step(place / 6), step(place))
        }
        _ => format!("#{0:02x}{0:02x}{0:02x}", 8 + 10 * (index.min(255) - 232)),
    }
}

/// Blanks are those that nobody takes together.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace(' ', "\u{a0}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_go_on_until_they_are_ended_and_text_stays_where_it_is() {
        let mut style = Style::default();
        let found = spans("ab\u{1b}[1;31mcd\u{1b}[0m e", &mut style);
        let red = Style { ink: Some(COLOURS[1].to_owned()), bold: true, ..Style::default() };
        let span = |column, text: &str, style: &Style| Span { column, text: text.to_owned(), style: style.clone() };
        assert_eq!(found, [span(0, "ab", &style), span(2, "cd", &red), span(4, " e", &style)]);
        apply("38;5;196;48;2;1;2;3", &mut style);
        assert_eq!((style.ink.as_deref(), style.ground.as_deref()), (Some("#ff0000"), Some("#010203")));
        apply("39;49", &mut style);
        assert_eq!(style, Style::default());
    }

    #[test]
    fn what_a_terminal_shows_is_text_and_no_markup() {
        let svg = draw("$ a <b> & c\n\n", "t");
        assert!(
            svg.contains(">$\u{a0}a\u{a0}&lt;b&gt;\u{a0}&amp;\u{a0}c</text>") && svg.ends_with("</svg>\n"),
            "{svg}"
        );
    }
}
