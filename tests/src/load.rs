//! What a process and the machine's network side take while something runs: CPU time from `/proc`, memory, and a thread's
//! place.

use std::{fs, io};

use anyhow::{Context as _, Result};

/// CPU time so far, in clock ticks (hundredths of a second on every common system).
///
/// # Errors
/// When the process is gone.
pub fn process_ticks(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name is in brackets and may hold anything; user and system time are the 12th and 13th field after it.
    let (_, fields) = text.rsplit_once(") ").context("no fields in /proc/PID/stat")?;
    let mut fields = fields.split(' ').skip(11).map(str::parse::<u64>);
    let (user, system) = (fields.next().context("no user time")??, fields.next().context("no system time")??);
    Ok(user + system)
}

/// Time that all CPUs have spent in softirqs so far, in clock ticks: where received packets are handled.
///
/// # Errors
/// When `/proc` does not say.
pub fn softirq_ticks() -> Result<u64> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    Ok(line.split_ascii_whitespace().nth(7).context("no softirq time")?.parse()?)
}

/// Resident memory now, in bytes.
///
/// # Errors
/// When the process is gone.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes * 1024)
}

/// Binds the calling thread to a CPU. On a machine that has only one, all threads share it.
///
/// # Errors
/// When the kernel refuses.
pub fn pin(cpu: usize) -> io::Result<()> {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // SAFETY: all-zero is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: a set of this thread's own, and a small number.
    unsafe { libc::CPU_SET(cpu % cpus, &mut set) };
    // SAFETY: the set is as long as is said; 0 is the calling thread.
    if unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
