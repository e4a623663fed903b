//! Distributions that cost a few nanoseconds to keep: fixed buckets counted by atomics, read while they are written.
//!
//! Values are whole numbers of a small unit (nanoseconds, microseconds, flows), so that a sum never drifts. What is read is
//! in the base unit.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// How a distribution is measured.
#[derive(Debug)]
pub struct Scale {
    /// How many of the small unit are one base unit.
    pub per_unit: u64,
    /// Upper ends of the buckets in the small unit, ascending; each value up to the end belongs to the bucket. What is
    /// greater than all of them has a bucket of its own.
    pub ends: &'static [u64],
}

/// A distribution that is being kept.
#[derive(Debug)]
pub struct Histogram {
    scale: &'static Scale,
    /// One more than there are ends.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

/// A distribution at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shape {
    /// Upper end of each bucket in the base unit, the last one infinite, and how many values are in it alone.
    pub buckets: Vec<(f64, u64)>,
    /// Sum of all values in the base unit.
    pub sum: f64,
}

impl Histogram {
    /// One without values.
    #[must_use]
    pub fn new(scale: &'static Scale) -> Self {
        let counts = (0..=scale.ends.len()).map(|_| AtomicU64::new(0)).collect();
        Self { scale, counts, sum: AtomicU64::new(0) }
    }

    /// Counts a value of the small unit.
    pub fn observe(&self, value: u64) {
        if let Some(count) = self.counts.get(self.bucket(value)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts a time; the small unit has to be the nanosecond.
    pub fn observe_nanos(&self, time: Duration) {
        self.observe(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Counts many values, with one addition for each run of values of the same bucket.
    pub fn observe_all(&self, values: impl Iterator<Item = u64>) {
        let (mut sum, mut run, mut bucket) = (0_u64, 0, 0);
        let add = |bucket: usize, run: u64| {
            if let (Some(count), true) = (self.counts.get(bucket), run > 0) {
                count.fetch_add(run, Ordering::Relaxed);
            }
        };
        for value in values {
            sum = sum.wrapping_add(value);
            let found = self.bucket(value);
            if found != bucket {
                add(bucket, run);
                (bucket, run) = (found, 0);
            }
            run += 1;
        }
        add(bucket, run);
        self.sum.fetch_add(sum, Ordering::Relaxed);
    }

    fn bucket(&self, value: u64) -> usize {
        self.scale.ends.partition_point(|end| *end < value)
    }

    /// The distribution now.
    #[must_use]
    pub fn shape(&self) -> Shape {
        let Scale { per_unit, ends } = *self.scale;
        let in_units = |value: u64| value as f64 / per_unit as f64;
        let ends = ends.iter().map(|end| in_units(*end)).chain([f64::INFINITY]);
        Shape {
            buckets: ends.zip(self.counts.iter().map(|count| count.load(Ordering::Relaxed))).collect(),
            sum: in_units(self.sum.load(Ordering::Relaxed)),
        }
    }
}

impl Shape {
    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLIS: Scale = Scale { per_unit: 1000, ends: &[5, 250, 2000] };

    #[test]
    fn each_value_is_in_the_first_bucket_that_ends_at_it_or_above() {
        let (one_by_one, together) = (Histogram::new(&MILLIS), Histogram::new(&MILLIS));
        let values = [0, 5, 6, 6, 250, 2000, 2001, 90_000, 1];
        for value in values {
            one_by_one.observe(value);
        }
        together.observe_all(values.into_iter());
        let shape = one_by_one.shape();
        assert_eq!(shape.buckets, [(0.005, 3), (0.25, 3), (2.0, 1), (f64::INFINITY, 2)]);
        assert_eq!((shape.count(), shape.sum), (9, 94.269));
        assert_eq!(together.shape(), shape);
    }

    #[test]
    fn nothing_observed_is_nothing_counted() {
        let empty = Histogram::new(&MILLIS);
        empty.observe_all(std::iter::empty());
        assert_eq!((empty.shape().count(), empty.shape().sum), (0, 0.0));
    }

    #[test]
    fn values_of_several_threads_are_all_counted() {
        let shared = Histogram::new(&MILLIS);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|value| shared.observe(value)));
            }
        });
        assert_eq!(shared.shape().count(), 4000);
        assert_eq!(shared.shape().sum, 4.0 * 499.5);
    }
}
