//! All maps of the kernel side, in one place.

use aya_ebpf::{
    bindings::bpf_spin_lock,
    btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use ml_ids_common::{Counters, Datagram, DatagramKey, FlowKey, LockedFlow, MAX_DATAGRAMS, Packet, Segments};

/// A flow table value: a spin lock and the state that it guards.
pub(crate) type Flow = LockedFlow<bpf_spin_lock>;

/// Size of a table value in 8-byte words.
const FLOW_WORDS: usize = size_of::<Flow>() / 8;

/// Default table size; the agent sets it by `--max-flows`.
const MAX_FLOWS: usize = 131_072;
/// Bytes of the ring buffer; the agent sets it by `--ring-bytes`.
const RING_BYTES: usize = 16 << 20;

/// The flow table. Preallocated, so that a packet never allocates.
#[btf_map]
pub(crate) static FLOWS: HashMap<FlowKey, Flow, MAX_FLOWS> = HashMap::new();

/// What first fragments tell of their datagrams. Only fragments touch it.
#[btf_map]
pub(crate) static DATAGRAMS: LruHashMap<DatagramKey, Datagram, { MAX_DATAGRAMS as usize }> = LruHashMap::new();

/// Finished flows on their way to the agent.
#[btf_map]
pub(crate) static RECORDS: RingBuf<(), RING_BYTES> = RingBuf::new();

/// The books.
#[btf_map]
static COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();

/// A blank table value to insert: only its key is ever written. Untyped, because the verifier forbids direct stores
/// to a value that holds a lock.
#[btf_map]
static BLANK: PerCpuArray<[u64; FLOW_WORDS], 1> = PerCpuArray::new();

/// A received packet while it is being counted. The verifier knows nothing of what is in a map, so it follows what comes
/// after the parser once, and not again for each kind of packet; and on the stack room is scarce.
#[btf_map]
static RECEIVED: PerCpuArray<Packet, 1> = PerCpuArray::new();

/// A packet that is being sent, for the same reasons.
#[btf_map]
static SENT: PerCpuArray<Segments, 1> = PerCpuArray::new();

/// The test clock in microseconds.
#[btf_map]
pub(crate) static CLOCK: Array<u64, 1> = Array::new();

/// This CPU's counters.
#[inline(always)]
pub(crate) fn counters() -> Option<&'static mut Counters> {
    let counters = COUNTERS.get_ptr_mut(0)?;
    // SAFETY: a per-CPU slot, and a hook is not interrupted by another hook on its CPU (both run with softirqs off).
    Some(unsafe { &mut *counters })
}

/// This CPU's place for a received packet.
#[inline(always)]
pub(crate) fn received() -> Option<&'static mut Packet> {
    let packet = RECEIVED.get_ptr_mut(0)?;
    // SAFETY: a per-CPU slot that holds a packet or zeros, which are one, too; see `counters` for exclusiveness.
    Some(unsafe { &mut *packet })
}

/// This CPU's place for a packet that is being sent.
#[inline(always)]
pub(crate) fn sent() -> Option<&'static mut Segments> {
    let segments = SENT.get_ptr_mut(0)?;
    // SAFETY: as above.
    Some(unsafe { &mut *segments })
}

/// A blank value with `key`, ready to be inserted.
#[inline(always)]
pub(crate) fn blank(key: &FlowKey) -> Option<&'static Flow> {
    let blank: *mut Flow = BLANK.get_ptr_mut(0)?.cast();
    // SAFETY: a per-CPU slot of the size of a Flow, 8-byte aligned; see `counters` for exclusiveness.
    unsafe {
        (&raw mut (*blank).state.key).write(*key);
        Some(&*blank)
    }
}
