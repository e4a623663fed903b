//! The kernel side of ML-IDS: every packet of an interface, in (XDP) and out (TCX or clsact), is counted into one flow
//! table by the engine of `ml-ids-common`; finished flows leave through a ring buffer.
//!
//! A hook is: read the frame, parse, update the flow under its lock, count. It never changes or drops a packet.
//! What every map and program is for, and what each costs: `docs/kernel.md`.
#![no_std]
#![no_main]

mod clock;
mod frame;
mod maps;
mod sweep;
mod table;
mod tunables;

use aya_ebpf::{
    bindings::{TC_ACT_UNSPEC, xdp_action::XDP_PASS},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use ml_ids_common::{Hook, Packet, Skip, parse_ethernet};

/// Received packets. Sees the frame as the driver delivered it, Ethernet padding included.
#[xdp(frags)]
fn ingress(ctx: XdpContext) -> u32 {
    let reader = frame::PacketReader::xdp(&ctx);
    let length = frame::xdp_length(&ctx);
    account(Hook::Ingress, parse_ethernet(&reader, length, tunables::profile()), length, frame::xdp_interface(&ctx));
    XDP_PASS
}

/// Sent packets. Sees the socket buffer before segmentation, so one call can stand for several frames on the wire.
#[classifier]
fn egress(ctx: TcContext) -> i32 {
    let length = ctx.len();
    frame::make_headers_linear(&ctx, length);
    let reader = frame::PacketReader::tc(&ctx);
    account(Hook::Egress, parse_ethernet(&reader, length, tunables::profile()), length, frame::tc_interface(&ctx));
    TC_ACT_UNSPEC
}

/// Ends what is due without another packet. Run by the agent through `BPF_PROG_TEST_RUN`, never attached.
#[xdp]
fn sweep(_ctx: XdpContext) -> u32 {
    sweep::run()
}

/// Counts the frame in the books, and into its flow if it belongs to one.
#[inline(always)]
fn account(hook: Hook, parsed: Result<Packet, Skip>, length: u32, interface: u32) {
    let Some(counters) = maps::counters() else { return };
    let outcome = match parsed {
        Ok(packet) => {
            // A replayed capture has no interface, here as offline.
            let interface = if tunables::test_clock() { 0 } else { interface };
            table::count(&packet, clock::now_us(), interface, &mut counters.flows)
        }
        Err(skip) => Err(skip),
    };
    let books = match hook {
        Hook::Ingress => &mut counters.ingress,
        Hook::Egress => &mut counters.egress,
    };
    books.seen = books.seen.wrapping_add(1);
    books.seen_bytes = books.seen_bytes.wrapping_add(u64::from(length));
    match outcome {
        Ok(()) => books.in_flow = books.in_flow.wrapping_add(1),
        Err(skip) => {
            if let Some(count) = books.skipped.get_mut(skip as usize) {
                *count = count.wrapping_add(1);
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
