//! A place of each CPU where a packet waits between parsing and counting.
//!
//! The verifier follows each way through the parser separately for as long as it can tell what each has found. What is
//! read back from a map could be anything, so from there on all ways are one, and the counting is checked once. It also
//! spares the stack, of which there are 512 bytes.

use core::hint::black_box;

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};
use ml_ids_common::{Packet, Segments};

/// What waits.
pub(crate) struct Parked {
    pub(crate) packet: Packet,
    /// Of a socket buffer: how it is to be cut.
    pub(crate) segments: Segments,
    /// And how much of a segment is headers.
    pub(crate) headers: u32,
}

/// Room for it in 8-byte words: a map's value is best a type that says nothing of what is in it.
const WORDS: usize = size_of::<Parked>().div_ceil(8);

#[btf_map]
static SCRATCH: PerCpuArray<[u64; WORDS], 1> = PerCpuArray::new();

/// Keeps the packet, and returns it as something of which nothing is known. What else there is room for is what an earlier
/// packet left.
#[inline(always)]
pub(crate) fn park(packet: Packet) -> Option<&'static mut Parked> {
    let kept: *mut Parked = SCRATCH.get_ptr_mut(0)?.cast();
    // SAFETY: a per-CPU value that is large enough and aligned, in which anything is valid, and which belongs to the running
    // hook: no other hook interrupts it on its CPU.
    unsafe {
        (&raw mut (*kept).packet).write(packet);
        Some(black_box(&mut *kept))
    }
}
