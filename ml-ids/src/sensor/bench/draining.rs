//! How finished flows reach user space: as records through the ring buffer, or read from the map in batches.

use std::{os::fd::AsFd as _, time::Instant};

use aya::maps::IterableMap as _;
use ml_ids_common::{FlowState, Hook};

use super::{
    Report,
    batch::{Batch, walk},
    figure,
    frames::{ACK, LENGTH, segment},
    least,
    programs::{Programs, run},
    thread_time,
};
use crate::sensor::{KernelReplay, Options, SensorError};

/// Flows of a round; ring buffer and tables have room for them.
const FLOWS: u32 = 50_000;
const ROUNDS: u64 = 3;
/// Between two rounds on the test clock: everything is over after that.
const ROUND_US: u64 = 300_000_000;

pub(super) fn measure(report: Report<'_>) -> Result<(), SensorError> {
    let options = Options { max_flows: 65_536, ring_bytes: 64 << 20, ..Options::default() };
    let mut ours = KernelReplay::load(&options, true)?;
    let mut programs = Programs::load()?;
    let insert = programs.runner("insert_512")?;
    let hash = programs.hash::<[u8; 40], [u64; 64]>("LARGE_VALUES")?;
    let (mut sweep, mut read, mut lookup, mut delete) = (f64::INFINITY, f64::INFINITY, f64::INFINITY, f64::INFINITY);
    for round in 0..ROUNDS {
        let now_us = round * ROUND_US + 1;
        for flow in 0..FLOWS {
            let frame: [u8; LENGTH] = segment(flow, ACK);
            if flow == 0 {
                ours.packet(Hook::Ingress, &frame, now_us)?;
            } else {
                ours.run(Hook::Ingress, &frame, 1)?;
            }
            run(&insert, &frame, 1)?;
        }
        lookup = least([
            lookup,
            timed(options.max_flows, || walk::<4, 512>(ours.states_descriptor(), Batch::Lookup).map_err(failed))?,
        ]);
        delete = least([
            delete,
            timed(FLOWS, || {
                let map = hash.map().fd().as_fd();
                walk::<40, 512>(map, Batch::LookupAndDelete).map_err(failed)
            })?,
        ]);
        let swept = ours.sweep(now_us + ROUND_US / 2)?;
        sweep = least([sweep, swept.as_nanos() as f64 / f64::from(FLOWS)]);
        read = least([read, timed(FLOWS, || Ok(ours.records().len()))?]);
        // What is left remembers the flows, and is freed.
        ours.sweep(now_us + ROUND_US - 1)?;
    }
    let (begin_xdp, begin_classifier) = (begin(&programs, "empty_ingress")?, begin(&programs, "empty_egress")?);
    let mut figure = |name: &str, value, unit| figure(report, name, value, unit);
    figure("finished flow, kernel ends it and sends a record", sweep, "ns/flow");
    figure("finished flow, record read from the ring buffer", read, "ns/flow");
    figure("element of an array read by LOOKUP_BATCH (finished or not)", lookup, "ns/element");
    figure("element of a hash read by LOOKUP_AND_DELETE_BATCH", delete, "ns/flow");
    figure("beginning a test run of more than one packet, XDP program", begin_xdp, "us");
    figure("beginning a test run of more than one packet, classifier", begin_classifier, "us");
    figure("bytes of a record", size_of::<FlowState>() as f64, "bytes");
    Ok(())
}

/// Microseconds on the clock that a test run of two packets takes, the least of some: next to nothing of it is the packets'.
fn begin(programs: &Programs, program: &str) -> Result<f64, SensorError> {
    let runner = programs.runner(program)?;
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        run(&runner, &segment(0, ACK), 2)?;
        best = least([best, began.elapsed().as_secs_f64() * 1e6]);
    }
    Ok(best)
}

/// Nanoseconds for each of `expected` elements.
fn timed(expected: u32, work: impl FnOnce() -> Result<usize, SensorError>) -> Result<f64, SensorError> {
    let began = thread_time();
    let found = work()?;
    let took = thread_time() - began;
    if found != expected as usize {
        return Err(SensorError::Missing("element of a bench map"));
    }
    Ok(took.as_nanos() as f64 / f64::from(expected))
}

fn failed(source: std::io::Error) -> SensorError {
    SensorError::Io { action: "read a map in batches", source }
}
