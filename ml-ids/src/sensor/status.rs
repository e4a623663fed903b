//! What the sensor says of itself: what is attached, and the books.

use std::{
    collections::BTreeMap,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use aya::maps::{MapData, PerCpuArray};
use ml_ids_common::{COUNTER_SETS, Counters, counter_set};

use super::{EgressHook, IngressHook, Options};
use crate::histogram::{Histogram, Scale, Shape};

/// Names of interfaces that are remembered for the flows seen on them, those that are gone included.
const NAMES: usize = 4096;
/// Moving a batch takes microseconds; with a full queue behind it, as long as the scoring.
const DRAIN: Scale = Scale {
    per_unit: 1_000_000_000,
    ends: &[
        10_000,
        25_000,
        50_000,
        100_000,
        250_000,
        500_000,
        1_000_000,
        5_000_000,
        25_000_000,
        100_000_000,
        1_000_000_000,
    ],
};

/// How it stands with a watched interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterfaceState {
    /// Every packet is counted.
    Attached,
    /// Attached, but the interface is switched off or has no carrier.
    Down,
    /// It was there and has disappeared.
    Gone,
    /// It has not been there yet.
    Waiting,
    /// A program could not be attached.
    Failed,
}

/// One interface that is being watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedInterface {
    /// Its name.
    pub name: String,
    /// Its index; `None` if it has not been there yet.
    pub index: Option<u32>,
    /// How it stands.
    pub state: InterfaceState,
    /// Received packets are all that is of interest.
    pub mirror: bool,
    /// How received packets are seen.
    pub ingress: Option<IngressHook>,
    /// How sent packets are seen, if they are.
    pub egress: Option<EgressHook>,
    /// What is wrong with it, in sentences; empty if nothing is.
    pub problems: Vec<String>,
}

impl WatchedInterface {
    /// Whether packets are counted, or would be if there were any.
    #[must_use]
    pub const fn is_attached(&self) -> bool {
        matches!(self.state, InterfaceState::Attached | InterfaceState::Down)
    }
}

/// Live state of a sensor, shared between its threads and the API.
pub struct SensorState {
    interfaces: RwLock<Vec<WatchedInterface>>,
    /// Names by index.
    names: RwLock<BTreeMap<u32, String>>,
    max_flows: u32,
    /// Kernel memory of all maps.
    memory_bytes: u64,
    counters: PerCpuArray<MapData, Counters>,
    /// The books when this agent came: not empty where it goes on with a pinned table.
    at_start: Counters,
    /// Slots in use at the last look, those of ended flows included.
    entries: AtomicU32,
    /// The table is nearly full, and flows end early.
    pressed: AtomicBool,
    /// How often that has begun.
    presses: AtomicU64,
    /// Records that were sent by the kernel but could not be read.
    malformed_records: AtomicU64,
    sweep_failures: AtomicU64,
    /// Time that moving a batch from the ring buffer to the pipeline takes.
    drain: Histogram,
}

impl SensorState {
    pub(super) fn new(options: &Options, memory_bytes: u64, counters: PerCpuArray<MapData, Counters>) -> Self {
        let mut state = Self {
            interfaces: RwLock::default(),
            names: RwLock::default(),
            max_flows: options.max_flows,
            memory_bytes,
            counters,
            entries: AtomicU32::new(0),
            pressed: AtomicBool::new(false),
            presses: AtomicU64::new(0),
            malformed_records: AtomicU64::new(0),
            sweep_failures: AtomicU64::new(0),
            drain: Histogram::new(&DRAIN),
            at_start: Counters::default(),
        };
        state.at_start = state.counters();
        state
    }

