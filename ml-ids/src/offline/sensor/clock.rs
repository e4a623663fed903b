//! The clock of a replay: the times of frames as they go on from round to round, whatever the capture claims.

/// Time of the capture between two rounds, in microseconds.
const BETWEEN_ROUNDS_US: i128 = 1_000_000;
/// Longest step of the clock from one frame to the next, in microseconds: no flow lives as long, and nobody waits longer.
pub(super) const LONGEST_STEP_US: u64 = 3_600_000_000;

/// Where the capture's time stands in that of the replay.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// Added to the times of this round. `None` until its first frame.
    shift: Option<i128>,
    /// The latest time so far. `None` before the first frame of all.
    latest_us: Option<u64>,
}

impl Clock {
    /// The next frame is the first of a round.
    pub(super) const fn begin_round(&mut self) {
        self.shift = None;
    }

    /// The time of the next frame, and whether the clock had jumped and was brought back: what follows is moved with it.
    pub(super) fn at(&mut self, frame_us: u64) -> (u64, bool) {
        let frame = i128::from(frame_us);
        let Some(latest_us) = self.latest_us else {
            (self.shift, self.latest_us) = (Some(0), Some(frame_us));
            return (frame_us, false);
        };
        let latest = i128::from(latest_us);
        let shift = *self.shift.get_or_insert(latest + BETWEEN_ROUNDS_US - frame);
        let longest = i128::from(LONGEST_STEP_US);
        let (wanted, allowed) = (frame + shift, latest - longest..=latest + longest);
        let jumped = !allowed.contains(&wanted);
        // A clock that was set back goes on from where it was.
        let time = match wanted {
            _ if !jumped => wanted,
            wanted if wanted < latest => latest,
            _ => latest + longest,
        };
        self.shift = Some(time - frame);
        let time_us = u64::try_from(time.max(0)).unwrap_or(u64::MAX);
        self.latest_us = Some(latest_us.max(time_us));
        (time_us, jumped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stay_in_the_first_round_and_go_on_in_the_next() {
        let mut clock = Clock::default();
        assert_eq!([1000, 1500, 1400].map(|frame| clock.at(frame)), [1000, 1500, 1400].map(|time| (time, false)));
        clock.begin_round();
        let second = [1_001_500, 1_002_000, 1_001_900].map(|time| (time, false));
        assert_eq!([1000, 1500, 1400].map(|frame| clock.at(frame)), second);
    }

    #[test]
    fn a_jump_is_an_hour_at_most_and_what_follows_is_moved_with_it() {
        let mut clock = Clock::default();
        assert_eq!(clock.at(1_000), (1_000, false));
        assert_eq!(clock.at(u64::MAX), (1_000 + LONGEST_STEP_US, true));
        // Back by as much: the clock stands still, and goes on.
        assert_eq!(clock.at(2_000), (1_000 + LONGEST_STEP_US, true));
        assert_eq!(clock.at(2_500), (1_500 + LONGEST_STEP_US, false));
        assert_eq!(clock.at(2_500 + LONGEST_STEP_US), (1_500 + 2 * LONGEST_STEP_US, false));
    }

    #[test]
    fn no_time_is_out_of_range() {
        let mut clock = Clock::default();
        assert_eq!(clock.at(u64::MAX), (u64::MAX, false));
        clock.begin_round();
        assert_eq!(clock.at(0), (u64::MAX, false));
        let mut clock = Clock::default();
        assert_eq!([clock.at(0), clock.at(5)], [(0, false), (5, false)]);
        clock.begin_round();
        let early = [clock.at(5_000_000), clock.at(0)];
        assert_eq!(early, [(1_000_005, false), (0, false)]);
    }
}
