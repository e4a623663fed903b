//! Slots: giving them out, freeing them, and finding one when none is free.
//!
//! A slot belongs to one five-tuple from the insertion of its key until it is freed. Freeing raises the generation under
//! the slot's lock; a program that looked the key up before finds a generation that is not the one it was told, and looks
//! again. Only whoever raised the generation removes the key and passes the slot on, so a slot is never given out twice.

use aya_ebpf::{
    bindings::{BPF_NOEXIST, BPF_RB_AVAIL_DATA, BPF_RB_RING_SIZE},
    helpers::generated::{bpf_map_delete_elem, bpf_ringbuf_query, bpf_spin_lock, bpf_spin_unlock},
};
use ml_ids_common::{Cost, EndReason, FlowCounters, FlowKey, Life, SlotRef};

use crate::{
    maps::{DUE, FLOWS, FREE, Flow, HAND, RECORDS, STATES},
    room::Room,
    tunables,
};

/// Slots that are looked at for one that may be evicted.
const PROBES: u32 = 8;
const EEXIST: i32 = -17;

/// A slot and the time at which it is due.
#[derive(Clone, Copy)]
pub(crate) struct Slot {
    pub(crate) flow: *mut Flow,
    pub(crate) due: *mut u64,
}

impl Slot {
    /// The slot of a number.
    #[inline(always)]
    pub(crate) fn at(slot: u32) -> Option<Self> {
        Some(Self { flow: STATES.get_ptr_mut(slot)?, due: DUE.get_ptr_mut(slot)? })
    }

    /// Takes the slot away from its flow. To be called under the slot's lock, by somebody who then calls
    /// [`Slot::remove_key`] without it and passes the slot on.
    ///
    /// # Safety
    /// The lock is held.
    #[inline(always)]
    pub(crate) unsafe fn retire(self) {
        // SAFETY: live map values; the lock is held.
        unsafe {
            (*self.flow).generation = (*self.flow).generation.wrapping_add(1);
            (*self.flow).state.vacate();
            self.due.write(0);
        }
    }

    /// Removes the key of a retired slot from the flow table.
    #[inline(always)]
    pub(crate) fn remove_key(self) {
        // SAFETY: the state's key, which nobody writes: whoever holds the slot finds another generation.
        unsafe {
            let key: *mut FlowKey = &raw mut (*self.flow).state.key;
            bpf_map_delete_elem((&raw const FLOWS).cast_mut().cast(), key.cast());
        }
    }
}

/// What giving out a slot for a key came to.
pub(crate) enum Claim {
    /// The key has this slot now. It is vacant.
    Ours(SlotRef),
    /// Another CPU was quicker: look the key up.
    Theirs,
    /// There is none.
    Full,
}

/// Gives a slot to `key`.
#[inline(always)]
pub(crate) fn claim(key: &FlowKey, counters: &mut FlowCounters) -> Claim {
    let slot = match FREE.pop() {
        Ok(Some(slot)) => slot,
        _ => match evict(counters) {
            Some(slot) => slot,
            None => return Claim::Full,
        },
    };
    let Some(flow) = STATES.get_ptr(slot) else { return Claim::Full };
    // SAFETY: a live map value. Nobody else writes the generation of a slot that has been taken off the stack.
    let generation = unsafe { (*flow).generation };
    let claimed = SlotRef { slot, generation };
    match FLOWS.insert(key, claimed, u64::from(BPF_NOEXIST)) {
        Ok(()) => Claim::Ours(claimed),
        Err(error) => {
            // The stack has room for every slot.
            let _ = FREE.push(slot, 0);
            if error == EEXIST { Claim::Theirs } else { Claim::Full }
        }
    }
}

/// Frees the slot that costs least among the next few. A conversation is never given up; a packet that finds nothing
/// else is counted as `table_full`.
#[inline(always)]
fn evict(counters: &mut FlowCounters) -> Option<u32> {
    let hand = HAND.get_ptr_mut(0)?;
    // SAFETY: a live map value; an update that is lost to another CPU makes two look at the same slots.
    let start = unsafe { hand.read() };
    let (mut best, mut least) = (0, Cost::Established as u8);
    let mut probed = 0;
    while probed < PROBES && least > Cost::Probe as u8 {
        let position = start.wrapping_add(probed);
        probed = probed.wrapping_add(1);
        let Some(flow) = STATES.get_ptr(position) else { break };
        // SAFETY: a live map value. Read without the lock: what is found is decided again under it.
        let cost = unsafe { (*flow).state.cost() };
        if cost < least {
            (best, least) = (position, cost);
        }
    }
    let next = start.wrapping_add(probed);
    // SAFETY: as above.
    unsafe { hand.write(if STATES.get_ptr(next).is_some() { next } else { 0 }) };
    if least >= Cost::Established as u8 {
        return None;
    }
    let slot = Slot::at(best)?;
    give_up(slot, Some(least), counters).then_some(best)
}

/// Ends a flow early and retires its slot. The record is sent while the ring buffer is less than half full, so that flows
/// which end by themselves always find room; otherwise the flow is counted as evicted. With a cost, only if the flow
/// costs no more than that by now.
#[inline(always)]
pub(crate) fn give_up(slot: Slot, at_most: Option<u8>, counters: &mut FlowCounters) -> bool {
    let room = if ring_has_room() { Room::reserve() } else { Room::none() };
    let min_packets = tunables::profile().min_packets();
    let mut retired = false;
    let mut open = false;
    let mut packets = 0;
    // SAFETY: a live map value; the lock is released below, with no call in between.
    unsafe { bpf_spin_lock(&raw mut (*slot.flow).lock) };
    // SAFETY: the lock is held.
    let state = unsafe { &mut (*slot.flow).state };
    if state.life != Life::Vacant as u8 && at_most.is_none_or(|cost| state.cost() <= cost) {
        open = state.life == Life::Open as u8;
        packets = state.packets();
        if open {
            state.finish(EndReason::Evicted);
            room.write(state);
        }
        // SAFETY: the lock is held, the key is removed below.
        unsafe { slot.retire() };
        retired = true;
    }
    // SAFETY: the lock is held.
    unsafe { bpf_spin_unlock(&raw mut (*slot.flow).lock) };
    if retired {
        slot.remove_key();
    }
    let reported = open && packets >= min_packets;
    if open && !reported {
        counters.discarded = counters.discarded.wrapping_add(1);
    }
    if room.close(reported, 0) {
        counters.emitted = counters.emitted.wrapping_add(1);
    } else if reported {
        counters.evicted = counters.evicted.wrapping_add(1);
        counters.evicted_packets = counters.evicted_packets.wrapping_add(u64::from(packets));
    }
    retired
}

/// Whether less than half of the ring buffer waits to be read.
#[inline(always)]
fn ring_has_room() -> bool {
    let ring = (&raw const RECORDS).cast_mut().cast();
    // SAFETY: the map is a ring buffer.
    let (waiting, size) = unsafe {
        (bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA.into()), bpf_ringbuf_query(ring, BPF_RB_RING_SIZE.into()))
    };
    waiting < size / 2
}
