//! The clocks, in microseconds: the kernel's (monotonic since boot), Unix time, and from one to the other.

use std::time::Duration;

/// Microseconds to add to a kernel time to get Unix time, measured now.
///
/// Both clocks are read in a row; the smallest distance of a few tries is the one with the least delay in between.
#[must_use]
pub(crate) fn boot_to_unix_us() -> i64 {
    let mut best: Option<(u64, i64)> = None;
    for _ in 0..5 {
        let before = read(libc::CLOCK_MONOTONIC);
        let unix = read(libc::CLOCK_REALTIME);
        let after = read(libc::CLOCK_MONOTONIC);
        let width = after.saturating_sub(before).unsigned_abs();
        let offset = unix.saturating_sub(before.midpoint(after));
        if best.is_none_or(|(least, _)| width < least) {
            best = Some((width, offset));
        }
    }
    best.map_or(0, |(_, offset)| offset)
}

/// A kernel time as Unix time, in microseconds.
pub(crate) fn unix_us(boot_us: u64) -> u64 {
    boot_us.saturating_add_signed(boot_to_unix_us())
}

/// The kernel's clock as its programs read it, in microseconds.
pub(crate) fn monotonic_us() -> u64 {
    read(libc::CLOCK_MONOTONIC).cast_unsigned()
}

/// Unix time now, in microseconds.
pub(crate) fn now_us() -> u64 {
    read(libc::CLOCK_REALTIME).cast_unsigned()
}

/// A time in microseconds.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A clock in microseconds.
fn read(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writing, and the two clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1_000)
}
