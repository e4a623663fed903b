//! What the sensor says of itself: what is attached, and the books.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use aya::maps::{MapData, PerCpuArray};
use ml_ids_common::Counters;

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
    counters: PerCpuArray<MapData, Counters>,
    /// Table entries at the last sweep, those of ended flows included.
    entries: AtomicU32,
    /// Records that were sent by the kernel but could not be read.
    malformed_records: AtomicU64,
    sweep_failures: AtomicU64,
}

impl SensorState {
    pub(super) fn new(
        interfaces: Vec<AttachedInterface>,
        options: &Options,
        counters: PerCpuArray<MapData, Counters>,
    ) -> Self {
        Self {
            interfaces,
            max_flows: options.max_flows,
            counters,
            entries: AtomicU32::new(0),
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

    /// Flow table entries.
    #[must_use]
    pub const fn max_flows(&self) -> u32 {
        self.max_flows
    }

    /// Used table entries at the last sweep, those of ended flows included.
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

    /// The books, summed over all CPUs. All zero when the map cannot be read.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        if let Ok(values) = self.counters.get(&0, 0) {
            for counters in values.iter() {
                sum.add(counters);
            }
        }
        sum
    }

    /// Flows that are open now.
    #[must_use]
    pub fn live_flows(&self) -> u64 {
        let flows = self.counters().flows;
        flows.opened.saturating_sub(flows.emitted + flows.discarded + flows.lost_ring_full)
    }

    pub(super) fn set_entries(&self, entries: u32) {
        self.entries.store(entries, Ordering::Relaxed);
    }

    pub(super) fn count_malformed_record(&self) {
        self.malformed_records.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_sweep_failure(&self) {
        self.sweep_failures.fetch_add(1, Ordering::Relaxed);
    }
}
