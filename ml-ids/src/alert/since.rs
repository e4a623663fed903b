//! A time in the past as people and scripts write it.

use std::time::{Duration, UNIX_EPOCH};

use crate::sensor::clock::micros;

/// Unix time in microseconds of `2h` (ago), `2026-11-27T08:00:00Z`, or seconds since 1970.
///
/// # Errors
/// When it is none of these; the text says what to write.
pub fn since_us(text: &str, now_us: u64) -> Result<u64, String> {
    const EXPECTED: &str = "write how long ago (2h, 7d), 2026-11-27T08:00:00Z, or seconds since 1970";
    if let Ok(seconds) = text.parse::<f64>() {
        let since = Duration::try_from_secs_f64(seconds).map_err(|_| EXPECTED.to_owned())?;
        return Ok(micros(since));
    }
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(now_us.saturating_sub(micros(ago)));
    }
    let time = humantime::parse_rfc3339_weak(text).map_err(|_| EXPECTED.to_owned())?;
    Ok(time.duration_since(UNIX_EPOCH).map_or(0, micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ago_a_date_and_seconds_are_understood() {
        let now = 1_790_000_000_000_000;
        assert_eq!(since_us("2h", now), Ok(now - 7_200_000_000));
        assert_eq!(since_us("2026-09-21T14:13:20Z", 0), Ok(now));
        assert_eq!(since_us("1790000000.5", 0), Ok(now + 500_000));
        assert_eq!(since_us("9999 years", now), Ok(0));
        for text in ["", "yesterday", "-5", "NaN", "1e300"] {
            assert!(since_us(text, now).is_err_and(|error| error.contains("write how long ago")), "{text}");
        }
    }
}
