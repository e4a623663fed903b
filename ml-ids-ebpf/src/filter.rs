//! What happens to a packet before it is counted: it may be ignored, or dropped because its source is blocked.
//!
//! What is ignored passes, blocked or not. A block ends by the clock, without the agent. What is protected (the
//! allow-list, the host's own addresses, its gateways) is looked up only for packets that would be dropped.

use aya_ebpf::{
    bindings::{
        TC_ACT_SHOT, TC_ACT_UNSPEC,
        xdp_action::{XDP_DROP, XDP_PASS},
    },
    btf_maps::{Array, HashMap, LpmTrie, PerCpuArray, lpm_trie::Key},
    macros::btf_map,
};
use ml_ids_common::{
    BlockEntry, FilterCounters, FilterMask, FrameReader, PORT_WORDS, Packet, PrefixData, Skip, port_bit,
    sender_of_frame,
};

use crate::{clock, tunables};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Blocked prefixes; the agent sets the size by `--block-max`. The agent and `ml-ids block` write it, and it alone says
/// what is blocked.
#[btf_map]
static BLOCKED: LpmTrie<PrefixData, BlockEntry, 10_000> = LpmTrie::new();

/// Prefixes that are never dropped, with the reason as a number that only the agent reads.
#[btf_map]
static PROTECTED: LpmTrie<PrefixData, u64, 4096> = LpmTrie::new();

/// Prefixes whose packets are ignored.
#[btf_map]
static IGNORED: LpmTrie<PrefixData, u64, 4096> = LpmTrie::new();

/// A bit for each TCP and each UDP port whose packets are ignored.
#[btf_map]
static IGNORED_PORTS: Array<u64, { PORT_WORDS as usize }> = Array::new();

/// Interfaces whose packets are ignored, by index.
#[btf_map]
static IGNORED_INTERFACES: HashMap<u32, u32, 256> = HashMap::new();

#[btf_map]
static FILTERED: PerCpuArray<FilterCounters, 1> = PerCpuArray::new();

/// Whether a received packet is to be counted; otherwise why not.
#[inline(always)]
pub(crate) fn received(packet: &Packet, interface: u32) -> Result<(), Skip> {
    sent(packet, interface)?;
    if blocks() && is_blocked(packet.sender()) { Err(Skip::Blocked) } else { Ok(()) }
}

/// Whether a sent packet is to be counted; otherwise why not. What leaves is never dropped.
#[inline(always)]
pub(crate) fn sent(packet: &Packet, interface: u32) -> Result<(), Skip> {
    let ignored = (on(FilterMask::IGNORE_INTERFACE) && is_ignored_interface(interface))
        || (on(FilterMask::IGNORE_PORT) && has_ignored_port(packet))
        || (on(FilterMask::IGNORE_PREFIX) && (is_in(&IGNORED, packet.sender()) || is_in(&IGNORED, packet.receiver())));
    if ignored { Err(Skip::Ignored) } else { Ok(()) }
}

/// Why a received frame that is no packet of a flow is not counted: for that reason, or because its source is blocked.
#[inline(always)]
pub(crate) fn unparsed<R: FrameReader>(reader: &R, interface: u32, skip: Skip) -> Skip {
    if !blocks() || (on(FilterMask::IGNORE_INTERFACE) && is_ignored_interface(interface)) {
        return skip;
    }
    match sender_of_frame(reader) {
        Some(sender) if on(FilterMask::IGNORE_PREFIX) && is_in(&IGNORED, sender) => skip,
        Some(sender) if is_blocked(sender) => Skip::Blocked,
        _ => skip,
    }
}

/// What an XDP program does with a packet of this outcome.
#[inline(always)]
pub(crate) fn xdp_action(outcome: Result<(), Skip>) -> u32 {
    if on(FilterMask::BLOCK) && matches!(outcome, Err(Skip::Blocked)) { XDP_DROP } else { XDP_PASS }
}

/// What a program at TCX or clsact does with a packet of this outcome.
#[inline(always)]
pub(crate) fn tc_action(outcome: Result<(), Skip>) -> i32 {
    if on(FilterMask::BLOCK) && matches!(outcome, Err(Skip::Blocked)) { TC_ACT_SHOT } else { TC_ACT_UNSPEC }
}

#[inline(always)]
fn on(switch: u8) -> bool {
    tunables::filter_mask() & switch != 0
}

#[inline(always)]
fn blocks() -> bool {
    on(FilterMask::BLOCK | FilterMask::DRY_RUN)
}

/// Whether packets of this sender are to be dropped. A dry run counts and lets them through.
#[inline(always)]
fn is_blocked(sender: PrefixData) -> bool {
    let key = Key::new(PrefixData::WHOLE, sender);
    let Some(entry) = BLOCKED.get(&key) else { return false };
    if entry.expires_us <= clock::now_us() {
        return false;
    }
    let Some(counters) = FILTERED.get_ptr_mut(0) else { return false };
    // SAFETY: a per-CPU value of the running hook, as in `maps::counters`.
    let counters = unsafe { &mut *counters };
    if PROTECTED.get(&key).is_some() {
        counters.spared = counters.spared.wrapping_add(1);
        return false;
    }
    let packets = (&raw const entry.packets).cast_mut();
    // SAFETY: a live map value; an increment that is lost to another CPU does not matter, the books have every packet.
    unsafe { packets.write(packets.read().wrapping_add(1)) };
    if on(FilterMask::DRY_RUN) {
        counters.would_block = counters.would_block.wrapping_add(1);
        return false;
    }
    true
}

#[inline(always)]
fn is_in(prefixes: &LpmTrie<PrefixData, u64, 4096>, address: PrefixData) -> bool {
    prefixes.get(&Key::new(PrefixData::WHOLE, address)).is_some()
}

#[inline(always)]
fn is_ignored_interface(interface: u32) -> bool {
    IGNORED_INTERFACES.get_ptr(&interface).is_some()
}

#[inline(always)]
fn has_ignored_port(packet: &Packet) -> bool {
    let udp = match packet.key.protocol {
        TCP => false,
        UDP => true,
        _ => return false,
    };
    is_ignored_port(udp, packet.key.port_a) || is_ignored_port(udp, packet.key.port_b)
}

#[inline(always)]
fn is_ignored_port(udp: bool, port: u16) -> bool {
    let (word, bit) = port_bit(udp, port);
    IGNORED_PORTS.get(word).is_some_and(|word| word & bit != 0)
}
