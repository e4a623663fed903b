//! What the kernel programs and the agent must agree on: packet parsing, the flow key, the flow engine, the layout of
//! a finished flow's record, and the counters.
//!
//! Everything here is `no_std`, integer only and free of panics, because the very same code is compiled into the eBPF
//! object and into the agent. Live capture and offline replay therefore cannot drift apart: they run one engine.
//!
//! ```text
//! frame ─► parse ─► Packet ─► FlowState::plan / apply ─► FlowRecord
//! ```
#![no_std]

#[cfg(test)]
extern crate std;

mod counters;
mod decap;
mod direction;
mod engine;
mod filter;
mod flow;
mod fragment;
mod frame;
mod key;
mod lifetime;
mod meta;
mod packet;
mod parse;
mod profile;
mod record;
mod segments;
#[cfg(test)]
mod testing;
mod time;

pub use counters::{COUNTER_SETS, Counters, FlowCounters, Hook, HookCounters, SWEEP_COUNTERS, counter_set};
pub use decap::{Decap, MAX_TUNNEL_HEADERS};
pub use engine::Plan;
pub use filter::{
    BlockEntry, BlockOrigin, FilterCounters, FilterMask, LABEL_BYTES, PORT_WORDS, PrefixData, port_bit, sender_of_frame,
};
pub use flow::{Direction, FlowState, Life, LockedFlow, SlotRef, Spans};
pub use fragment::{Datagram, DatagramKey, Fragment, MAX_DATAGRAMS};
pub use frame::{FrameReader, SliceReader};
pub use key::{Address, FlowKey, IpVersion};
pub use lifetime::{Cost, PRESSED_QUIET_US, PRESSED_UNANSWERED_US, Patience, SWEEP_SLOTS, SweepAction, SweepFrame};
pub use meta::{TABLE_READY, TableMeta};
pub use packet::{Packet, Skip, TcpFlags};
pub use parse::{MAX_EXTENSION_HEADERS, MAX_HEADER_OFFSET, MAX_VLAN_TAGS, parse_ethernet, parse_network};
pub use profile::{ACTIVITY_LIMIT_US, BULK_GAP_US, FLOW_LIMIT_US, LINGER_US, Profile, SUBFLOW_GAP_US};
pub use record::{EndReason, FlowRecord};
pub use segments::{MAX_PIECES, Segments};
pub use time::microseconds;

#[cfg(feature = "user")]
mod user {
    //! Marks what the agent exchanges with maps as plain data.

    use crate::{
        BlockEntry, Counters, Datagram, DatagramKey, FilterCounters, FlowKey, FlowRecord, FlowState, LockedFlow,
        PrefixData, SlotRef, TableMeta,
    };

    // SAFETY: repr(C) structs of integers without padding; every bit pattern is valid.
    unsafe impl aya::Pod for FlowKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for FlowState {}
    // SAFETY: repr(transparent) over FlowState.
    unsafe impl aya::Pod for FlowRecord {}
    // SAFETY: as above.
    unsafe impl aya::Pod for LockedFlow<u32> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for SlotRef {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Counters {}
    // SAFETY: as above.
    unsafe impl aya::Pod for DatagramKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Datagram {}
    // SAFETY: as above.
    unsafe impl aya::Pod for TableMeta {}
    // SAFETY: as above.
    unsafe impl aya::Pod for PrefixData {}
    // SAFETY: as above.
    unsafe impl aya::Pod for BlockEntry {}
    // SAFETY: as above.
    unsafe impl aya::Pod for FilterCounters {}
}
