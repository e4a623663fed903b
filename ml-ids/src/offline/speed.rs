//! How fast a capture is replayed, and where its clock is by now.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, Instant},
};

/// Slowest and fastest pace.
const PACES: std::ops::RangeInclusive<f64> = 0.1..=1000.0;

/// How fast a capture is replayed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// This many seconds of the capture in a second.
    Times(f64),
    /// As fast as its flows are judged.
    Max,
}

impl Speed {
    /// How long a stretch of the capture takes, both in microseconds.
    #[must_use]
    pub fn takes_us(self, stretch_us: u64) -> u64 {
        match self {
            Self::Times(times) => (stretch_us as f64 / times) as u64,
            Self::Max => 0,
        }
    }
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        let times = text.parse().ok().filter(|times| PACES.contains(times));
        times.map(Self::Times).ok_or_else(|| format!("must be from {} to {}, or max", PACES.start(), PACES.end()))
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Times(times) => write!(formatter, "{times}"),
            Self::Max => formatter.write_str("max"),
        }
    }
}

/// The clock of a capture that is being replayed, in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    speed: Speed,
    begun: Instant,
    first_us: u64,
}

impl Pace {
    /// It is `first_us` now.
    pub(super) fn begin(speed: Speed, first_us: u64) -> Self {
        Self { speed, begun: Instant::now(), first_us }
    }

    /// What time it is, but not beyond `most_us`, which is what comes next.
    pub(super) fn now_us(&self, most_us: u64) -> u64 {
        match self.speed {
            Speed::Times(times) => {
                let passed = (self.begun.elapsed().as_secs_f64() * times * 1e6) as u64;
                self.first_us.saturating_add(passed).min(most_us)
            }
            Speed::Max => most_us,
        }
    }

    /// How long it is until then.
    pub(super) fn until(&self, time_us: u64) -> Duration {
        Duration::from_micros(self.speed.takes_us(time_us.saturating_sub(self.now_us(time_us))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_a_number_within_limits_or_the_greatest() {
        assert_eq!("10".parse(), Ok(Speed::Times(10.0)));
        assert_eq!("0.5".parse(), Ok(Speed::Times(0.5)));
        assert_eq!("max".parse(), Ok(Speed::Max));
        for wrong in ["", "0", "-1", "fast", "1e9", "NaN", "inf"] {
            assert!(wrong.parse::<Speed>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_clock_does_not_run_beyond_what_comes_next_and_is_there_at_once_at_the_greatest_speed() {
        let pace = Pace::begin(Speed::Times(1000.0), 5_000_000);
        assert_eq!(pace.now_us(5_000_000), 5_000_000);
        assert!(pace.until(5_000_000).is_zero());
        assert!(pace.until(u64::MAX / 2) > Duration::from_secs(3600));
        let greatest = Pace::begin(Speed::Max, 5);
        assert_eq!(greatest.now_us(9_000_000), 9_000_000);
        assert!(greatest.until(u64::MAX).is_zero());
        assert_eq!((Speed::Times(10.0).takes_us(600), Speed::Max.takes_us(600)), (60, 0));
    }
}
