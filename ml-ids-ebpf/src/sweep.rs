//! The sweep: ends what is due without another packet, and frees what is over.
//!
//! The agent finds out which slots are due by reading their times, and runs this program on them, one slot a run: the
//! numbers are in the test frame, and so is the position, which each run moves on. No run is longer than one slot takes.

use core::mem::offset_of;

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::generated::{bpf_spin_lock, bpf_spin_unlock},
    programs::TcContext,
};
use ml_ids_common::{FlowCounters, FlowState, Life, Patience, SWEEP_COUNTERS, SWEEP_SLOTS, SweepAction, SweepFrame};

use crate::{
    clock,
    maps::{self, FREE},
    room::Room,
    slot::{self, Slot},
    table, tunables,
};

/// How much later a flow that found no room in the ring buffer is tried again.
const RETRY_US: u64 = 50_000;

/// Looks at the next slot of the frame. Anything but a whole [`SweepFrame`] does nothing.
#[inline(always)]
pub(crate) fn run(ctx: &TcContext) {
    let Some((patience, number)) = next(ctx) else { return };
    let Some(counters) = maps::counters(SWEEP_COUNTERS) else { return };
    let Some(slot) = Slot::at(number) else { return };
    let counters = &mut counters.flows;
    let now_us = clock::now_us();
    // SAFETY: a live map value. Read without the lock: what is found is decided again under it.
    let retired = match decide(unsafe { &(*slot.flow).state }, patience, now_us) {
        SweepAction::Evict => slot::give_up(slot, None, counters),
        SweepAction::Emit(_) | SweepAction::Discard => {
            end(slot, patience, now_us, counters);
            false
        }
        SweepAction::Keep | SweepAction::Free => settle(slot, patience, now_us),
    };
    if retired {
        // The stack has room for every slot.
        let _ = FREE.push(number, 0);
    }
}

/// Reads the frame's position and moves it on.
#[inline(always)]
fn next(ctx: &TcContext) -> Option<(Patience, u32)> {
    let (start, end) = (ctx.data(), ctx.data_end());
    if start + size_of::<SweepFrame>() > end {
        return None;
    }
    let frame: *mut SweepFrame = core::ptr::with_exposed_provenance_mut(start);
    // SAFETY: inside the frame by the check above. Test frames start at an address that is a multiple of eight.
    let (position, patience) = unsafe {
        let position = (*frame).position;
        (*frame).position = position.wrapping_add(1);
        (position, (*frame).patience)
    };
    let index = position as usize & (SWEEP_SLOTS - 1);
    let slot = start + offset_of!(SweepFrame, slots) + index * size_of::<u32>();
    // Implied by the first check, which the verifier does not connect with this address.
    if slot + size_of::<u32>() > end {
        return None;
    }
    let slot: *const u32 = core::ptr::with_exposed_provenance(slot);
    let patience = match patience {
        0 => Patience::Normal,
        1 => Patience::Pressed,
        _ => Patience::None,
    };
    // SAFETY: as above.
    Some((patience, unsafe { slot.read() }))
}

#[inline(always)]
fn decide(state: &FlowState, patience: Patience, now_us: u64) -> SweepAction {
    state.sweep_with(patience, now_us, tunables::linger_us(), tunables::profile())
}

/// Frees the slot if nothing is left to remember, otherwise notes when to look again. True when it has been freed.
#[inline(always)]
fn settle(slot: Slot, patience: Patience, now_us: u64) -> bool {
    let mut free = false;
    // SAFETY: a live map value; the lock is released below, with no call in between.
    unsafe { bpf_spin_lock(&raw mut (*slot.flow).lock) };
    // SAFETY: the lock is held.
    let (state, due) = unsafe { (&(*slot.flow).state, slot.due.read()) };
    // A slot that is free has no due time. It may be in somebody's hands already.
    if due != 0 {
        free = matches!(decide(state, patience, now_us), SweepAction::Free);
        if free {
            // SAFETY: the lock is held, the key is removed below.
            unsafe { slot.retire() };
        } else {
            // SAFETY: the lock is held.
            unsafe { slot.due.write(state.next_look_us(tunables::linger_us())) };
        }
    }
    // SAFETY: the lock is held.
    unsafe { bpf_spin_unlock(&raw mut (*slot.flow).lock) };
    if free {
        slot.remove_key();
    }
    free
}

/// Ends a flow that is due. Without ring buffer space it stays, and is tried again, so nothing is lost here. The agent
/// reads the ring buffer after each sweep and need not be woken.
#[inline(always)]
fn end(slot: Slot, patience: Patience, now_us: u64, counters: &mut FlowCounters) {
    let room = Room::reserve();
    let mut emitted = false;
    let mut discarded = 0;
    // SAFETY: a live map value; the lock is released below, with no call in between.
    unsafe { bpf_spin_lock(&raw mut (*slot.flow).lock) };
    // SAFETY: the lock is held.
    let state = unsafe { &mut (*slot.flow).state };
    if !room.is_there() {
        // SAFETY: the lock is held.
        unsafe { slot.due.write(now_us.wrapping_add(RETRY_US)) };
    } else {
        match decide(state, patience, now_us) {
            SweepAction::Emit(reason) => {
                state.finish(reason);
                room.write(state);
                state.life = Life::Emitted as u8;
                emitted = true;
            }
            SweepAction::Discard => {
                state.life = Life::Emitted as u8;
                discarded = 1;
            }
            SweepAction::Keep | SweepAction::Free | SweepAction::Evict => {}
        }
        if state.life != Life::Vacant as u8 {
            // SAFETY: the lock is held.
            unsafe { slot.due.write(state.next_look_us(tunables::linger_us())) };
        }
    }
    // SAFETY: the lock is held.
    unsafe { bpf_spin_unlock(&raw mut (*slot.flow).lock) };
    counters.discarded = counters.discarded.wrapping_add(discarded);
    table::hand_over(room, emitted, 0, u64::from(BPF_RB_NO_WAKEUP), counters);
}

/// Puts the next slot onto the stack of free ones. The frame's first word counts down.
#[inline(always)]
pub(crate) fn fill(ctx: &TcContext) {
    let start = ctx.data();
    if start + size_of::<u32>() > ctx.data_end() {
        return;
    }
    let left: *mut u32 = core::ptr::with_exposed_provenance_mut(start);
    // SAFETY: inside the frame by the check above, and aligned as in `next`.
    let count = unsafe { left.read() };
    if count == 0 {
        return;
    }
    let slot = count.wrapping_sub(1);
    if FREE.push(slot, 0).is_ok() {
        // SAFETY: as above.
        unsafe { left.write(slot) };
    }
}
