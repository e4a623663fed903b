//! The traffic generator: writes the next packet of many flows into a live frame and sends it through an interface.
//!
//! Packet `n` belongs to flow `n % flows` of its turn; after `packets` rounds the flows of a turn are over and the next
//! turn has others. A flow begins with a SYN and, if it is over at all, ends with an RST. One packet a flow is a SYN flood.

use aya_ebpf::{
    bindings::xdp_action::{XDP_ABORTED, XDP_DROP},
    btf_maps::Array,
    helpers::generated::bpf_redirect,
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use ml_ids_common::TcpFlags;

use crate::wire::Order;

/// Bytes of an Ethernet frame with IPv4 and TCP.
const HEADERS: usize = 54;
const SOURCE_ADDRESS: usize = 26;
const SOURCE_PORT: usize = 34;
const FLAGS: usize = 47;

#[btf_map]
static ORDER: Array<Order, 1> = Array::new();

/// Sends the next packet.
#[xdp]
fn flood(ctx: XdpContext) -> u32 {
    let Some(order) = ORDER.get_ptr_mut(0) else { return XDP_ABORTED };
    // SAFETY: a live map value; one test run at a time uses it.
    let order = unsafe { &mut *order };
    let number = order.next;
    order.next = number.wrapping_add(1);
    let (flows, packets) = (order.flows.max(1), order.packets.max(1));
    let (round, of_turn) = (number / flows, number % flows);
    let (turn, step) = (round / packets, round % packets);
    let flow = turn.wrapping_mul(flows).wrapping_add(of_turn);
    let start = ctx.data();
    if start + HEADERS > ctx.data_end() {
        return XDP_DROP;
    }
    let flags = if step == 0 {
        TcpFlags::SYN
    } else if step == packets - 1 {
        TcpFlags::RST | TcpFlags::ACK
    } else {
        TcpFlags::ACK
    };
    let address = order.network << 24 | (flow as u32 & 0x00ff_ffff);
    let port = 1024 + (flow >> 24) as u16;
    let place = |offset: usize| core::ptr::with_exposed_provenance_mut::<u8>(start + offset);
    // SAFETY: inside the frame by the check above; halfwords stand at even places.
    unsafe {
        place(SOURCE_ADDRESS).cast::<u16>().write(((address >> 16) as u16).to_be());
        place(SOURCE_ADDRESS + 2).cast::<u16>().write((address as u16).to_be());
        place(SOURCE_PORT).cast::<u16>().write(port.to_be());
        place(FLAGS).write(flags);
    }
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_redirect(order.interface, 0) as u32 }
}
