//! What the sensor says of itself: what is attached, and the books.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use aya::maps::{MapData, PerCpuArray};
use ml_ids_common::{COUNTER_SETS, Counters, counter_set};

use super::{EgressHook, IngressHook, Options};

/// One interface that is being watched.
#[derive(Clone, Debug)]
pub struct AttachedInterface {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// How received packets are seen.
    pub ingress: IngressHook,
    /// How sent packets are seen, if they are.
    pub egress: Option<EgressHook>,
}

/// Live state of a sensor, shared between its threads and the API.
pub struct SensorState {
    interfaces: Vec<AttachedInterface>,
    max_flows: u32,
    /// Kernel memory of all maps.
    memory_bytes: u64,
    counters: PerCpuArray<MapData, Counters>,
    /// Slots in use at the last look, those of ended flows included.
    entries: AtomicU32,
    /// The table is nearly full, and flows end early.
    pressed: AtomicBool,
    /// How often that has begun.
    presses: AtomicU64,
    /// Records that were sent by the kernel but could not be read.
    malformed_records: AtomicU64,
    sweep_failures: AtomicU64,
}

impl SensorState {
    pub(super) fn new(
        interfaces: Vec<AttachedInterface>,
        options: &Options,
        memory_bytes: u64,
        counters: PerCpuArray<MapData, Counters>,
    ) -> Self {
        Self {
            interfaces,
            max_flows: options.max_flows,
            memory_bytes,
            counters,
            entries: AtomicU32::new(0),
            pressed: AtomicBool::new(false),
            presses: AtomicU64::new(0),
            malformed_records: AtomicU64::new(0),
            sweep_failures: AtomicU64::new(0),
        }
    }

    /// The interfaces that are being watched.
    #[must_use]
    pub fn interfaces(&self) -> &[AttachedInterface] {
        &self.interfaces
    }

    /// Name of an interface by its index.
    #[must_use]
    pub fn interface_name(&self, index: u32) -> Option<&str> {
        self.interfaces.iter().find(|interface| interface.index == index).map(|interface| interface.name.as_str())
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
