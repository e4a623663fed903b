//! The kernel side of ML-IDS: every packet of an interface, in (XDP) and out (TCX or clsact), is counted into one flow
//! table by the engine of `ml-ids-common`; finished flows leave through a ring buffer.
//!
//! A hook is: read the frame, parse, update the flow under its lock, count. It never changes a packet, and drops one only
//! if it was told to block its source.
//! What every map and program is for, and what each costs: `docs/kernel.md`.
#![no_std]
#![no_main]

mod clock;
mod filter;
mod frame;
mod maps;
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
use ml_ids_common::{FlowCounters, HookCounters, MAX_PIECES, Packet, Segments, Skip, counter_set, parse_ethernet};

/// Received packets. Sees the frame as the driver delivered it, Ethernet padding included.
#[xdp(frags)]
fn ingress(ctx: XdpContext) -> u32 {
    let interface = frame::xdp_interface(&ctx);
    let Some(counters) = maps::counters(counter_set(interface)) else { return XDP_PASS };
    let reader = frame::PacketReader::xdp(&ctx);
    let length = frame::xdp_length(&ctx);
    let outcome = match parse_ethernet(&reader, length, tunables::profile()) {
        Ok(packet) => match scratch::park(packet) {
            Some(packet) => {
                filter::received(packet, interface).and_then(|()| count(packet, interface, &mut counters.flows))
            }
            None => return XDP_PASS,
        },
        Err(skip) => Err(filter::unparsed(&reader, interface, skip)),
    };
    book(&mut counters.ingress, 1, length, outcome);
    filter::xdp_action(outcome)
}

/// Sent packets. Sees the socket buffer before segmentation; a super-packet is counted as the segments on the wire.
#[classifier]
fn egress(ctx: TcContext) -> i32 {
    let interface = frame::tc_interface(&ctx);
    let Some(counters) = maps::counters(counter_set(interface)) else { return TC_ACT_UNSPEC };
    let length = ctx.len();
    frame::make_headers_linear(&ctx, length);
    let reader = frame::PacketReader::tc(&ctx);
    match parse_ethernet(&reader, length, tunables::profile()) {
        Ok(packet) => {
            let headers = length.saturating_sub(packet.payload);
            let mut segments = Segments::new(&packet, segment_size(&ctx));
            let Some(piece) = scratch::park(packet) else { return TC_ACT_UNSPEC };
            for _ in 0..MAX_PIECES {
                // Opaque, so that the loop stays one and its body is there once.
                if !black_box(&mut segments).next(piece) {
                    break;
                }
                let (copies, payload) = (piece.copies, piece.payload);
                let outcome =
                    filter::sent(piece, interface).and_then(|()| count(piece, interface, &mut counters.flows));
                let frame_length = if segments.count() == 1 { length } else { headers.wrapping_add(payload) };
                book(&mut counters.egress, copies, frame_length, outcome);
            }
        }
        Err(skip) => book(&mut counters.egress, 1, length, Err(skip)),
    }
    TC_ACT_UNSPEC
}

/// Looks at one slot. Run by the agent through `BPF_PROG_TEST_RUN`, never attached.
#[xdp]
fn sweep(ctx: XdpContext) -> u32 {
    sweep::run(&ctx);
    XDP_PASS
}

/// Declares one slot free. Run by the agent as above, before it attaches anything.
#[xdp]
fn fill(ctx: XdpContext) -> u32 {
    sweep::fill(&ctx);
    XDP_PASS
}

/// Payload of a full segment if the packet is a super-packet, otherwise 0.
#[inline(always)]
fn segment_size(ctx: &TcContext) -> u32 {
    // SAFETY: the context is the one the kernel gave to the program.
    unsafe { (*ctx.skb.skb).gso_size }
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
