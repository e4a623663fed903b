//! The time of a packet in microseconds.

use aya_ebpf::helpers::bpf_ktime_get_ns;

use ml_ids_common::microseconds;

use crate::{maps, tunables};

/// Microseconds since boot, or the test clock. Truncated, not rounded, as the reference tools do.
#[inline(always)]
pub(crate) fn now_us() -> u64 {
    if tunables::test_clock() {
        return maps::CLOCK.get(0).copied().unwrap_or(0);
    }
    // SAFETY: the helper has no preconditions.
    microseconds(unsafe { bpf_ktime_get_ns() })
}
