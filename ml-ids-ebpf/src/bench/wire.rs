//! What the bench programs and the bench in the agent must agree on. Compiled into both.

use ml_ids_common::FlowKey;

/// What user space needs to know of a packet when it is user space that counts.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct PacketRecord {
    /// The kernel's clock.
    pub(crate) now_ns: u64,
    /// As in `Packet`, like what follows.
    pub(crate) key: FlowKey,
    pub(crate) payload: u32,
    pub(crate) padded_payload: u32,
    /// Frame bytes.
    pub(crate) length: u32,
    pub(crate) window: u16,
    pub(crate) flags: u8,
    pub(crate) header: u8,
    pub(crate) from_b: u8,
    /// Always zero.
    pub(crate) reserved: [u8; 7],
}

/// What the traffic generator is to send. Written by the agent, but for the number of the next packet.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Order {
    /// Number of the next packet.
    pub(crate) next: u64,
    /// Flows at a time.
    pub(crate) flows: u64,
    /// Packets of a flow.
    pub(crate) packets: u64,
    /// Where the frames leave.
    pub(crate) interface: u32,
    /// First byte of the source addresses.
    pub(crate) network: u32,
}

const _: () = assert!(size_of::<PacketRecord>() == 72);
const _: () = assert!(size_of::<Order>() == 32);
