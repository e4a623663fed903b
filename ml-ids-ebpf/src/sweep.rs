//! The sweep: ends terminated flows after their linger time and flows at the 120 s limit, and frees old entries.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_for_each_map_elem, bpf_map_delete_elem, bpf_spin_lock, bpf_spin_unlock};
use ml_ids_common::{FlowKey, FlowState, Life, SweepAction};

use crate::{
    clock,
    maps::{self, FLOWS, Flow, RECORDS},
    table, tunables,
};

/// What one run hands to its callbacks.
#[repr(C)]
struct Run {
    now_us: u64,
}

/// Looks at every entry of the table once. Returns the number of entries.
#[inline(always)]
pub(crate) fn run() -> u32 {
    let mut run = Run { now_us: clock::now_us() };
    let callback: unsafe extern "C" fn(*mut c_void, *const FlowKey, *mut Flow, *mut Run) -> i64 = visit;
    // SAFETY: the map and the callback are what the helper expects; `run` outlives the call.
    let visited = unsafe {
        bpf_for_each_map_elem((&raw const FLOWS).cast_mut().cast(), callback as *mut c_void, (&raw mut run).cast(), 0)
    };
    if visited < 0 { 0 } else { visited as u32 }
}

/// One entry. The first look is without the lock; what it finds due is decided again under it.
unsafe extern "C" fn visit(map: *mut c_void, key: *const FlowKey, flow: *mut Flow, run: *mut Run) -> i64 {
    // SAFETY: the helper passes a live entry and the pointer given to `run`.
    let (now_us, state) = unsafe { ((*run).now_us, &mut (*flow).state) };
    let (profile, linger_us) = (tunables::profile(), tunables::linger_us());
    match state.sweep(now_us, linger_us, profile) {
        SweepAction::Keep => {}
        SweepAction::Delete => {
            // SAFETY: a live entry; the lock is released below, with no call in between.
            unsafe { bpf_spin_lock(&raw mut (*flow).lock) };
            let delete = matches!(state.sweep(now_us, linger_us, profile), SweepAction::Delete);
            if delete {
                state.life = Life::Dead as u8;
            }
            // SAFETY: the lock is held.
            unsafe { bpf_spin_unlock(&raw mut (*flow).lock) };
            if delete {
                // SAFETY: the callback may delete the element that it stands on.
                unsafe { bpf_map_delete_elem(map, key.cast()) };
            }
        }
        SweepAction::Emit(_) | SweepAction::Discard => end(flow, now_us),
    }
    0
}

/// Ends a flow that is due. Without ring buffer space it stays for the next sweep, so nothing is lost here.
#[inline(always)]
fn end(flow: *mut Flow, now_us: u64) {
    let Some(counters) = maps::counters() else { return };
    let counters = &mut counters.flows;
    let (profile, linger_us) = (tunables::profile(), tunables::linger_us());
    let Some(entry) = RECORDS.reserve_untyped::<FlowState>(0) else { return };
    let target = entry.as_ptr().cast_mut();
    let mut emitted = false;
    let mut discarded = 0;
    // SAFETY: a live entry; the lock is released below, with no call in between.
    unsafe { bpf_spin_lock(&raw mut (*flow).lock) };
    // SAFETY: the lock is held.
    let state = unsafe { &mut (*flow).state };
    match state.sweep(now_us, linger_us, profile) {
        SweepAction::Emit(reason) => {
            state.finish(reason);
            table::copy_out(state, target);
            state.life = Life::Emitted as u8;
            emitted = true;
        }
        SweepAction::Discard => {
            state.life = Life::Emitted as u8;
            discarded = 1;
        }
        SweepAction::Keep | SweepAction::Delete => {}
    }
    // SAFETY: the lock is held.
    unsafe { bpf_spin_unlock(&raw mut (*flow).lock) };
    counters.discarded = counters.discarded.wrapping_add(discarded);
    table::hand_over(Some(entry), emitted, 0, counters);
}
