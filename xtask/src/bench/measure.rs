//! Time that a child process takes: on the wall, and on the CPU with all its threads.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::process;

/// What one run of a program took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    /// User and system time, of the program and the children that it waited for.
    pub(crate) cpu: Duration,
}

/// Runs a program to its end with its standard output thrown away.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<Cost> {
    let started = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = child.with_context(|| format!("cannot start {}", process::shown(command)))?;
    let mut complaint = String::new();
    if let Some(stderr) = &mut child.stderr {
        // Reads until the program closes it, so that it never waits for us.
        std::io::Read::read_to_string(stderr, &mut complaint).context("cannot read a program's complaints")?;
    }
    let mut status = 0;
    // SAFETY: all-zero is a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let id = libc::pid_t::try_from(child.id()).context("a process id beyond the system's range")?;
    // SAFETY: both pointers are to locals that outlive the call; nobody else waits for this child.
    let waited = unsafe { libc::wait4(id, &raw mut status, 0, &raw mut usage) };
    if waited != id {
        return Err(std::io::Error::last_os_error()).context("wait4 failed");
    }
    let wall = started.elapsed();
    if !libc::WIFEXITED(status) || libc::WEXITSTATUS(status) != 0 {
        bail!("{} failed: {}", process::shown(command), complaint.trim_end());
    }
    Ok(Cost { wall, cpu: duration(usage.ru_utime) + duration(usage.ru_stime) })
}

fn duration(time: libc::timeval) -> Duration {
    Duration::from_secs(time.tv_sec.cast_unsigned()) + Duration::from_micros(time.tv_usec.cast_unsigned())
}

/// The least of several runs, on the wall and on the CPU: what others do on the machine only ever adds.
pub(crate) fn best_of(runs: u32, command: &mut Command) -> anyhow::Result<Cost> {
    let mut best = run(command)?;
    for _ in 1..runs {
        let Cost { wall, cpu } = run(command)?;
        best = Cost { wall: best.wall.min(wall), cpu: best.cpu.min(cpu) };
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_time_of_a_busy_child_is_counted_and_a_sleeping_one_has_none() {
        let busy = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done";
        let busy = run(Command::new("sh").args(["-c", busy])).expect("sh runs");
        assert!(busy.cpu > Duration::ZERO && busy.cpu <= busy.wall * 2, "{busy:?}");
        let idle = run(Command::new("sleep").arg("0.2")).expect("sleep runs");
        assert!(idle.wall >= Duration::from_millis(200) && idle.cpu < idle.wall, "{idle:?}");
    }

    #[test]
    fn a_failing_program_is_an_error_with_its_own_words() {
        let error = run(Command::new("sh").args(["-c", "echo broken >&2; exit 3"])).expect_err("it exits with 3");
        assert!(error.to_string().ends_with("failed: broken"), "{error}");
    }
}
