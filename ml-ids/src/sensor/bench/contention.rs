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
/// Rounds that count.
const ROUNDS: usize = 7;
/// Rounds after which no more are tried: on a busy machine the two CPUs are seldom ours at one time.
const MOST_ROUNDS: usize = 60;
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

pub(super) fn measure(report: Report<'_>) -> Result<(), SensorError> {
    for Way { program, name } in WAYS {
        let mut programs = Programs::load()?;
        let (there, back) = (segment(1, ACK), answer(1, ACK));
        let map = |map| move |source| SensorError::Map { map, source };
        programs.hash("SLOT_OF")?.insert(key(&there)?, 0u32, 0).map_err(map("SLOT_OF"))?;
        let runner = programs.runner(program)?;
        let mut sent = 0;
        let mut alone = f64::INFINITY;
        for _ in 0..ROUNDS {
            alone = alone.min(time(&runner, &there, REPEAT)?);
            sent += u64::from(REPEAT);
        }
        let mut fair = Vec::new();
        for _ in 0..MOST_ROUNDS {
            let turns = both(&runner, [&there, &back])?;
            sent += 2 * u64::from(REPEAT);
            if together(turns) >= TOGETHER {
                fair.push(turns);
            }
            if fair.len() == ROUNDS {
                break;
            }
        }
        // The middle of the rounds: in the quickest ones the CPUs met least.
        let mut each: Vec<f64> = fair.iter().map(|turns| mean(turns.map(|turn| turn.each.as_nanos() as f64))).collect();
        each.sort_by(f64::total_cmp);
        let counted = counted(&mut programs, program)?;
        let mut figure =
            |what: &str, value: f64, unit| figure(report, format!("one flow, {name}: {what}"), value, unit);
        figure("one CPU", alone, "ns/packet");
        match each.get(each.len() / 2) {
            Some(&each) => {
                figure("two CPUs", each, "ns/packet and CPU");
                figure("two CPUs together", 2e3 / each, "M packets/s");
            }
            None => figure("rounds in which both CPUs were ours (measure again on a quieter machine)", 0.0, "rounds"),
        }
        figure("packets lost", sent.saturating_sub(counted) as f64 / sent as f64 * 1e6, "of a million");
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

/// Packets in the state that the program has updated.
fn counted(programs: &mut Programs, program: &str) -> Result<u64, SensorError> {
    let failed = |source| SensorError::Map { map: "bench", source };
    Ok(match program {
        "update_bare" => programs.array::<FlowState>("BARE")?.get(&0, 0).map_err(failed)?.packets().into(),
        "update_spin" => programs.array::<LockedFlow<u32>>("SPIN")?.get(&0, 0).map_err(failed)?.state.packets().into(),
        "update_word" => {
            // The word, then the state, which is as long as that behind a lock.
            let value = programs.array::<LockedFlow<u32>>("WORD")?.get(&0, 0).map_err(failed)?;
            value.state.packets().into()
        }
        "update_split" => {
            let value = programs.per_cpu::<[u64; SUMS]>("SUMS")?.get(&0, 0).map_err(failed)?;
            value.iter().map(|sums| sums[0]).sum()
        }
        _ => {
            let value = programs.per_cpu::<FlowState>("PER_CPU")?.get(&0, 0).map_err(failed)?;
            value.iter().map(|state| u64::from(state.packets())).sum()
        }
    })
}

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
