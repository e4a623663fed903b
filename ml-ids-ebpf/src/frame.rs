//! Packet memory as the parser's [`FrameReader`], and what else the two hook types say of a packet.

use core::marker::PhantomData;

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::bpf_xdp_get_buff_len,
    programs::{TcContext, XdpContext},
};
use ml_ids_common::{FrameReader, MAX_HEADER_OFFSET};

/// Bytes of an outgoing socket buffer that are made readable for the parser.
const LINEAR_BYTES: u32 = 192;

/// The directly readable part of a packet.
pub(crate) struct PacketReader<'a> {
    data: usize,
    data_end: usize,
    context: PhantomData<&'a ()>,
}

impl<'a> PacketReader<'a> {
    /// The linear part of a received packet.
    #[inline(always)]
    pub(crate) fn xdp(ctx: &'a XdpContext) -> Self {
        Self { data: ctx.data(), data_end: ctx.data_end(), context: PhantomData }
    }

    /// The linear part of a packet that is being sent.
    #[inline(always)]
    pub(crate) fn tc(ctx: &'a TcContext) -> Self {
        Self { data: ctx.data(), data_end: ctx.data_end(), context: PhantomData }
    }
}

impl FrameReader for PacketReader<'_> {
    #[inline(always)]
    fn halfwords<const N: usize>(&self, offset: u32) -> Option<[u16; N]> {
        // The bound lets the verifier follow the pointer arithmetic.
        if offset > MAX_HEADER_OFFSET {
            return None;
        }
        let start = self.data + offset as usize;
        if start + 2 * N > self.data_end {
            return None;
        }
        let words: *const [u16; N] = core::ptr::with_exposed_provenance(start);
        // SAFETY: inside the packet by the check above; packet memory and all header offsets are even.
        Some(unsafe { words.read() })
    }

    /// Two loads of the same bytes cancel out, which the compiler and the verifier cannot know.
    #[inline(always)]
    fn forget(&self, offset: u32) -> u32 {
        if self.data + 2 > self.data_end {
            return offset;
        }
        let word: *const u16 = core::ptr::with_exposed_provenance(self.data);
        // SAFETY: inside the packet by the check above.
        let (first, second) = unsafe { (word.read_volatile(), word.read_volatile()) };
        (offset ^ u32::from(first)) ^ u32::from(second)
    }
}

/// Frame bytes of a received packet, fragments of a multi-buffer frame included.
#[inline(always)]
pub(crate) fn xdp_length(ctx: &XdpContext) -> u32 {
    // SAFETY: the context is the one the kernel gave to the program.
    unsafe { bpf_xdp_get_buff_len(ctx.ctx) as u32 }
}

/// Interface index on which the packet was received.
#[inline(always)]
pub(crate) fn xdp_interface(ctx: &XdpContext) -> u32 {
    ctx.ingress_ifindex() as u32
}

/// Interface index of a socket buffer.
#[inline(always)]
pub(crate) fn tc_interface(ctx: &TcContext) -> u32 {
    // SAFETY: the context is the one the kernel gave to the program.
    unsafe { (*ctx.skb.skb).ifindex }
}

/// Makes the headers directly readable when the stack has left them in a paged part of the socket buffer.
#[inline(always)]
pub(crate) fn make_headers_linear(ctx: &TcContext, length: u32) {
    let wanted = if length < LINEAR_BYTES { length } else { LINEAR_BYTES };
    if ctx.data() + (wanted as usize) > ctx.data_end() {
        // A failure leaves the packet as it is: the parser then counts it as truncated.
        let _ = ctx.pull_data(wanted);
    }
    let _ = ctx.as_ptr();
}
