//! Bare inserts into preallocated hash tables, with the key of the real table: what a new flow costs at the least.

use aya_ebpf::{
    bindings::xdp_action::XDP_PASS,
    btf_maps::{HashMap, PerCpuArray},
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use ml_ids_common::FlowKey;

/// A value as large as a flow's state.
type Large = [u64; 64];

/// Where the source address stands in an Ethernet frame with IPv4.
const SOURCE: usize = 26;

#[btf_map]
static SMALL_VALUES: HashMap<FlowKey, u64, 131_072> = HashMap::new();
#[btf_map]
static LARGE_VALUES: HashMap<FlowKey, Large, 131_072> = HashMap::new();
/// A value that is too large for the stack.
#[btf_map]
static BLANK: PerCpuArray<Large, 1> = PerCpuArray::new();

/// Inserts eight bytes.
#[xdp(frags)]
fn insert_8(ctx: XdpContext) -> u32 {
    if let Some(key) = key(&ctx) {
        // A full table shows in what the bench finds in it.
        let _ = SMALL_VALUES.insert(&key, 0, 0);
    }
    XDP_PASS
}

/// Inserts 512 bytes.
#[xdp(frags)]
fn insert_512(ctx: XdpContext) -> u32 {
    if let (Some(key), Some(value)) = (key(&ctx), BLANK.get(0)) {
        // As above.
        let _ = LARGE_VALUES.insert(&key, value, 0);
    }
    XDP_PASS
}

/// A key of which only one address is not zero.
#[inline(always)]
fn key(ctx: &XdpContext) -> Option<FlowKey> {
    let start = ctx.data() + SOURCE;
    if start + 4 > ctx.data_end() {
        return None;
    }
    let halves: *const [u16; 2] = core::ptr::with_exposed_provenance(start);
    // SAFETY: inside the packet by the check above, and even.
    let [low, high] = unsafe { halves.read() };
    let mut key = FlowKey::default();
    key.addr_a.0[3] = u32::from(low) | u32::from(high) << 16;
    Some(key)
}
