//! Ways to keep two CPUs apart that update one flow: what each costs alone and against the other CPU, and what it loses.

use std::{
    io,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use ml_ids_common::{FlowState, LockedFlow};

use super::{
    Report, figure,
    frames::{ACK, answer, segment},
    programs::{Programs, key, run, time},
};
use crate::sensor::{SensorError, test_run::TestRunner};

/// Runs of a round, on each CPU.
const REPEAT: u32 = 200_000;
/// Rounds, in each of which every way has its turn.
const ROUNDS: usize = 21;
/// Part of the time that both must have run together and undisturbed for a round to count.
const TOGETHER: f64 = 0.9;

/// A way, by the name of its program.
struct Way {
    program: &'static str,
    name: &'static str,
}

const WAYS: [Way; 5] = [
    Way { program: "update_bare", name: "no lock" },
    Way { program: "update_spin", name: "spin lock around the update" },
    Way { program: "update_word", name: "compare-and-swap word, bounded wait" },
    Way { program: "update_split", name: "spin lock around the ordered half, sums of each CPU" },
    Way { program: "update_per_cpu", name: "a state of each CPU (no flow is shared)" },
];

/// One CPU's part of a round.
#[derive(Clone, Copy)]
struct Turn {
    began: Instant,
    ended: Instant,
    /// Mean time of a run.
    each: Duration,
}

/// What one way came to.
#[derive(Default)]
struct Outcome {
    /// Nanoseconds of a run on one CPU, the least.
    alone: Option<f64>,
    /// The same on each of two CPUs, of every round that counts.
    contended: Vec<f64>,
    sent: u64,
}

pub(super) fn measure(report: Report<'_>) -> Result<(), SensorError> {
    let mut programs = Programs::load()?;
    let (there, back) = (segment(1, ACK), answer(1, ACK));
    let slot = programs.hash("SLOT_OF")?.insert(key(&there)?, 0u32, 0);
    slot.map_err(|source| SensorError::Map { map: "SLOT_OF", source })?;
    let runners = WAYS.map(|way| programs.runner(way.program));
    let mut outcomes = WAYS.map(|_| Outcome::default());
    // In turns: how well the machine lets two CPUs meet changes from one second to the next.
    for _ in 0..ROUNDS {
        for (runner, outcome) in runners.iter().zip(&mut outcomes) {
            let runner = runner.as_ref().map_err(|_| SensorError::Missing("bench program"))?;
            let alone = time(runner, &there, REPEAT)?;
            outcome.alone = Some(outcome.alone.map_or(alone, |least| least.min(alone)));
            let turns = both(runner, [&there, &back])?;
            outcome.sent += 3 * u64::from(REPEAT);
            if together(turns) >= TOGETHER {
                outcome.contended.push(mean(turns.map(|turn| turn.each.as_nanos() as f64)));
            }
        }
    }
    for (Way { program, name }, outcome) in WAYS.iter().zip(outcomes) {
        let Outcome { alone, mut contended, sent } = outcome;
        let lost = sent.saturating_sub(counted(&mut programs, program)?);
        let mut figure =
            |what: &str, value: f64, unit| figure(report, format!("one flow, {name}: {what}"), value, unit);
        figure("one CPU", alone.unwrap_or(f64::NAN), "ns/packet");
        // The middle of the rounds: in the quickest ones the CPUs met least.
        contended.sort_by(f64::total_cmp);
        match contended.get(contended.len() / 2) {
            Some(&each) => {
                figure("two CPUs", each, "ns/packet and CPU");
                figure("two CPUs together", 2e3 / each, "M packets/s");
            }
            None => figure("rounds in which both CPUs were ours (measure again on a quieter machine)", 0.0, "rounds"),
        }
        figure("packets lost", lost as f64 / sent as f64 * 1e6, "of a million");
    }
    Ok(())
}

/// Runs the program on both CPUs at once, on each with its own frame.
fn both(runner: &TestRunner, frames: [&[u8]; 2]) -> Result<[Turn; 2], SensorError> {
    let start = Barrier::new(2);
    let turn = |cpu: usize, frame: &[u8]| -> Result<Turn, SensorError> {
        pin(cpu).map_err(|source| SensorError::Io { action: "pin a thread to a CPU", source })?;
        come_first();
        start.wait();
        let began = Instant::now();
        let each = run(runner, frame, REPEAT)?;
        Ok(Turn { began, ended: Instant::now(), each })
    };
    let turn = &turn;
    thread::scope(|scope| {
        let turns = [0, 1].map(|cpu| {
            let frame = if cpu == 0 { frames[0] } else { frames[1] };
            scope.spawn(move || turn(cpu, frame))
        });
        let [first, second] = turns.map(|turn| turn.join().unwrap_or(Err(SensorError::Missing("bench thread"))));
        Ok([first?, second?])
    })
}

/// The part of the longer turn in which both ran, and neither was kept from its CPU.
fn together(turns: [Turn; 2]) -> f64 {
    let [a, b] = turns;
    let overlap = a.ended.min(b.ended).saturating_duration_since(a.began.max(b.began)).as_secs_f64();
    let longest = (a.ended - a.began).max(b.ended - b.began).as_secs_f64();
    let busy = turns.map(|turn| (turn.each * REPEAT).as_secs_f64() / (turn.ended - turn.began).as_secs_f64());
    (overlap / longest).min(busy[0]).min(busy[1])
}

fn mean([a, b]: [f64; 2]) -> f64 {
    f64::midpoint(a, b)
}

/// Packets that the state has, by a counter that packets of both directions move: each has ACK set.
fn counted(programs: &mut Programs, program: &str) -> Result<u64, SensorError> {
    let failed = |source| SensorError::Map { map: "bench", source };
    Ok(match program {
        "update_bare" => programs.array::<FlowState>("BARE")?.get(&0, 0).map_err(failed)?.flag_counts[ACKS].into(),
        "update_spin" => {
            programs.array::<LockedFlow<u32>>("SPIN")?.get(&0, 0).map_err(failed)?.state.flag_counts[ACKS].into()
        }
        "update_word" => {
            // The word, then the state, which is as long as that behind a lock.
            let value = programs.array::<LockedFlow<u32>>("WORD")?.get(&0, 0).map_err(failed)?;
            value.state.flag_counts[ACKS].into()
        }
        "update_split" => {
            let value = programs.per_cpu::<[u64; SUMS]>("SUMS")?.get(&0, 0).map_err(failed)?;
            value.iter().map(|sums| sums[0]).sum()
        }
        _ => {
            let value = programs.per_cpu::<FlowState>("PER_CPU")?.get(&0, 0).map_err(failed)?;
            value.iter().map(|state| u64::from(state.flag_counts[ACKS])).sum()
        }
    })
}

/// The counter of packets with ACK among those of flags.
const ACKS: usize = 4;
/// Words of the sketch's sums, of which the first is the number of packets.
const SUMS: usize = 25;

/// Binds the calling thread to a CPU.
fn pin(cpu: usize) -> io::Result<()> {
    // SAFETY: all-zero is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: a set of this thread's own, and a small number.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: the set is as long as is said; 0 is the calling thread.
    if unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Puts the calling thread before all others on its CPU, where that is allowed: it runs for some tens of milliseconds.
fn come_first() {
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: 0 is the calling thread, the structure is the one that the call takes. A refusal leaves things as they are.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) };
}
