//! A packet of an existing flow and one that opens a flow, at both hooks, beside the floor.

use ml_ids_common::Hook;

use super::{
    Report, figure,
    frames::{ACK, segment},
    least,
    programs::{Programs, key, time},
};
use crate::sensor::{KernelReplay, Options, SensorError, test_run::TestRunner};

/// Runs of a measurement of one repeated frame.
const REPEAT: u32 = 200_000;
/// Rounds, in each of which every program has its turn.
const ROUNDS: u32 = 11;
/// New flows of a round.
const NEW_FLOWS: u32 = 10_000;
/// Rounds of new flows. All of them fit into the tables.
const NEW_ROUNDS: u32 = 5;

pub(super) fn measure(report: Report<'_>) -> Result<(), SensorError> {
    for hook in Hook::ALL {
        existing_flow(hook, report)?;
    }
    for hook in Hook::ALL {
        new_flow(hook, report)?;
    }
    Ok(())
}

fn existing_flow(hook: Hook, report: Report<'_>) -> Result<(), SensorError> {
    let name = hook.name();
    let mut programs = Programs::load()?;
    let mut ours = KernelReplay::load(&Options::default(), false)?;
    let frame = segment(1, ACK);
    programs.hash::<_, [u64; 4]>("LOCKED_TALLIES")?.insert(key(&frame)?, [0; 4], 0).map_err(map("LOCKED_TALLIES"))?;
    let runners = [
        programs.runner(&format!("empty_{name}"))?,
        programs.runner(&format!("floor_{name}"))?,
        programs.runner(&format!("locked_{name}"))?,
        ours.runner(hook)?,
    ];
    let [empty, floor, locked, existing] = in_turns(&runners, ROUNDS, |runner, _| time(runner, &frame, REPEAT))?;
    let lock = locked - floor;
    let mut figure = |what: &str, value: f64, unit| figure(report, format!("{name}: {what}"), value, unit);
    figure("empty program", empty, "ns/packet");
    figure("floor program (parse, clock, lookup, two counters)", floor, "ns/packet");
    figure("floor program with a spin lock", locked, "ns/packet");
    figure("the lock's own cost", lock, "ns/packet");
    figure("existing TCP flow", existing, "ns/packet");
    figure("existing TCP flow / (1.3 x floor + lock), promised <= 1", existing / 1.3f64.mul_add(floor, lock), "ratio");
    figure("existing TCP flow / floor, empty subtracted", (existing - empty) / (floor - empty), "ratio");
    Ok(())
}

fn new_flow(hook: Hook, report: Report<'_>) -> Result<(), SensorError> {
    let name = hook.name();
    let programs = Programs::load()?;
    let mut ours = KernelReplay::load(&Options::default(), false)?;
    let runners = [
        programs.runner("empty_ingress")?,
        programs.runner(&format!("empty_{name}"))?,
        programs.runner("insert_8")?,
        programs.runner("insert_512")?,
        ours.runner(hook)?,
    ];
    let [empty, own_empty, small, large, new] = in_turns(&runners, NEW_ROUNDS, |runner, round| {
        let mut total = 0.0;
        for flow in 0..NEW_FLOWS {
            total += time(runner, &segment(1 + round * NEW_FLOWS + flow, ACK), 1)?;
        }
        Ok(total / f64::from(NEW_FLOWS))
    })?;
    let (small, large, new) = (small - empty, large - empty, new - own_empty);
    let mut figure = |what: &str, value: f64, unit| figure(report, format!("{name}: {what}"), value, unit);
    figure("bare insert of 8 bytes into a preallocated hash", small, "ns/packet");
    figure("bare insert of 512 bytes into a preallocated hash", large, "ns/packet");
    figure("new flow", new, "ns/packet");
    figure(
        "new flow / the larger of 600 ns and 1.5 bare inserts, promised <= 1",
        new / (1.5 * large).max(600.0),
        "ratio",
    );
    Ok(())
}

/// The least that each program takes over some rounds.
pub(super) fn in_turns<const N: usize>(
    runners: &[TestRunner; N],
    rounds: u32,
    mut measure: impl FnMut(&TestRunner, u32) -> Result<f64, SensorError>,
) -> Result<[f64; N], SensorError> {
    let mut best = [f64::INFINITY; N];
    for round in 0..rounds {
        for (best, runner) in best.iter_mut().zip(runners) {
            *best = least([*best, measure(runner, round)?]);
        }
    }
    Ok(best)
}

fn map(map: &'static str) -> impl Fn(aya::maps::MapError) -> SensorError {
    move |source| SensorError::Map { map, source }
}
