//! Updating a flow under its lock.
//!
//! A new flow's slot is claimed vacant and opened under the lock like any other update, so there is one path, and two
//! CPUs that meet the same new flow cannot both open it. A slot that has been freed since it was looked up shows another
//! generation, and the program looks again.

use core::hint::black_box;

use aya_ebpf::helpers::generated::{bpf_spin_lock, bpf_spin_unlock};
use ml_ids_common::{EndReason, FlowCounters, FlowState, Life, Packet, Plan, Skip, SlotRef};

use crate::{
    forget,
    maps::FLOWS,
    room::Room,
    slot::{self, Claim, Slot},
    tunables,
};

/// Lookups before a packet is given up as lost to a race: each one takes another CPU that frees the slot or claims the
/// key in between.
const ATTEMPTS: u32 = 4;

/// Counts the packet into its flow, opening or ending flows as the engine says.
#[inline(always)]
pub(crate) fn count(packet: &Packet, now_us: u64, interface: u32, counters: &mut FlowCounters) -> Result<(), Skip> {
    for _ in 0..ATTEMPTS {
        let promised = match FLOWS.get_ptr(&packet.key) {
            // SAFETY: a live table value; eight bytes that are written once, before the key is visible.
            Some(promised) => unsafe { promised.read() },
            None => match slot::claim(&packet.key, counters) {
                Claim::Ours(promised) => promised,
                Claim::Theirs => continue,
                Claim::Full => return Err(Skip::TableFull),
            },
        };
        let slot = Slot::at(promised.slot).ok_or(Skip::TableFull)?;
        // What the engine derives from the packet would otherwise be computed ahead of the loop, and kept on a stack that
        // is too small for it.
        let update = Update { slot, promised, packet: black_box(packet), now_us, interface };
        match update.quick(counters) {
            Quick::Done => return Ok(()),
            Quick::Late => return Err(Skip::AfterEnd),
            Quick::Emits => {
                let update = Update { packet: black_box(packet), ..update };
                if update.emitting(counters) {
                    return Ok(());
                }
            }
            Quick::Gone => {}
        }
    }
    Err(Skip::Race)
}

/// What the first look under the lock came to.
enum Quick {
    Done = 0,
    Late,
    /// The flow is to be emitted, which needs ring buffer space first.
    Emits,
    /// The slot is no longer this flow's.
    Gone,
}

impl Quick {
    /// Back from a number.
    #[inline(always)]
    const fn of(number: u64) -> Self {
        match number {
            0 => Self::Done,
            1 => Self::Late,
            2 => Self::Emits,
            _ => Self::Gone,
        }
    }
}

struct Update<'a> {
    slot: Slot,
    promised: SlotRef,
    packet: &'a Packet,
    now_us: u64,
    interface: u32,
}

