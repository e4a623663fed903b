//! The integer state of one flow: everything that the 78 features of all profiles are computed from.
//!
//! The layout is shared with the kernel: `repr(C)`, no implicit padding, sizes pinned below. Times are microseconds.
//! Offsets count from the flow's first packet and are signed, because captures hold packets that are older than their
//! predecessor. What can be derived is not stored: a direction's gaps sum to `last - first` and count `packets - 1`.

use crate::FlowKey;

/// Where a table entry stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Life {
    /// No flow: freshly inserted, or ended with nothing to remember.
    Vacant = 0,
    /// A live flow.
    Open = 1,
    /// The flow has been emitted; the entry stays so that late packets do not open a bogus flow and a continuation
    /// knows its source.
    Emitted = 2,
}

/// Moments of one kind of stretch (active or idle), in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Spans {
    /// Sum of squares.
    pub square_sum: u64,
    /// Sum.
    pub sum: u64,
    /// Longest.
    pub max: u32,
    /// Shortest.
    pub min: u32,
    /// Number of stretches.
    pub count: u32,
    /// Always zero.
    pub reserved: u32,
}

/// Counters of one direction of a flow. Times are microsecond offsets from the flow's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Direction {
    /// Payload bytes.
    pub length_sum: u64,
    /// Sum of squared payload bytes.
    pub length_square_sum: u64,
    /// Payload bytes with Ethernet padding.
    pub padded_sum: u64,
    /// Sum of squared padded payload bytes.
    pub padded_square_sum: u64,
    /// Layer 4 header bytes.
    pub header_sum: u64,
    /// Sum of squared gaps between packets of this direction.
    pub gap_square_sum: u64,
    /// Bytes in bulks.
    pub bulk_bytes: u64,
    /// Time in bulks.
    pub bulk_duration: i64,
    /// Packets.
    pub packets: u32,
    /// Least payload.
    pub length_min: u32,
    /// Largest payload.
    pub length_max: u32,
    /// Least padded payload.
    pub padded_min: u32,
    /// Largest padded payload.
    pub padded_max: u32,
    /// Shortest gap.
    pub gap_min: i32,
    /// Longest gap.
    pub gap_max: i32,
    /// Time of the first packet.
    pub first: i32,
    /// Time of the last packet.
    pub last: i32,
    /// Packets with PSH.
    pub psh: u32,
    /// Packets with URG.
    pub urg: u32,
    /// Packets with FIN that count for termination.
    pub fin: u32,
    /// Packets with payload.
    pub data_packets: u32,
    /// Packets with payload, padding counted as payload.
    pub padded_data_packets: u32,
    /// Least layer 4 header; 0 unless the flow's first packet went this way.
    pub header_min: u32,
    /// Start of the bulk in progress, [`Direction::UNSET`] when there is none.
    pub bulk_start: i32,
    /// Last data packet, [`Direction::UNSET`] when there was none.
    pub bulk_last: i32,
    /// Packets of the bulk in progress.
    pub bulk_run_packets: u32,
    /// Bytes of a run that is no bulk yet.
    pub bulk_run_bytes: u32,
    /// Finished bulks (four packets or more).
    pub bulks: u32,
    /// Packets in bulks.
    pub bulk_packets: u32,
    /// Later fragments of IP datagrams. They are none of the packets above.
    pub fragments: u32,
}

impl Direction {
    /// A time before every other one.
    pub const UNSET: i32 = i32::MIN;
}

