//! Rows of a timeline in bounded memory: a second each, or several seconds together.

use std::collections::VecDeque;

/// What a stretch of time has brought. Classes are numbers in the timeline's list of names.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Row {
    /// Its end, Unix time in seconds.
    pub(super) time: f64,
    /// How long it was, in seconds.
    pub(super) span: f64,
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) skipped: u64,
    pub(super) flows: u64,
    /// Open at its end.
    pub(super) open_flows: u64,
    pub(super) alerts: u64,
    /// Verdicts by class; only those that there were.
    pub(super) verdicts: Vec<(usize, u64)>,
}

/// The newest rows.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    /// Seconds of a row.
    step: u64,
    most: usize,
    rows: VecDeque<Row>,
}

impl Row {
    /// Adds the one that follows.
    fn extend(&mut self, next: Self) {
        let Self { time, span, packets, bytes, skipped, flows, open_flows, alerts, verdicts } = next;
        (self.time, self.open_flows) = (time, open_flows);
        self.span += span;
        self.packets += packets;
        self.bytes += bytes;
        self.skipped += skipped;
        self.flows += flows;
        self.alerts += alerts;
        for (class, count) in verdicts {
            match self.verdicts.iter_mut().find(|(known, _)| *known == class) {
                Some((_, sum)) => *sum += count,
                None => self.verdicts.push((class, count)),
            }
        }
    }
}

impl Ring {
    pub(super) const fn new(step: u64, most: usize) -> Self {
        Self { step, most, rows: VecDeque::new() }
    }

    /// Adds the newest row, to the last one if it is of the same step.
    pub(super) fn push(&mut self, row: Row) {
        let step = self.step as f64;
        let number = |row: &Row| (row.time / step).ceil();
        let together = |last: &Row| self.step > 1 && number(last) == number(&row);
        // A clock that was set back takes back what now lies ahead, but not the step that it is still in.
        while self.rows.back().is_some_and(|last| last.time >= row.time && !together(last)) {
            self.rows.pop_back();
        }
        match self.rows.back_mut() {
            Some(last) if together(last) => last.extend(row),
            _ => self.rows.push_back(row),
        }
        while self.rows.len() > self.most {
            self.rows.pop_front();
        }
    }

    /// The rows that end after this time, the oldest first.
    pub(super) fn after(&self, time: f64) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.time > time)
    }

    /// The same rows, some together.
    pub(super) fn coarser(&self, step: u64) -> Self {
        let mut coarser = Self::new(step, self.most);
        self.rows.iter().for_each(|row| coarser.push(row.clone()));
        coarser
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(time: f64, packets: u64, verdicts: &[(usize, u64)]) -> Row {
        Row { time, span: 1.0, packets, open_flows: packets, verdicts: verdicts.to_vec(), ..Row::default() }
    }

    fn times(ring: &Ring) -> Vec<f64> {
        ring.after(0.0).map(|row| row.time).collect()
    }

    #[test]
    fn rows_of_a_step_are_added_up_and_end_where_the_last_one_does() {
        let mut ring = Ring::new(30, 10);
        ring.push(second(29.4, 1, &[(0, 1)]));
        ring.push(second(30.0, 2, &[(0, 1), (1, 5)]));
        ring.push(second(30.4, 4, &[]));
        let rows: Vec<_> = ring.after(0.0).cloned().collect();
        assert_eq!(rows.len(), 2);
        let both = Row { span: 2.0, packets: 3, open_flows: 2, ..second(30.0, 0, &[(0, 2), (1, 5)]) };
        assert_eq!(rows[0], both);
        assert_eq!((rows[1].time, rows[1].packets), (30.4, 4));
    }

    #[test]
    fn seconds_stay_apart_though_two_may_begin_in_the_same_one() {
        let mut ring = Ring::new(1, 10);
        [7.01, 7.99, 9.0].into_iter().for_each(|time| ring.push(second(time, 1, &[])));
        assert_eq!(times(&ring), [7.01, 7.99, 9.0]);
        assert_eq!(times(&ring.coarser(5)), [9.0]);
        assert_eq!(ring.after(7.99).count(), 1);
    }

    #[test]
    fn the_oldest_go_first_and_a_clock_that_is_set_back_leaves_no_future() {
        let mut ring = Ring::new(1, 3);
        [1.0, 2.0, 3.0, 4.0, 5.0].into_iter().for_each(|time| ring.push(second(time, 1, &[])));
        assert_eq!(times(&ring), [3.0, 4.0, 5.0]);
        ring.push(second(3.5, 1, &[]));
        assert_eq!(times(&ring), [3.0, 3.5]);
    }

    #[test]
    fn a_clock_that_is_set_back_within_a_step_takes_nothing_back() {
        let mut ring = Ring::new(30, 10);
        [29.0, 40.0, 41.0, 40.5].into_iter().for_each(|time| ring.push(second(time, 1, &[])));
        let rows: Vec<_> = ring.after(0.0).map(|row| (row.time, row.packets)).collect();
        assert_eq!(rows, [(29.0, 1), (40.5, 3)]);
        // Into the step before: what lies ahead goes, and that step goes on.
        ring.push(second(28.0, 1, &[]));
        let rows: Vec<_> = ring.after(0.0).map(|row| (row.time, row.packets)).collect();
        assert_eq!(rows, [(28.0, 2)]);
    }
}
