//! What a packet costs in the kernel, measured through `BPF_PROG_TEST_RUN` beside an empty program and a floor.

use std::time::Duration;

use aya::{
    Ebpf, EbpfLoader,
    programs::{Program, SchedClassifier, TestRun as _, TestRunOptions, Xdp},
};
use ml_ids_common::Hook;

use super::{KernelReplay, Options, SensorError};

/// The comparison programs, built by `build.rs` beside the real ones.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/ml-ids-bench"));

/// Runs per measurement of a repeated frame.
const REPEAT: u32 = 500_000;
/// Measurements of which the least is taken: the machine's noise only ever adds.
const ROUNDS: u32 = 7;
/// New flows per measurement.
const NEW_FLOWS: u32 = 60_000;

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

impl Figure {
    const fn new(figure: String, value: f64, unit: &'static str) -> Self {
        Self { bench: "kernel", figure, value, unit }
    }
}

/// Measures all programs at both hooks, in one run.
///
/// # Errors
/// When the programs cannot be loaded or run.
pub fn kernel(mut report: impl FnMut(Figure)) -> Result<(), SensorError> {
    let mut baseline = Baseline::load()?;
    for hook in Hook::ALL {
        let name = hook.name();
        let mut ours = KernelReplay::load(&Options::default(), false)?;
        let (verified, instructions) = ours.program_size(hook)?;
        report(Figure::new(format!("{name}: instructions followed by the verifier"), verified.into(), "instructions"));
        report(Figure::new(format!("{name}: instructions of the program"), instructions.into(), "instructions"));
        let frame = syn_ack_frame(1);
        ours.run(hook, &frame, 1)?;
        let existing = least(|| ours.run(hook, &frame, REPEAT))?;
        let (empty, floor) = (baseline.named("empty", hook), baseline.named("floor", hook));
        let empty_ns = least(|| baseline.run(&empty, &frame, REPEAT))?;
        let floor_ns = least(|| baseline.run(&floor, &frame, REPEAT))?;
        let mut figure = |figure: String, value: f64, unit| report(Figure::new(figure, value, unit));
        figure(format!("{name}: empty program"), empty_ns, "ns/packet");
        figure(format!("{name}: floor program (parse, clock, lookup, two counters)"), floor_ns, "ns/packet");
        figure(format!("{name}: existing TCP flow"), existing, "ns/packet");
        figure(
            format!("{name}: existing flow / floor, empty subtracted"),
            ratio(existing, floor_ns, empty_ns),
            "ratio",
        );

        let empty_once = each_once(|frame| baseline.run(&empty, frame, 1))?;
        let floor_new = each_once(|frame| baseline.run(&floor, frame, 1))?;
        let new = each_once(|frame| ours.run(hook, frame, 1))?;
        let swept = least(|| ours.look_at_all().map(Some))?;
        figure(format!("{name}: new flow"), new - empty_once, "ns/packet");
        figure(format!("sweep of {NEW_FLOWS} live flows"), swept / f64::from(NEW_FLOWS), "ns/flow");
        figure(format!("{name}: new flow, floor program (24-byte insert)"), floor_new - empty_once, "ns/packet");
    }
    Ok(())
}

/// Mean time of one run of each of many frames of different flows, taken three times, the least of them.
fn each_once(mut run: impl FnMut(&[u8]) -> Result<Option<Duration>, SensorError>) -> Result<f64, SensorError> {
    let mut total = 0.0;
    for flow in 0..NEW_FLOWS {
        let frame = syn_ack_frame(flow.wrapping_add(2));
        total += run(&frame)?.map_or(0.0, |time| time.as_nanos() as f64);
    }
    Ok(total / f64::from(NEW_FLOWS))
}

fn least(mut run: impl FnMut() -> Result<Option<Duration>, SensorError>) -> Result<f64, SensorError> {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        if let Some(time) = run()? {
            best = best.min(time.as_nanos() as f64);
        }
    }
    Ok(best)
}

fn ratio(ours: f64, floor: f64, empty: f64) -> f64 {
    (ours - empty) / (floor - empty)
}

/// A minimal TCP segment without flags that end anything; the source address carries the flow number.
fn syn_ack_frame(flow: u32) -> [u8; 60] {
    let mut frame = [0; 60];
    let [a, b, c, d] = flow.to_be_bytes();
    let headers = [
        0x02,
        0,
        0,
        0,
        0,
        1,
        0x02,
        0,
        0,
        0,
        0,
        2,
        0x08,
        0x00, // Ethernet
        0x45,
        0,
        0,
        40,
        0,
        0,
        0,
        0,
        64,
        6,
        0,
        0,
        10 | a,
        b,
        c,
        d,
        192,
        168,
        0,
        1, // IPv4
        0x03,
        0xe8,
        0,
        80,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0x50,
        0x10,
        0x72,
        0x10,
        0,
        0,
        0,
        0, // TCP, ACK
    ];
    for (byte, header) in frame.iter_mut().zip(headers) {
        *byte = header;
    }
    frame
}

/// The loaded comparison programs.
struct Baseline {
    ebpf: Ebpf,
}

impl Baseline {
    fn load() -> Result<Self, SensorError> {
        let mut ebpf = EbpfLoader::new().load(OBJECT)?;
        for (_, program) in ebpf.programs_mut() {
            let loaded = match program {
                Program::Xdp(program) => program.load(),
                Program::SchedClassifier(program) => program.load(),
                _ => Ok(()),
            };
            loaded.map_err(|source| SensorError::Program { program: "bench", source: Box::new(source) })?;
        }
        Ok(Self { ebpf })
    }

    fn named(&self, kind: &str, hook: Hook) -> String {
        format!("{kind}_{}", hook.name())
    }

    fn run(&mut self, name: &str, frame: &[u8], repeat: u32) -> Result<Option<Duration>, SensorError> {
        let failed = |source| SensorError::Program { program: "bench", source: Box::new(source) };
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
        let program = self.ebpf.program_mut(name).ok_or(SensorError::Missing("bench program"))?;
        let result = match program {
            Program::Xdp(_) => <&mut Xdp>::try_from(program).and_then(|program| program.test_run(options)),
            _ => <&mut SchedClassifier>::try_from(program).and_then(|program| program.test_run(options)),
        };
        result.map(|result| Some(result.duration)).map_err(failed)
    }
}
