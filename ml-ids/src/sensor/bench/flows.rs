//! The sweep at a million live flows: one look at the due times, what a due flow costs, the longest single step, and what
//! part of a core that is at the pace that the drain thread keeps.

use std::{hint::black_box, time::Duration};

use ml_ids_common::{Hook, Patience};

use super::{
    Report, figure,
    frames::{ACK, segment},
    least, thread_time,
};
use crate::sensor::{KernelReplay, Options, SensorError, drain::SHARE};

const FLOWS: u32 = 1_000_000;
/// The flows begin one after the other in this time, so that they end one after the other, too.
const SPREAD_US: u64 = 120_000_000;
/// How long the drain thread is imitated.
const IMITATED_US: u64 = 3_000_000;
/// Steps of which the longest is looked for.
const STEPS: usize = 20_000;

pub(super) fn measure(report: Report<'_>) -> Result<(), SensorError> {
    let options = Options { max_flows: 1 << 20, ring_bytes: 16 << 20, ..Options::default() };
    let mut ours = KernelReplay::load(&options, true)?;
    for flow in 0..FLOWS {
        let frame = segment(flow, ACK);
        if flow.is_multiple_of(100) {
            ours.packet(Hook::Ingress, &frame, 1 + u64::from(flow) * SPREAD_US / u64::from(FLOWS))?;
        } else {
            ours.run(Hook::Ingress, &frame, 1)?;
        }
    }
    let mut figure = |name: String, value, unit| figure(report, name, value, unit);
    let scan = least((0..20).map(|_| {
        let began = thread_time();
        let _ = black_box(ours.due(1));
        (thread_time() - began).as_secs_f64() * 1e3
    }));
    figure(format!("{FLOWS} live flows: one look at all due times"), scan, "ms");

    let (mut busy, mut looks, mut ended) = (Duration::ZERO, 0u32, 0usize);
    let (mut now_us, end_us) = (SPREAD_US + 1, SPREAD_US + IMITATED_US);
    while now_us < end_us {
        let began = thread_time();
        let due = ours.due(now_us);
        ours.sweep_slots(&due, Patience::Normal, now_us)?;
        ended += ours.records().len();
        let took = thread_time() - began;
        (busy, looks) = (busy + took, looks + 1);
        let pause = options.sweep_interval.max(took * SHARE);
        now_us += pause.as_micros() as u64;
    }
    let imitated = Duration::from_micros(IMITATED_US);
    figure(
        format!(
            "{FLOWS} live flows, {:.0} ending a second: part of a core, promised <= 5",
            ended as f64 / imitated.as_secs_f64()
        ),
        busy.as_secs_f64() / imitated.as_secs_f64() * 100.0,
        "%",
    );
    figure(
        format!("{FLOWS} live flows: time between two looks"),
        imitated.as_secs_f64() * 1e3 / f64::from(looks),
        "ms",
    );

    let due = ours.due(end_us + 10_000_000);
    let steps = due.get(..STEPS.min(due.len())).unwrap_or_default();
    let mut times = Vec::with_capacity(steps.len());
    for slot in steps {
        times.push(ours.sweep_slots(&[*slot], Patience::Normal, end_us + 10_000_000)?.as_nanos() as f64);
    }
    times.sort_by(f64::total_cmp);
    let rank = |part: f64| times.get(((times.len() - 1) as f64 * part) as usize).copied().unwrap_or(f64::NAN);
    figure("one step of the sweep: the middle".to_owned(), rank(0.5), "ns");
    figure("one step of the sweep: 999 of 1000 are within".to_owned(), rank(0.999), "ns");
    figure("one step of the sweep: the longest, promised <= 1000".to_owned(), rank(1.0) / 1e3, "us");
    Ok(())
}