/// The state of one flow, and, once it has ended, its record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FlowState {
    /// Five-tuple in canonical order.
    pub key: FlowKey,
    /// Time of the first packet in microseconds: Unix time offline, since boot in the kernel.
    pub start_us: u64,
    /// [`Life`].
    pub life: u8,
    /// Teardown: 0 open, 1 first FIN, 2 FIN of both directions, 3 ended.
    pub teardown: u8,
    /// [`crate::EndReason`], set when the flow ends.
    pub reason: u8,
    /// 1 when the flow's source is end point b of the key.
    pub source_is_b: u8,
    /// Interface index of the flow's first packet, 0 offline.
    pub interface: u32,
    /// Time of the last packet.
    pub last: i32,
    /// Start of the current active stretch.
    pub active_start: i32,
    /// Shortest gap between packets of the flow.
    pub gap_min: i32,
    /// Longest gap between packets of the flow.
    pub gap_max: i32,
    /// Sum of squared gaps between packets of the flow.
    pub gap_square_sum: u64,
    /// Gaps longer than a second.
    pub long_gaps: u32,
    /// Packets that were older than their predecessor.
    pub disordered: u32,
    /// Active stretches.
    pub active: Spans,
    /// Idle gaps.
    pub idle: Spans,
    /// Packets with FIN, SYN, RST, PSH, ACK, URG, ECE, CWR.
    pub flag_counts: [u32; 8],
    /// Payload of the first packet.
    pub first_length: u32,
    /// Padded payload of the first packet.
    pub first_padded: u32,
    /// Window field of the first packet.
    pub first_window: u16,
    /// Window field of the last backward packet.
    pub backward_window_last: u16,
    /// First window field of a backward packet that is not 0.
    pub backward_window_first: u16,
    /// TCP flags of the first packet.
    pub first_flags: u8,
    /// 1 when the first packet was backward.
    pub first_backward: u8,
    /// Packets of the flow's source.
    pub forward: Direction,
    /// Packets of the flow's destination.
    pub backward: Direction,
}

/// Where a five-tuple's state is: a slot of the state array, as it was given out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SlotRef {
    /// Index into the state array.
    pub slot: u32,
    /// The slot's generation when it was given out. Another one in the slot says that the flow is gone from it.
    pub generation: u32,
}

/// A slot of the state array: the state behind its lock word. `L` is the kernel's `bpf_spin_lock`, or `u32` in the agent.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct LockedFlow<L> {
    /// The lock word. Everything else is written under it.
    pub lock: L,
    /// How often the slot has been freed, wrapping.
    pub generation: u32,
    /// The flow.
    pub state: FlowState,
}

const _: () = assert!(size_of::<Spans>() == 32);
const _: () = assert!(size_of::<Direction>() == 152);
const _: () = assert!(size_of::<FlowState>() == 504);
const _: () = assert!(size_of::<LockedFlow<u32>>() == 512);
// The engine counts two flags at a time.
const _: () = assert!(core::mem::offset_of!(FlowState, flag_counts).is_multiple_of(8));
const _: () = assert!(size_of::<SlotRef>() == 8);

impl FlowState {
    /// Packets of both directions.
    #[inline(always)]
    #[must_use]
    pub const fn packets(&self) -> u32 {
        self.forward.packets.wrapping_add(self.backward.packets)
    }

    /// Writes zero over everything, word by word. A plain assignment becomes a call of `memset`, byte by byte, in
    /// eBPF, and no call is allowed while a spin lock is held.
    #[inline(always)]
    pub(crate) fn clear(&mut self) {
        const WORDS: usize = size_of::<FlowState>() / 8;
        let words: *mut u64 = core::ptr::from_mut(self).cast();
        let mut index = 0;
        while index < WORDS {
            // SAFETY: the struct is WORDS * 8 bytes long and 8-byte aligned, and all-zero is valid for each field.
            unsafe { words.add(index).write_volatile(0) };
            index += 1;
        }
    }

    /// Copies the state to `target`, word by word, for the same reason.
    ///
    /// # Safety
    /// `target` must be valid for writing a `FlowState` and 8-byte aligned.
    #[inline(always)]
    pub unsafe fn copy_to(&self, target: *mut Self) {
        const WORDS: usize = size_of::<FlowState>() / 8;
        let from: *const u64 = core::ptr::from_ref(self).cast();
        let to: *mut u64 = target.cast();
        let mut index = 0;
        while index < WORDS {
            // SAFETY: both are WORDS * 8 bytes long and aligned; `target` by the caller's promise.
            unsafe { to.add(index).write_volatile(from.add(index).read_volatile()) };
            index += 1;
        }
    }
}
