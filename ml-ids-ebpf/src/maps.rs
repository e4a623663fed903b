//! All maps of the kernel side, in one place.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, bpf_spin_lock},
    btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf, Stack},
    macros::btf_map,
};
use ml_ids_common::{
    COUNTER_SETS, Counters, Datagram, DatagramKey, FlowKey, LockedFlow, MAX_DATAGRAMS, SlotRef, TableMeta,
};

/// A slot of the state array: a spin lock and the state that it guards.
pub(crate) type Flow = LockedFlow<bpf_spin_lock>;

/// Default number of slots; the agent sets it by `--max-flows`, for all maps of that size.
const MAX_FLOWS: usize = 131_072;
/// Bytes of the ring buffer; the agent sets it by `--ring-bytes`.
const RING_BYTES: usize = 16 << 20;

/// Which slot holds a five-tuple's state. Preallocated, so that a packet never allocates.
#[btf_map]
pub(crate) static FLOWS: HashMap<FlowKey, SlotRef, MAX_FLOWS> = HashMap::new();

/// The states. An array, because its elements are never freed: a program that holds one too long finds another
/// generation in it, and no memory is written behind its back.
#[btf_map]
pub(crate) static STATES: Array<Flow, MAX_FLOWS> = Array::new();

/// Slots that hold no flow. The one freed last is given out first: it is still in the cache.
#[btf_map]
pub(crate) static FREE: Stack<u32, MAX_FLOWS> = Stack::new();

/// The time at which a slot needs a look, in microseconds, 0 for none. Written under the slot's lock; the agent reads it
/// through a memory mapping, so that waiting for the next flow to end costs the kernel nothing.
#[btf_map]
pub(crate) static DUE: Array<u64, MAX_FLOWS, { BPF_F_MMAPABLE as usize }> = Array::new();

/// Where the search for something to evict goes on. Updates that are lost do no harm.
#[btf_map]
pub(crate) static HAND: Array<u32, 1> = Array::new();

/// What first fragments tell of their datagrams. Only fragments touch it.
#[btf_map]
pub(crate) static DATAGRAMS: LruHashMap<DatagramKey, Datagram, { MAX_DATAGRAMS as usize }> = LruHashMap::new();

/// Finished flows on their way to the agent.
#[btf_map]
pub(crate) static RECORDS: RingBuf<(), RING_BYTES> = RingBuf::new();

/// The books: a set for each interface, by the low bits of its index, and one of the sweep.
#[btf_map]
static COUNTERS: PerCpuArray<Counters, { COUNTER_SETS as usize }> = PerCpuArray::new();

/// What the table is, for the agent that finds it pinned. No program reads it.
#[btf_map]
static META: Array<TableMeta, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// The test clock in microseconds.
#[btf_map]
pub(crate) static CLOCK: Array<u64, 1> = Array::new();

/// A set of this CPU's counters.
#[inline(always)]
pub(crate) fn counters(set: u32) -> Option<&'static mut Counters> {
    let counters = COUNTERS.get_ptr_mut(set)?;
    // SAFETY: a per-CPU slot. A hook is not interrupted by another hook on its CPU (both run with softirqs off), and the
    // sweep, which may be, has a set of its own.
    Some(unsafe { &mut *counters })
}
