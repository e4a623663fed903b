//! What the agent sets before loading. The values live in read-only data, so the verifier knows them and drops the
//! branches of the other profiles.

use aya_ebpf::Global;
use ml_ids_common::{Decap, LINGER_US, Profile};

#[unsafe(no_mangle)]
static PROFILE: Global<u8> = Global::new(Profile::Fixed as u8);
#[unsafe(no_mangle)]
static LINGER: Global<u64> = Global::new(LINGER_US);
#[unsafe(no_mangle)]
static DECAP: Global<u8> = Global::new(Decap::NONE.0);
#[unsafe(no_mangle)]
static TEST_CLOCK: Global<u8> = Global::new(0);
#[unsafe(no_mangle)]
static FRAGS: Global<u8> = Global::new(1);
#[unsafe(no_mangle)]
static FILTERS: Global<u8> = Global::new(0);

/// The feature profile whose flow borders apply.
#[inline(always)]
pub(crate) fn profile() -> Profile {
    match PROFILE.load() {
        1 => Profile::Cns2022,
        2 => Profile::Cic2017,
        _ => Profile::Fixed,
    }
}

/// How long a terminated flow waits for late packets, in microseconds.
#[inline(always)]
pub(crate) fn linger_us() -> u64 {
    LINGER.load()
}

/// The tunnels that are looked into.
#[inline(always)]
pub(crate) fn decap() -> Decap {
    Decap(DECAP.load())
}

/// True when the time comes from a map instead of the kernel, so that tests can replay captures.
#[inline(always)]
pub(crate) fn test_clock() -> bool {
    TEST_CLOCK.load() != 0
}

/// True when a received frame may be in several buffers, and the kernel can tell its whole length.
#[inline(always)]
pub(crate) fn frags() -> bool {
    FRAGS.load() != 0
}

/// Which filters are in use, as in `FilterMask`.
#[inline(always)]
pub(crate) fn filter_mask() -> u8 {
    FILTERS.load()
}
