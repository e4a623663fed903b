//! What the kernel side costs, measured through `BPF_PROG_TEST_RUN`. What is compared is measured in turns in one run, and
//! the least of several rounds counts: the machine's noise only ever adds.

mod batch;
mod contention;
mod draining;
mod filters;
mod flows;
mod frames;
mod generator;
mod hot_path;
mod per_packet;
mod programs;
#[path = "../../../../ml-ids-ebpf/src/bench/wire.rs"]
mod wire;

pub use generator::{Generator, Traffic};

use std::time::Duration;

use super::SensorError;

/// One figure of the bench.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Figure {
    /// Which bench.
    pub bench: &'static str,
    /// What was measured.
    pub figure: String,
    /// The value.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
}

/// Where figures go.
type Report<'a> = &'a mut dyn FnMut(Figure);

/// Measures all programs at both hooks, in one run.
///
/// # Errors
/// When the programs cannot be loaded or run.
pub fn kernel(mut report: impl FnMut(Figure)) -> Result<(), SensorError> {
    let report: Report<'_> = &mut report;
    hot_path::measure(report)?;
    filters::measure(report)?;
    contention::measure(report)?;
    per_packet::measure(report)?;
    draining::measure(report)?;
    flows::measure(report)
}

fn figure(report: Report<'_>, name: impl Into<String>, value: f64, unit: &'static str) {
    report(Figure { bench: "kernel", figure: name.into(), value, unit });
}

/// CPU time of this thread so far, the kernel's work for it included: what others do on a busy machine does not count.
fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writing, and the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The least of the values, infinity if there is none.
fn least(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(f64::INFINITY, f64::min)
}
