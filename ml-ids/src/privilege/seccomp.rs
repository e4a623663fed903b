//! The filter of system calls, on all threads. What it lets through is data ([`super::syscalls`]).
//!
//! Three kinds of answer:
//! - Calls that the agent never makes and an intruder wants first (execute, trace, load a program, mount, …) end the process.
//!   An error would let him try the next one; a service manager starts the sensor again and what happened is in the log of
//!   the kernel.
//! - Others that are not on the list fail with `EPERM`, are counted, and each is logged once. A library that begins to use a
//!   new call in its next version must not end a sensor at three in the morning.
//! - `clone3` does not exist: its flags lie in memory, where no filter sees them. The C library then uses `clone`, which may
//!   start threads and nothing else.

use std::{
    collections::BTreeMap,
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use log::debug;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter_all_threads,
};

use super::syscalls::{ALLOWED, FATAL, HIDDEN, LIMITED, Limited, Test};

/// Numbers of system calls that can be remembered.
const NUMBERS: usize = 1024;

/// Which were refused, a bit each. Written in a signal handler.
static REFUSED: [AtomicU64; NUMBERS / 64] = [const { AtomicU64::new(0) }; NUMBERS / 64];

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub(super) enum SeccompError {
    #[error("the filter does not fit this machine: {0}")]
    Machine(#[from] BackendError),
    #[error("the kernel refused it: {0}")]
    Refused(#[from] seccompiler::Error),
    #[error("no handler for refused calls: {0}")]
    Handler(#[from] io::Error),
}

/// Puts every thread of the process under the filter, and those that they start.
pub(super) fn install() -> Result<(), SeccompError> {
    handle_refusals()?;
    let programs = programs(TargetArch::try_from(std::env::consts::ARCH)?)?;
    let whys = ALLOWED.iter().map(|group| group.why).chain(LIMITED.iter().map(|limited| limited.why));
    debug!("system calls pass for: {}", whys.collect::<Vec<_>>().join("; "));
    let whys: Vec<_> = FATAL.iter().map(|group| group.why).collect();
    debug!("system calls end the process: {}", whys.join(", "));
    for program in &programs {
        apply_filter_all_threads(program)?;
    }
    Ok(())
}

/// The filters, in the order in which they can be applied: the last one no longer lets a filter be applied.
fn programs(machine: TargetArch) -> Result<[BpfProgram; 3], BackendError> {
    let plain = |numbers: &mut dyn Iterator<Item = i64>| numbers.map(|number| (number, Vec::new())).collect();
    let filter = |rules, otherwise, matched| SeccompFilter::new(rules, otherwise, matched, machine)?.try_into();
    let hidden = plain(&mut HIDDEN.iter().copied());
    let mut fatal: BTreeMap<i64, Vec<SeccompRule>> = plain(&mut FATAL.iter().flat_map(|group| group.calls).copied());
    let mut allowed: BTreeMap<i64, Vec<SeccompRule>> =
        plain(&mut ALLOWED.iter().flat_map(|group| group.calls).copied());
    for limited in LIMITED {
        allowed.insert(limited.call, rules(limited, limited.allowed)?);
        if !limited.fatal.is_empty() {
            fatal.insert(limited.call, rules(limited, limited.fatal)?);
        }
    }
    Ok([
        filter(hidden, SeccompAction::Allow, SeccompAction::Errno(libc::ENOSYS as u32))?,
        filter(fatal, SeccompAction::Allow, SeccompAction::KillProcess)?,
        filter(allowed, SeccompAction::Trap, SeccompAction::Allow)?,
    ])
}

/// One of the values is enough.
fn rules(limited: &Limited, values: &[u64]) -> Result<Vec<SeccompRule>, BackendError> {
    let rule = |value: &u64| {
        let (operator, value) = match limited.test {
            Test::Equal => (SeccompCmpOp::Eq, *value),
            Test::Masked(mask) => (SeccompCmpOp::MaskedEq(mask), *value),
        };
        let length = if limited.wide { SeccompCmpArgLen::Qword } else { SeccompCmpArgLen::Dword };
        SeccompRule::new(vec![SeccompCondition::new(limited.argument, length, operator, value)?])
    };
    values.iter().map(rule).collect()
}

/// Answers the signal that a refused call is turned into: it has failed with `EPERM`.
fn handle_refusals() -> io::Result<()> {
    // SAFETY: all bytes zero is a valid, empty action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_refusal as *const () as libc::sighandler_t;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
    // SAFETY: a valid action, whose handler touches atomics and the registers that it is given.
    if unsafe { libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

extern "C" fn on_refusal(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel gives a handler with SA_SIGINFO the registers of the thread, which it restores from there. They are
    // those before the call, so its number and the place of its result are known.
    let number = unsafe {
        let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext;
        #[cfg(target_arch = "x86_64")]
        {
            let result = &mut registers.gregs[libc::REG_RAX as usize];
            std::mem::replace(result, -i64::from(libc::EPERM)) as u64
        }
        #[cfg(target_arch = "aarch64")]
        {
            registers.regs[0] = (-i64::from(libc::EPERM)).cast_unsigned();
            registers.regs[8]
        }
    };
    if let Some(word) = REFUSED.get(number as usize / 64) {
        word.fetch_or(1 << (number % 64), Ordering::Relaxed);
    }
}

/// Numbers of the system calls that have been refused so far.
#[must_use]
pub fn refused_calls() -> Vec<u32> {
    let bits = |(index, word): (usize, &AtomicU64)| {
        let word = word.load(Ordering::Relaxed);
        (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| index as u32 * 64 + bit)
    };
    REFUSED.iter().enumerate().flat_map(bits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_compile_for_both_machines_and_stay_below_the_kernels_limit() {
        for machine in [TargetArch::x86_64, TargetArch::aarch64] {
            for program in programs(machine).unwrap() {
                assert!(program.len() < 4096, "{machine:?}: {} instructions", program.len());
            }
        }
    }

    #[test]
    fn no_call_is_on_two_lists() {
        let mut seen = BTreeMap::new();
        let lists = [("allowed", ALLOWED), ("fatal", FATAL)];
        let plain = lists
            .iter()
            .flat_map(|(list, groups)| groups.iter().flat_map(|group| group.calls).map(move |call| (*call, *list)));
        for (call, list) in plain.chain(LIMITED.iter().map(|limited| (limited.call, "limited"))) {
            if let Some(other) = seen.insert(call, list) {
                panic!("system call {call} is {other} and {list}");
            }
        }
    }

    #[test]
    fn every_entry_says_why() {
        let whys = ALLOWED.iter().chain(FATAL).map(|group| group.why).chain(LIMITED.iter().map(|limited| limited.why));
        assert!(whys.into_iter().all(|why| why.len() > 10));
    }
}
