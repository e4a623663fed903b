//! The time of a packet in microseconds.

use aya_ebpf::helpers::bpf_ktime_get_ns;

use crate::{maps, tunables};

const NS_PER_US: u64 = 1_000;

/// Microseconds since boot, or the test clock. Truncated, not rounded, as the reference tools do.
#[inline(always)]
pub(crate) fn now_us() -> u64 {
    if tunables::test_clock() {
        return maps::CLOCK.get(0).copied().unwrap_or(0);
    }
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    now / NS_PER_US
}
