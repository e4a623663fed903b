//! A place of each CPU where a packet waits between parsing and counting.
//!
//! The verifier follows each way through the parser separately for as long as it can tell what each has found. What is
//! read back from a map could be anything, so from there on all ways are one, and the counting is checked once. It also
//! spares the stack, of which there are 512 bytes.

use core::hint::black_box;

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};
use ml_ids_common::{Packet, Segments};

/// What a hook keeps here.
pub(crate) struct Scratch {
    packet: Packet,
    segments: Segments,
}

/// Room for a [`Scratch`] in 8-byte words: a map's value is best a type that says nothing of what is in it.
const WORDS: usize = size_of::<Scratch>().div_ceil(8);

#[btf_map]
static SCRATCH: PerCpuArray<[u64; WORDS], 1> = PerCpuArray::new();

impl Scratch {
    /// This CPU's.
    #[inline(always)]
    pub(crate) fn get() -> Option<&'static mut Self> {
        let scratch: *mut Self = SCRATCH.get_ptr_mut(0)?.cast();
        // SAFETY: a per-CPU value that is large enough and aligned, holds integers only, and belongs to the running hook:
        // no other hook interrupts it on its CPU.
        Some(unsafe { &mut *scratch })
    }

    /// Keeps a packet, and returns it as something of which nothing is known.
    #[inline(always)]
    pub(crate) fn park(&mut self, packet: Packet) -> &Packet {
        self.packet = packet;
        black_box(&self.packet)
    }

    /// Keeps the segments of a packet.
    #[inline(always)]
    pub(crate) fn split(&mut self, segments: Segments) {
        self.segments = segments;
    }

    /// The next run of like segments, and how many segments there are in all.
    #[inline(always)]
    pub(crate) fn next_piece(&mut self) -> Option<(&Packet, u32)> {
        let segments = black_box(&mut self.segments);
        let piece = segments.next()?;
        let count = segments.count();
        Some((self.park(piece), count))
    }
}
