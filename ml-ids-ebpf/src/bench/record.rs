//! The other design: the kernel keeps nothing and sends a record of each packet through a ring buffer; user space
//! counts.

use aya_ebpf::{
    bindings::xdp_action::XDP_PASS,
    btf_maps::RingBuf,
    helpers::bpf_ktime_get_ns,
    macros::{btf_map, xdp},
    programs::XdpContext,
};

use crate::{floor::received, wire::PacketRecord};

#[btf_map]
static PACKETS: RingBuf<(), { 128 << 20 }> = RingBuf::new();

/// Sends a record of the packet.
#[xdp(frags)]
fn record(ctx: XdpContext) -> u32 {
    let (Ok(packet), length) = received(&ctx) else { return XDP_PASS };
    // SAFETY: the helper has no preconditions.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    if let Some(mut entry) = PACKETS.reserve_untyped::<PacketRecord>(0) {
        entry.write(PacketRecord {
            now_ns,
            key: packet.key,
            payload: packet.payload,
            padded_payload: packet.padded_payload,
            length,
            window: packet.window,
            flags: packet.flags.0,
            header: packet.header,
            from_b: u8::from(packet.from_b),
            reserved: [0; 7],
        });
        entry.submit(0);
    }
    XDP_PASS
}