    /// The interfaces that are being watched.
    #[must_use]
    pub fn interfaces(&self) -> Vec<WatchedInterface> {
        self.interfaces.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Name of an interface by its index, also of one that is gone.
    #[must_use]
    pub fn interface_name(&self, index: u32) -> Option<String> {
        self.names.read().unwrap_or_else(PoisonError::into_inner).get(&index).cloned()
    }

    /// Replaces what is said of the interfaces.
    pub(super) fn set_interfaces(&self, interfaces: Vec<WatchedInterface>) {
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        for WatchedInterface { name, index, state, .. } in &interfaces {
            // What is gone keeps the name that it had, unless the index has another one by now.
            if let Some(index) = index
                && *state != InterfaceState::Gone
            {
                names.insert(*index, name.clone());
            }
        }
        // Indices go up: the lowest one that is no longer there has been gone for longest.
        while names.len() > NAMES {
            let present = |index: &u32| interfaces.iter().any(|interface| interface.index == Some(*index));
            let Some(oldest) = names.keys().copied().find(|index| !present(index)) else { break };
            names.remove(&oldest);
        }
        drop(names);
        *self.interfaces.write().unwrap_or_else(PoisonError::into_inner) = interfaces;
    }

    /// Kernel memory of the flow table, the ring buffer and the counters, in bytes.
    #[must_use]
    pub const fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// Whether the table is so full that flows end early, and how often it has become so.
    #[must_use]
    pub fn pressure(&self) -> (bool, u64) {
        (self.pressed.load(Ordering::Relaxed), self.presses.load(Ordering::Relaxed))
    }

    /// Flows that the table holds.
    #[must_use]
    pub const fn max_flows(&self) -> u32 {
        self.max_flows
    }

    /// Slots in use at the last look, those of ended flows included.
    #[must_use]
    pub fn entries(&self) -> u32 {
        self.entries.load(Ordering::Relaxed)
    }

    /// Records that could not be read. Anything but 0 is a fault of the build.
    #[must_use]
    pub fn malformed_records(&self) -> u64 {
        self.malformed_records.load(Ordering::Relaxed)
    }

    /// Sweeps that the kernel refused to run.
    #[must_use]
    pub fn sweep_failures(&self) -> u64 {
        self.sweep_failures.load(Ordering::Relaxed)
    }

    /// The books, summed over all CPUs and interfaces. Zero where the map cannot be read.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        for set in 0..COUNTER_SETS {
            self.add_set(&mut sum, set);
        }
        sum
    }

    /// The books when this agent came. Where it goes on with a pinned table, [`SensorState::counters`] goes on from there.
    #[must_use]
    pub const fn counters_at_start(&self) -> &Counters {
        &self.at_start
    }

    /// The books of an interface, and of those that share its set (see [`counter_set`]).
    #[must_use]
    pub fn interface_counters(&self, index: u32) -> Counters {
        let mut sum = Counters::default();
        self.add_set(&mut sum, counter_set(index));
        sum
    }

    fn add_set(&self, sum: &mut Counters, set: u32) {
        if let Ok(values) = self.counters.get(&set, 0) {
            for counters in values.iter() {
                sum.add(counters);
            }
        }
    }

    /// Flows that are open now.
    #[must_use]
    pub fn live_flows(&self) -> u64 {
        let flows = self.counters().flows;
        flows.opened.saturating_sub(flows.ended())
    }

    /// How long it takes to move a batch of finished flows from the ring buffer to the pipeline, in seconds.
    #[must_use]
    pub fn drain_times(&self) -> Shape {
        self.drain.shape()
    }

    pub(super) fn observe_drain(&self, took: Duration) {
        self.drain.observe_nanos(took);
    }

    pub(super) fn set_entries(&self, entries: u32) {
        self.entries.store(entries, Ordering::Relaxed);
    }

    pub(super) fn set_pressed(&self, pressed: bool) {
        self.pressed.store(pressed, Ordering::Relaxed);
        self.presses.fetch_add(u64::from(pressed), Ordering::Relaxed);
    }

    pub(super) fn count_malformed_record(&self) {
        self.malformed_records.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_sweep_failure(&self) {
        self.sweep_failures.fetch_add(1, Ordering::Relaxed);
    }
}
