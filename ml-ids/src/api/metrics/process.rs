//! The process: what it takes of the machine. Names as all Prometheus clients have them.

use procfs::{
    CurrentSI as _, ProcResult,
    process::{LimitValue, Process},
};

use super::page::Page;

/// Nothing where `/proc` cannot be read.
pub(super) fn process(page: &mut Page<'_>) {
    if let Err(error) = read(page) {
        log::debug!("GET /metrics: what the process takes cannot be read: {error}");
    }
}

fn read(page: &mut Page<'_>) -> ProcResult<()> {
    let process = Process::myself()?;
    let (stat, limits, descriptors) = (process.stat()?, process.limits()?, process.fd_count()?);
    let ticks = procfs::ticks_per_second() as f64;
    let booted = procfs::KernelStats::current()?.btime as f64;
    let seconds = (stat.utime + stat.stime) as f64 / ticks;
    let most = match limits.max_open_files.soft_limit {
        LimitValue::Unlimited => f64::INFINITY,
        LimitValue::Value(most) => most as f64,
    };
    page.seconds("process_cpu_seconds", "Time of processors that the process has taken, in seconds", seconds);
    for (name, help, value) in [
        (
            "process_resident_memory_bytes",
            "Memory of the process that is in RAM",
            (stat.rss * procfs::page_size()) as f64,
        ),
        ("process_virtual_memory_bytes", "Address space of the process", stat.vsize as f64),
        ("process_open_fds", "Open file descriptors", descriptors as f64),
        ("process_max_fds", "Most open file descriptors", most),
        (
            "process_start_time_seconds",
            "When the process started, seconds since 1970",
            booted + stat.starttime as f64 / ticks,
        ),
        ("process_threads", "Threads of the process", stat.num_threads as f64),
    ] {
        page.gauge(name, help, value);
    }
    Ok(())
}
