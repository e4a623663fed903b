//! Packet memory as the parser's [`FrameReader`], and what else the two hook types say of a packet.

use core::{arch::asm, marker::PhantomData};

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::bpf_xdp_get_buff_len,
    programs::{TcContext, XdpContext},
};
use ml_ids_common::{Decap, FrameReader, MAX_HEADER_OFFSET};

/// Bytes of an outgoing socket buffer that are made readable for the parser.
const LINEAR_BYTES: u32 = 192;
/// The same when the headers may be those of a tunnel and of the packet inside.
const LINEAR_BYTES_IN_TUNNEL: u32 = 512;

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
        let offset = in_register(offset);
        if offset > MAX_HEADER_OFFSET as usize {
            return None;
        }
        let start = self.data + offset;
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
        // The mask tells the verifier how wide it is; the compiler cannot know that it is superfluous.
        ((offset ^ u32::from(first)) ^ u32::from(second)) & 0xffff
    }
}

/// The offset in a register of its own.
///
/// The verifier takes a sum for an address in the packet only if it knows how large the offset can be. The verifiers of 5.10
/// and 6.1 lose that when an offset is put onto the stack, and the compiler likes to put one there that is needed later, and to
/// take it back once for the comparison and once for the sum. A copy that is needed for these two alone stays where it is.
#[inline(always)]
fn in_register(offset: u32) -> usize {
    let copy: u64;
    // SAFETY: one operation on registers. No instruction at all would confuse the table of source lines.
    unsafe {
        asm!("{copy} = {offset}", copy = lateout(reg) copy, offset = in(reg) u64::from(offset), options(pure, nomem, nostack))
    };
    copy as usize
}

/// Frame bytes of a received packet, fragments of a multi-buffer frame included.
///
/// Kernels before 5.18 have neither such frames nor the helper; `several_buffers` is then a constant that makes the verifier
/// drop the call.
#[inline(always)]
pub(crate) fn xdp_length(ctx: &XdpContext, several_buffers: bool) -> u32 {
    if !several_buffers {
        return ctx.data_end().wrapping_sub(ctx.data()) as u32;
    }
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

/// Bytes of the VLAN tag that the packet has on the wire, but not in memory because the network card writes it.
#[inline(always)]
pub(crate) fn tc_tag(ctx: &TcContext) -> u32 {
    // SAFETY: the context is the one the kernel gave to the program.
    let present = unsafe { (*ctx.skb.skb).vlan_present };
    if present == 0 { 0 } else { 4 }
}

/// Makes the headers directly readable when the stack has left them in a paged part of the socket buffer.
#[inline(always)]
pub(crate) fn make_headers_linear(ctx: &TcContext, length: u32, decap: Decap) {
    let headers = if decap == Decap::NONE { LINEAR_BYTES } else { LINEAR_BYTES_IN_TUNNEL };
    let wanted = if length < headers { length } else { headers };
    if ctx.data() + (wanted as usize) > ctx.data_end() {
        // A failure leaves the packet as it is: the parser then counts it as truncated.
        let _ = ctx.pull_data(wanted);
    }
    let _ = ctx.as_ptr();
}
