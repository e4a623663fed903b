//! Runs of the kernel's sweep: the slots that are due, a frame of them at a time.

use std::time::Duration;

use aya::programs::{ProgramError, SchedClassifier, TestRun as _, TestRunOptions};
use ml_ids_common::{Patience, SWEEP_SLOTS, SweepFrame};

use super::{load::SensorError, refusal::os_error};

/// Bytes before the slots.
const HEADER: usize = size_of::<SweepFrame>() - SWEEP_SLOTS * size_of::<u32>();
/// Most slots that one call declares free: the kernel gives the CPU away between them, and a signal ends the call.
const FILL_RUNS: u32 = 65_536;
/// The smallest frame that `BPF_PROG_TEST_RUN` accepts.
const LEAST_FRAME: usize = 14;

/// Looks at `slots` and returns how long the kernel took for all of them. Those that a signal kept it from stay due.
pub(super) fn sweep(program: &SchedClassifier, slots: &[u32], patience: Patience) -> Result<Duration, SensorError> {
    let mut total = Duration::ZERO;
    let mut frame = Vec::with_capacity(size_of::<SweepFrame>());
    for slots in slots.chunks(SWEEP_SLOTS) {
        frame.clear();
        frame.extend(0u32.to_ne_bytes());
        frame.extend((patience as u32).to_ne_bytes());
        for slot in slots {
            frame.extend(slot.to_ne_bytes());
        }
        // The program takes whole frames only; the runs end before the padding.
        frame.resize(HEADER + SWEEP_SLOTS * size_of::<u32>(), 0);
        let runs = slots.len() as u32;
        match program.test_run(TestRunOptions { data_in: Some(&frame), repeat: runs, ..TestRunOptions::new() }) {
            Ok(result) => total += result.duration * runs,
            Err(error) if interrupted(&error) => {}
            Err(source) => return Err(SensorError::Program { program: "sweep", source: Box::new(source) }),
        }
    }
    Ok(total)
}

/// Declares the first `slots` slots free, so that the lowest is given out first.
pub(super) fn fill(program: &SchedClassifier, slots: u32) -> Result<(), SensorError> {
    let mut frame = [0; LEAST_FRAME];
    let mut left = slots;
    while left > 0 {
        set_word(&mut frame, left);
        let mut after = frame;
        let options = TestRunOptions {
            data_in: Some(&frame),
            data_out: Some(&mut after),
            repeat: left.min(FILL_RUNS),
            ..TestRunOptions::new()
        };
        match program.test_run(options) {
            Ok(_) if word(&after) < left => left = word(&after),
            Ok(_) => return Err(SensorError::Missing("room for free slots")),
            // What was done is not told, but the stack refuses what is there twice only when it is full.
            Err(error) if interrupted(&error) => return Err(SensorError::Interrupted),
            Err(source) => return Err(SensorError::Program { program: "fill", source: Box::new(source) }),
        }
    }
    Ok(())
}

fn interrupted(error: &ProgramError) -> bool {
    os_error(error) == Some(libc::EINTR)
}

fn set_word(frame: &mut [u8], value: u32) {
    for (byte, new) in frame.iter_mut().zip(value.to_ne_bytes()) {
        *byte = new;
    }
}

fn word(frame: &[u8]) -> u32 {
    frame.first_chunk().map_or(0, |word| u32::from_ne_bytes(*word))
}