impl Update<'_> {
    /// Everything that needs no ring buffer space. The counters are written under the lock, too: what would be kept until
    /// after it is one more thing that the verifier knows, and multiplies the ways that it follows.
    #[inline(always)]
    fn quick(&self, counters: &mut FlowCounters) -> Quick {
        let &Self { slot: Slot { flow, due }, promised, packet, now_us, interface } = self;
        let profile = tunables::profile();
        // SAFETY: `flow` is a live map value; the lock is released on each path below, with no call in between.
        unsafe { bpf_spin_lock(&raw mut (*flow).lock) };
        // SAFETY: the lock is held.
        let state = unsafe { &mut (*flow).state };
        // SAFETY: as above.
        let outcome = if unsafe { (*flow).generation } != promised.generation {
            Quick::Gone
        } else {
            let now_us = monotonic(state, now_us, counters);
            let plan = state.plan(packet, now_us, profile);
            match plan {
                Plan::Add => {
                    let before = state.teardown;
                    state.apply(Plan::Add, packet, now_us, interface, profile);
                    if state.teardown != before {
                        // SAFETY: a live map value; the slot's lock is held.
                        unsafe { due.write(state.next_look_us(tunables::linger_us())) };
                    }
                    Quick::Done
                }
                Plan::Late => Quick::Late,
                Plan::AddAndEnd | Plan::EndAndOpen { .. } => Quick::Emits,
                Plan::Open { source_is_b } => {
                    counters.opened = counters.opened.wrapping_add(1);
                    let plan = Plan::Reopen { source_is_b, forward: false };
                    state.apply(plan, packet, now_us, interface, profile);
                    // SAFETY: as above. An entry that is opened again is due earlier than it need be, which does no harm.
                    unsafe { due.write(state.next_look_us(tunables::linger_us())) };
                    Quick::Done
                }
                Plan::Reopen { .. } => {
                    counters.opened = counters.opened.wrapping_add(1);
                    if state.life == Life::Open as u8 {
                        counters.discarded = counters.discarded.wrapping_add(1);
                    }
                    state.apply(plan, packet, now_us, interface, profile);
                    Quick::Done
                }
            }
        };
        // SAFETY: the lock is held.
        unsafe { bpf_spin_unlock(&raw mut (*flow).lock) };
        Quick::of(forget::number(outcome as u64, &packet.payload))
    }

    /// Reserves space, looks again and emits. False when the entry is gone or has changed, so that the caller starts
    /// over. A full ring never waits: the flow is lost and counted.
    #[inline(always)]
    fn emitting(&self, counters: &mut FlowCounters) -> bool {
        let &Self { slot: Slot { flow, due }, promised, packet, now_us, interface } = self;
        let profile = tunables::profile();
        let room = Room::reserve();
        let mut emitted = false;
        let mut packets = 0;
        // SAFETY: as in `quick`.
        unsafe { bpf_spin_lock(&raw mut (*flow).lock) };
        // SAFETY: the lock is held.
        let state = unsafe { &mut (*flow).state };
        // SAFETY: as above.
        if unsafe { (*flow).generation } == promised.generation {
            let now_us = monotonic(state, now_us, counters);
            match state.plan(packet, now_us, profile) {
                Plan::AddAndEnd => {
                    state.apply(Plan::AddAndEnd, packet, now_us, interface, profile);
                    packets = state.packets();
                    room.write(state);
                    state.vacate();
                    // What is left of the teardown may follow; then the slot is freed.
                    // SAFETY: as above.
                    unsafe { due.write(now_us.wrapping_add(tunables::linger_us())) };
                    emitted = true;
                }
                Plan::EndAndOpen { source_is_b, forward } => {
                    state.finish(EndReason::Timeout);
                    packets = state.packets();
                    room.write(state);
                    let plan = Plan::Reopen { source_is_b, forward };
                    state.apply(plan, packet, now_us, interface, profile);
                    counters.opened = counters.opened.wrapping_add(1);
                    emitted = true;
                }
                _ => {}
            }
        }
        // SAFETY: the lock is held.
        unsafe { bpf_spin_unlock(&raw mut (*flow).lock) };
        hand_over(room, emitted, packets, 0, counters);
        emitted
    }
}

/// Submits or returns reserved space, and keeps the books. `wake` is how the ring buffer is to tell the agent.
#[inline(always)]
pub(crate) fn hand_over(room: Room, emitted: bool, packets: u32, wake: u64, counters: &mut FlowCounters) {
    if room.close(emitted, wake) {
        counters.emitted = counters.emitted.wrapping_add(1);
    } else if emitted {
        counters.lost_ring_full = counters.lost_ring_full.wrapping_add(1);
        counters.lost_packets = counters.lost_packets.wrapping_add(u64::from(packets));
    }
}

/// The clock is read before the lock is taken, so a packet can seem older than one that another CPU has just counted.
/// It then counts as simultaneous. The test clock is left alone: captures may run backwards.
#[inline(always)]
fn monotonic(state: &FlowState, now_us: u64, counters: &mut FlowCounters) -> u64 {
    if tunables::test_clock() || state.life != Life::Open as u8 {
        return now_us;
    }
    let last = state.start_us.wrapping_add_signed(i64::from(state.last));
    if now_us < last {
        counters.clock_steps = counters.clock_steps.wrapping_add(1);
        last
    } else {
        now_us
    }
}
