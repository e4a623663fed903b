//! Fragments of IP datagrams: a first one leaves a note, by which later ones find their flow. Packets that are whole touch
//! nothing here.

use aya_ebpf::helpers::generated::{bpf_spin_lock, bpf_spin_unlock};
use ml_ids_common::{Fragment, Packet, Skip};

use crate::{
    clock,
    maps::{DATAGRAMS, FLOWS, Flow},
    slot::Slot,
};

/// Notes a first fragment. Counts a later one and says what became of it; `None` is a packet still to be counted.
#[inline(always)]
pub(crate) fn settle(packet: &mut Packet) -> Option<Result<(), Skip>> {
    if packet.fragment == Fragment::NONE {
        return None;
    }
    let key = packet.datagram_key();
    if packet.fragment == Fragment::LATER {
        // SAFETY: read at once. Should the note be replaced just then, a fragment counts in the wrong flow.
        let Some(datagram) = (unsafe { DATAGRAMS.get(&key) }) else { return Some(Err(Skip::FragmentOrphan)) };
        packet.attribute(datagram);
        return Some(count(packet));
    }
    // An LRU table makes room. Were it refused all the same, the later fragments would be orphans.
    let _ = DATAGRAMS.insert(&key, &packet.datagram(), 0);
    None
}

#[inline(always)]
fn count(packet: &Packet) -> Result<(), Skip> {
    let now_us = clock::now_us();
    let promised = FLOWS.get_ptr(&packet.key).ok_or(Skip::FragmentOrphan)?;
    // SAFETY: a live table value; eight bytes that are written once, before the key is visible.
    let promised = unsafe { promised.read() };
    let Slot { flow, .. } = Slot::at(promised.slot).ok_or(Skip::FragmentOrphan)?;
    // SAFETY: `flow` is a live map value; the lock is released below, with no call in between.
    unsafe { bpf_spin_lock(&raw mut (*flow).lock) };
    // SAFETY: the lock is held.
    let Flow { generation, state, .. } = unsafe { &mut *flow };
    let outcome =
        if *generation == promised.generation { state.fragment(packet, now_us) } else { Err(Skip::FragmentOrphan) };
    // SAFETY: the lock is held.
    unsafe { bpf_spin_unlock(&raw mut (*flow).lock) };
    outcome
}
