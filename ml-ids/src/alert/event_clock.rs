//! The time of a replay: that of the latest packet of any flow so far.

use super::engine::LONGEST;

/// A clock that flows move. It goes back only when a capture begins anew in the past, further than any alert is long.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventClock(u64);

impl EventClock {
    /// The time, Unix time in microseconds, when a flow has ended at `end_us`. Flows come in the order in which their end is
    /// noticed, which for those that time out is later than their last packet.
    pub fn at(&mut self, end_us: u64) -> u64 {
        if end_us > self.0 || u128::from(self.0 - end_us) > LONGEST.as_micros() {
            self.0 = end_us;
        }
        self.0
    }

    /// The time now.
    #[must_use]
    pub const fn now_us(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_latest_packet_and_captures_that_begin_anew() {
        let mut clock = EventClock::default();
        let hour = 3_600_000_000;
        let ends = [2 * hour, 2 * hour - 120_000_000, 3 * hour, 2 * hour, 2 * hour - 1, 2 * hour + 5];
        let times = ends.map(|end| clock.at(end));
        assert_eq!(times, [2 * hour, 2 * hour, 3 * hour, 3 * hour, 2 * hour - 1, 2 * hour + 5]);
    }
}
