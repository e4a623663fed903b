//! How fast a model scores: rows to score, and the time that it takes.

use std::{hint::black_box, time::Duration};

use crate::{
    features::{FEATURE_COUNT, FeatureVector},
    model::{Model, ScoreError},
};

/// Made-up rows whose values spread over the magnitudes that flows have, so that trees are walked along many paths.
pub(super) fn rows(count: usize) -> Vec<FeatureVector> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut value = || {
        let magnitude = (next() % 28) as i32;
        if magnitude < 6 { 0.0 } else { ((next() % 1000) as f64 / 1000.0) * 2.0_f64.powi(magnitude) }
    };
    (0..count).map(|_| std::array::from_fn::<f64, FEATURE_COUNT, _>(|_| value())).collect()
}

/// Rows that the model scores in a second of CPU time, in batches of `batch`: the best of `rounds`, because what others do
/// on the machine only ever costs.
///
/// # Errors
///
/// If the model fails on a row.
pub(super) fn rate(model: &Model, rows: &[FeatureVector], batch: usize, rounds: usize) -> Result<f64, ScoreError> {
    let mut best = 0.0_f64;
    for _ in 0..rounds {
        let started = cpu_time();
        for chunk in rows.chunks(batch) {
            black_box(model.score(black_box(chunk))?);
        }
        best = best.max(rows.len() as f64 / cpu_time().saturating_sub(started).as_secs_f64().max(1e-9));
    }
    Ok(best)
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a local that outlives the call. Every Linux has this clock, so the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::from_secs(time.tv_sec.cast_unsigned()) + Duration::from_nanos(time.tv_nsec.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_rows_are_all_different_and_finite() {
        let rows = rows(64);
        assert!(rows.iter().flatten().all(|value| value.is_finite()));
        assert!(rows.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn scoring_takes_cpu_time() {
        let rate = rate(&Model::embedded().unwrap(), &rows(32), 8, 2).unwrap();
        assert!(rate.is_finite() && rate > 0.0, "{rate}");
    }
}
