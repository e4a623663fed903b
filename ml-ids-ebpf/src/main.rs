//! The kernel side of ML-IDS: every packet of an interface, in (XDP) and out (TCX or clsact), is counted into one flow
//! table by the engine of `ml-ids-common`; finished flows leave through a ring buffer.
//!
//! A hook is: read the frame, parse, update the flow under its lock, count. It never changes a packet, and drops one only
//! if it was told to block its source.
//! What every map and program is for, and what each costs: `docs/kernel.md`.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod clock;
mod filter;
mod forget;
mod fragments;
mod frame;
mod maps;
mod room;
mod scratch;
mod slot;
mod sweep;
mod table;
mod tunables;

use core::hint::black_box;

use aya_ebpf::{
    bindings::{TC_ACT_UNSPEC, xdp_action::XDP_PASS},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use ml_ids_common::{
    FlowCounters, FrameReader as _, Hook, HookCounters, MAX_PIECES, Packet, Segments, Skip, counter_set,
    parse_ethernet, parse_network,
};

/// Received packets. Sees the frame as the driver delivered it, Ethernet padding included.
#[xdp(frags)]
#[inline(always)]
fn ingress(ctx: XdpContext) -> u32 {
    let interface = frame::xdp_interface(&ctx);
    let Some(counters) = maps::counters(counter_set(interface)) else { return XDP_PASS };
    let reader = frame::PacketReader::xdp(&ctx);
    let length = frame::xdp_length(&ctx, tunables::frags());
    let outcome = match parse_ethernet(&reader, length, tunables::profile(), tunables::decap()) {
        Ok(packet) => {
            let Some(scratch::Parked { packet, .. }) = scratch::park(packet) else { return XDP_PASS };
            match filter::received(packet, interface) {
                Ok(()) => match fragments::settle(packet) {
                    Some(outcome) => outcome,
                    None => count(packet, interface, &mut counters.flows),
                },
                refused => refused,
            }
        }
        Err(skip) => Err(filter::unparsed(&reader, interface, skip)),
    };
    book(&mut counters.ingress, 1, length, outcome);
    filter::xdp_action(outcome)
}

/// Sent packets of an interface with Ethernet headers.
#[classifier]
#[inline(always)]
fn egress(ctx: TcContext) -> i32 {
    socket_buffer(&ctx, Hook::Egress, Layer::Ethernet)
}

/// Sent packets of an interface without: tun, WireGuard, PPP, IP in IP.
#[classifier]
#[inline(always)]
fn egress_l3(ctx: TcContext) -> i32 {
    socket_buffer(&ctx, Hook::Egress, Layer::Network)
}

/// Received packets where XDP sees none.
#[classifier]
#[inline(always)]
fn ingress_tc(ctx: TcContext) -> i32 {
    socket_buffer(&ctx, Hook::Ingress, Layer::Ethernet)
}

/// Received packets of an interface without Ethernet headers, which XDP cannot read.
#[classifier]
#[inline(always)]
fn ingress_l3(ctx: TcContext) -> i32 {
    socket_buffer(&ctx, Hook::Ingress, Layer::Network)
}

/// What a socket buffer begins with, both ways.
#[derive(Clone, Copy)]
enum Layer {
    Ethernet,
    Network,
}

/// Sees the socket buffer before segmentation or after merging; a super-packet is counted as the segments on the wire.
#[inline(always)]
fn socket_buffer(ctx: &TcContext, direction: Hook, layer: Layer) -> i32 {
    let interface = frame::tc_interface(ctx);
    let Some(counters) = maps::counters(counter_set(interface)) else { return TC_ACT_UNSPEC };
    let (hook, flows) = match direction {
        Hook::Ingress => (&mut counters.ingress, &mut counters.flows),
        Hook::Egress => (&mut counters.egress, &mut counters.flows),
    };
    let length = ctx.len();
    frame::make_headers_linear(ctx, length, tunables::decap());
    let reader = frame::PacketReader::tc(ctx);
    // The wire carries what stands beside the frame, too.
    let on_wire = length.wrapping_add(frame::tc_tag(ctx));
    let (profile, decap) = (tunables::profile(), tunables::decap());
    let packet = match layer {
        Layer::Ethernet => parse_ethernet(&reader, length, profile, decap),
        // As an Ethernet header would have shown: that there is a first half word, which `forget` reads again and again.
        Layer::Network if reader.halfwords::<1>(0).is_none() => Err(Skip::Truncated),
        Layer::Network => parse_network(&reader, ethertype(ctx), 0, length, profile, decap),
    };
    match packet {
        Ok(packet) => {
            // First of all: what is made of the packet before it is parked is checked for every way through the parser.
            let Some(parked) = scratch::park(packet) else { return TC_ACT_UNSPEC };
            parked.headers = on_wire.saturating_sub(parked.packet.payload);
            parked.segments = Segments::new(&parked.packet, segment_size(ctx));
            // And this, too, is one thing or another on each way.
            let scratch::Parked { packet: piece, segments, headers } = black_box(parked);
            let admitted = match direction {
                Hook::Ingress => filter::received(piece, interface),
                Hook::Egress => filter::sent(piece, interface),
            };
            if admitted.is_ok()
                && let Some(outcome) = fragments::settle(piece)
            {
                book(hook, 1, on_wire, outcome);
                return TC_ACT_UNSPEC;
            }
            for _ in 0..MAX_PIECES {
                // Opaque, so that the loop stays one and its body is there once.
                if !black_box(&mut *segments).next(piece) {
                    break;
                }
                let (copies, payload) = (piece.copies, piece.payload);
                let outcome = admitted.and_then(|()| count(piece, interface, flows));
                let frame_length = if segments.count() == 1 { on_wire } else { headers.wrapping_add(payload) };
                book(hook, copies, frame_length, outcome);
                if segments.count() == 1 {
                    break;
                }
            }
            filter::tc_action(admitted)
        }
        Err(skip) => {
            // At XDP the sender of a frame that is no packet of a flow is looked at, too; here the stack has taken it already.
            book(hook, 1, on_wire, Err(skip));
            TC_ACT_UNSPEC
        }
    }
}

/// Looks at one slot. Run by the agent through `BPF_PROG_TEST_RUN`, never attached. No XDP program: to run one more than once
/// the kernel patches its own code before and after, and waits each time until no CPU can be in the old code.
#[classifier]
fn sweep(ctx: TcContext) -> i32 {
    sweep::run(&ctx);
    TC_ACT_UNSPEC
}

/// Declares one slot free. Run by the agent as above, before it attaches anything.
#[classifier]
fn fill(ctx: TcContext) -> i32 {
    sweep::fill(&ctx);
    TC_ACT_UNSPEC
}

/// Payload of a full segment if the packet is a super-packet, otherwise 0.
#[inline(always)]
fn segment_size(ctx: &TcContext) -> u32 {
    // SAFETY: the context is the one the kernel gave to the program.
    unsafe { (*ctx.skb.skb).gso_size }
}

/// The network protocol of a packet that has no link header, as an EtherType.
#[inline(always)]
fn ethertype(ctx: &TcContext) -> u16 {
    // SAFETY: the context is the one the kernel gave to the program.
    u16::from_be(unsafe { (*ctx.skb.skb).protocol } as u16)
}

/// Counts a packet, or a run of like ones, into its flow.
#[inline(always)]
fn count(packet: &Packet, interface: u32, counters: &mut FlowCounters) -> Result<(), Skip> {
    // A replayed capture has no interface, here as offline.
    let interface = if tunables::test_clock() { 0 } else { interface };
    table::count(packet, clock::now_us(), interface, counters)
}

/// Enters frames of one length in a hook's books.
#[inline(always)]
fn book(books: &mut HookCounters, frames: u32, length: u32, outcome: Result<(), Skip>) {
    let frames = u64::from(frames);
    books.seen = books.seen.wrapping_add(frames);
    books.seen_bytes = books.seen_bytes.wrapping_add(u64::from(length).wrapping_mul(frames));
    match outcome {
        Ok(()) => books.in_flow = books.in_flow.wrapping_add(frames),
        Err(skip) => {
            if let Some(count) = books.skipped.get_mut(skip as usize) {
                *count = count.wrapping_add(frames);
            }
        }
    }
}

/// The licence that GPL-only helpers ask for. The crate itself is `MIT OR Apache-2.0`.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Required by the compiler. `cargo xtask test` checks that nothing in the object refers to it.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
