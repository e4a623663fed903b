//! What `cargo xtask bench kernel` compares the real programs with: an empty program, and a floor under any flow
//! counter (parse, clock, hash lookup, two counters). An object of its own, never attached to anything.
#![no_std]
#![no_main]

#[path = "frame.rs"]
mod frame;

use aya_ebpf::{
    bindings::{TC_ACT_UNSPEC, xdp_action::XDP_PASS},
    btf_maps::HashMap,
    helpers::bpf_ktime_get_ns,
    macros::{btf_map, classifier, xdp},
    programs::{TcContext, XdpContext},
};
use ml_ids_common::{Decap, FlowKey, Packet, Profile, Skip, parse_ethernet};

/// What the floor keeps of a flow.
#[repr(C)]
#[derive(Clone, Copy)]
struct Tally {
    packets: u64,
    bytes: u64,
    last_ns: u64,
}

#[btf_map]
static TALLIES: HashMap<FlowKey, Tally, 131_072> = HashMap::new();

/// Nothing at all: what a test run itself costs.
#[xdp(frags)]
fn empty_ingress(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// Nothing at all, at the other hook.
#[classifier]
fn empty_egress(_ctx: TcContext) -> i32 {
    TC_ACT_UNSPEC
}

/// The floor for received packets.
#[xdp(frags)]
fn floor_ingress(ctx: XdpContext) -> u32 {
    let reader = frame::PacketReader::xdp(&ctx);
    let length = frame::xdp_length(&ctx, true);
    tally(parse_ethernet(&reader, length, Profile::Fixed, Decap::NONE), length, frame::xdp_interface(&ctx));
    XDP_PASS
}

/// The floor for sent packets.
#[classifier]
fn floor_egress(ctx: TcContext) -> i32 {
    let length = ctx.len();
    frame::make_headers_linear(&ctx, length, Decap::NONE);
    let reader = frame::PacketReader::tc(&ctx);
    let on_wire = length.wrapping_add(frame::tc_tag(&ctx));
    tally(parse_ethernet(&reader, length, Profile::Fixed, Decap::NONE), on_wire, frame::tc_interface(&ctx));
    TC_ACT_UNSPEC
}

#[inline(always)]
fn tally(parsed: Result<Packet, Skip>, length: u32, _interface: u32) {
    let Ok(packet) = parsed else { return };
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    if let Some(tally) = TALLIES.get_ptr_mut(&packet.key) {
        // SAFETY: a live table value; lost updates do not matter to a floor.
        let tally = unsafe { &mut *tally };
        tally.packets = tally.packets.wrapping_add(1);
        tally.bytes = tally.bytes.wrapping_add(u64::from(length));
        tally.last_ns = now;
    } else {
        let tally = Tally { packets: 1, bytes: u64::from(length), last_ns: now };
        // A full table is as good as any other for a floor.
        let _ = TALLIES.insert(&packet.key, &tally, 0);
    }
}

/// The licence that GPL-only helpers ask for.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Required by the compiler; nothing refers to it.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
