//! The books: what became of every packet and of every flow. A set per CPU and interface in the kernel, summed by the agent.
//!
//! `seen = in_flow + Σ skipped` for each hook, and
//! `opened = emitted + discarded + lost + evicted + live` for flows.

use crate::Skip;

/// Where a packet was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Hook {
    /// Received packets (XDP).
    Ingress = 0,
    /// Sent packets (TCX or clsact egress).
    Egress = 1,
}

impl Hook {
    /// Both hooks.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    /// The name used in logs, `/health` and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// Sets of counters that the kernel keeps: one for each interface by the low eight bits of its index, one of the sweep.
pub const COUNTER_SETS: u32 = 257;
/// The sweep's set.
pub const SWEEP_COUNTERS: u32 = 256;

/// The set of an interface. Interfaces whose indices are 256 apart share one.
#[inline(always)]
#[must_use]
pub const fn counter_set(interface: u32) -> u32 {
    interface & 0xff
}

/// Packets of one hook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct HookCounters {
    /// Frames that the program was given.
    pub seen: u64,
    /// Their bytes.
    pub seen_bytes: u64,
    /// Packets counted into a flow.
    pub in_flow: u64,
    /// Frames that were not, by [`Skip`].
    pub skipped: [u64; Skip::COUNT],
}

/// Flows of the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FlowCounters {
    /// Flows opened.
    pub opened: u64,
    /// Records sent to the agent.
    pub emitted: u64,
    /// Flows that ended but are too short for the profile to be emitted.
    pub discarded: u64,
    /// Flows that ended while the ring buffer was full.
    pub lost_ring_full: u64,
    /// Packets of the flows that were lost.
    pub lost_packets: u64,
    /// Flows that were given up because the table was full, without a record.
    pub evicted: u64,
    /// Packets of the flows that were given up.
    pub evicted_packets: u64,
    /// Packets whose clock was behind the flow's last packet (other CPU); they count as simultaneous with it.
    pub clock_steps: u64,
}

/// All counters of one CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counters {
    /// Packets received.
    pub ingress: HookCounters,
    /// Packets sent.
    pub egress: HookCounters,
    /// Flows.
    pub flows: FlowCounters,
}

const _: () = assert!(size_of::<Counters>() == 8 * (2 * (3 + Skip::COUNT) + 8));

impl FlowCounters {
    /// Flows that have ended, in whatever way.
    #[must_use]
    pub const fn ended(&self) -> u64 {
        self.emitted + self.discarded + self.lost_ring_full + self.evicted
    }
}

impl HookCounters {
    /// Packets that are in no flow.
    #[must_use]
    pub fn skipped_total(&self) -> u64 {
        self.skipped.iter().fold(0, |sum, count| sum.wrapping_add(*count))
    }

    /// Whether every packet is accounted for.
    #[must_use]
    pub fn balanced(&self) -> bool {
        self.seen == self.in_flow.wrapping_add(self.skipped_total())
    }

    fn add(&mut self, other: &Self) {
        let Self { seen, seen_bytes, in_flow, skipped } = other;
        self.seen = self.seen.wrapping_add(*seen);
        self.seen_bytes = self.seen_bytes.wrapping_add(*seen_bytes);
        self.in_flow = self.in_flow.wrapping_add(*in_flow);
        for (sum, count) in self.skipped.iter_mut().zip(skipped) {
            *sum = sum.wrapping_add(*count);
        }
    }
}

impl Counters {
    /// The counters of a hook.
    #[must_use]
    pub const fn hook(&self, hook: Hook) -> &HookCounters {
        match hook {
            Hook::Ingress => &self.ingress,
            Hook::Egress => &self.egress,
        }
    }

    /// Adds another CPU's or interface's counters.
    pub fn add(&mut self, other: &Self) {
        let Self { ingress, egress, flows } = other;
        self.ingress.add(ingress);
        self.egress.add(egress);
        let FlowCounters {
            opened,
            emitted,
            discarded,
            lost_ring_full,
            lost_packets,
            evicted,
            evicted_packets,
            clock_steps,
        } = flows;
        let own = &mut self.flows;
        own.opened = own.opened.wrapping_add(*opened);
        own.emitted = own.emitted.wrapping_add(*emitted);
        own.discarded = own.discarded.wrapping_add(*discarded);
        own.lost_ring_full = own.lost_ring_full.wrapping_add(*lost_ring_full);
        own.lost_packets = own.lost_packets.wrapping_add(*lost_packets);
        own.evicted = own.evicted.wrapping_add(*evicted);
        own.evicted_packets = own.evicted_packets.wrapping_add(*evicted_packets);
        own.clock_steps = own.clock_steps.wrapping_add(*clock_steps);
    }
}
