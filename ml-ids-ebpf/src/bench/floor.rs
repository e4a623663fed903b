//! The floor under any flow counter: parse, clock, hash lookup, two counters. And the same with a spin lock around the
//! counters: the difference is what the lock itself costs.

use aya_ebpf::{
    bindings::{TC_ACT_UNSPEC, bpf_spin_lock as Lock, xdp_action::XDP_PASS},
    btf_maps::HashMap,
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_spin_lock, bpf_spin_unlock},
    },
    macros::{btf_map, classifier, xdp},
    programs::{TcContext, XdpContext},
};
use ml_ids_common::{Decap, FlowKey, Packet, Profile, Skip, parse_ethernet};

use crate::frame;

/// What the floor keeps of a flow.
#[repr(C)]
#[derive(Clone, Copy)]
struct Tally {
    packets: u64,
    bytes: u64,
    last_ns: u64,
}

/// The same behind a lock.
#[repr(C)]
struct LockedTally {
    lock: Lock,
    reserved: u32,
    tally: Tally,
}

#[btf_map]
static TALLIES: HashMap<FlowKey, Tally, 131_072> = HashMap::new();
/// Its elements are put in by the bench: a program cannot insert a value with a lock from its stack.
#[btf_map]
static LOCKED_TALLIES: HashMap<FlowKey, LockedTally, 1024> = HashMap::new();

/// The floor for received packets.
#[xdp(frags)]
#[inline(always)]
fn floor_ingress(ctx: XdpContext) -> u32 {
    let (parsed, length) = received(&ctx);
    tally(parsed, length);
    XDP_PASS
}

/// The floor for sent packets.
#[classifier]
#[inline(always)]
fn floor_egress(ctx: TcContext) -> i32 {
    let (parsed, length) = sent(&ctx);
    tally(parsed, length);
    TC_ACT_UNSPEC
}

/// The floor with a lock, for received packets.
#[xdp(frags)]
#[inline(always)]
fn locked_ingress(ctx: XdpContext) -> u32 {
    let (parsed, length) = received(&ctx);
    tally_locked(parsed, length);
    XDP_PASS
}

/// The floor with a lock, for sent packets.
#[classifier]
#[inline(always)]
fn locked_egress(ctx: TcContext) -> i32 {
    let (parsed, length) = sent(&ctx);
    tally_locked(parsed, length);
    TC_ACT_UNSPEC
}

/// A received packet and its length, read as the real program does.
#[inline(always)]
pub(crate) fn received(ctx: &XdpContext) -> (Result<Packet, Skip>, u32) {
    let _ = frame::xdp_interface(ctx);
    let length = frame::xdp_length(ctx, true);
    (parse_ethernet(&frame::PacketReader::xdp(ctx), length, Profile::Fixed, Decap::NONE), length)
}

/// The same of a packet that is being sent.
#[inline(always)]
pub(crate) fn sent(ctx: &TcContext) -> (Result<Packet, Skip>, u32) {
    let _ = frame::tc_interface(ctx);
    let length = ctx.len();
    frame::make_headers_linear(ctx, length, Decap::NONE);
    let parsed = parse_ethernet(&frame::PacketReader::tc(ctx), length, Profile::Fixed, Decap::NONE);
    (parsed, length.wrapping_add(frame::tc_tag(ctx)))
}

#[inline(always)]
fn tally(parsed: Result<Packet, Skip>, length: u32) {
    let Ok(packet) = parsed else { return };
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    if let Some(tally) = TALLIES.get_ptr_mut(&packet.key) {
        // SAFETY: a live table value; lost updates do not matter to a floor.
        unsafe { &mut *tally }.add(length, now);
    } else {
        let tally = Tally { packets: 1, bytes: u64::from(length), last_ns: now };
        // A full table is as good as any other for a floor.
        let _ = TALLIES.insert(&packet.key, &tally, 0);
    }
}

#[inline(always)]
fn tally_locked(parsed: Result<Packet, Skip>, length: u32) {
    let Ok(packet) = parsed else { return };
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    let Some(value) = LOCKED_TALLIES.get_ptr_mut(&packet.key) else { return };
    // SAFETY: a live table value, under its lock, with no call in between.
    unsafe {
        bpf_spin_lock(&raw mut (*value).lock);
        (*value).tally.add(length, now);
        bpf_spin_unlock(&raw mut (*value).lock);
    }
}

impl Tally {
    #[inline(always)]
    fn add(&mut self, length: u32, now: u64) {
        self.packets = self.packets.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(u64::from(length));
        self.last_ns = now;
    }
}
