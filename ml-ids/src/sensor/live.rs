//! The flows that are open now, read from the kernel's table beside the hooks that count into it.
//!
//! A look costs what is in use, not what would fit: the due times say which slots are, and neighbours are read with one call.
//! Each slot is copied under its lock, which is held for the copy alone, so that no flow is torn and no packet waits longer
//! than for another packet of its flow. Of what is read only the foremost are kept.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io,
    net::IpAddr,
    os::fd::{AsRawFd as _, OwnedFd},
};

use ml_ids_common::{EndReason, FlowRecord, FlowState, Life, LockedFlow};

use super::{
    clock::{boot_to_unix_us, monotonic_us},
    due::DueTimes,
    map_batch::BatchAttributes,
};

/// `BPF_MAP_LOOKUP_BATCH` (include/uapi/linux/bpf.h); the kernel has it for arrays since 5.6.
const LOOKUP_BATCH: libc::c_long = 24;
/// `BPF_F_LOCK`: copy each element under its own lock.
const UNDER_LOCK: u64 = 4;
/// Most slots of one call: 128 KiB.
const RUN: u32 = 256;
/// Slots not in use that are read along rather than begin another call.
const GAP: u32 = 8;

/// A slot as the kernel has it.
type Slot = LockedFlow<u32>;

/// The kernel's table, for reading.
pub struct LiveFlows {
    states: OwnedFd,
    due_times: DueTimes,
    values: Vec<Slot>,
}

/// One open flow.
#[derive(Clone, Copy, Debug)]
pub struct LiveFlow {
    /// Where it comes from.
    pub source: (IpAddr, u16),
    /// Where it goes to.
    pub destination: (IpAddr, u16),
    /// IP protocol number: 6, 17, 132, or 0 for everything else.
    pub protocol: u8,
    /// Index of the interface of its first packet.
    pub interface: u32,
    /// Time of its first packet, Unix time in microseconds.
    pub start_us: u64,
    /// Time since then, in microseconds.
    pub age_us: u64,
    /// Time since its last packet, in microseconds.
    pub quiet_us: u64,
    /// Packets from the source and to it.
    pub packets: [u64; 2],
    /// Their payload bytes.
    pub bytes: [u64; 2],
    /// Packets with FIN, SYN, RST, PSH, ACK, URG, ECE, CWR.
    pub flags: [u32; 8],
}

/// What a look has found: the foremost in three orders, each from the first on.
#[derive(Clone, Debug, Default)]
pub struct LiveTop {
    /// Open flows.
    pub open: u64,
    /// Those with most packets.
    pub by_packets: Vec<LiveFlow>,
    /// Those with most payload bytes.
    pub by_bytes: Vec<LiveFlow>,
    /// The oldest.
    pub by_age: Vec<LiveFlow>,
}

impl LiveFlows {
    pub(super) const fn new(states: OwnedFd, due_times: DueTimes) -> Self {
        Self { states, due_times, values: Vec::new() }
    }

    /// Looks at all open flows and keeps `most` in each order. Takes about 200 ns a slot in use.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn look(&mut self, most: usize) -> io::Result<LiveTop> {
        let (offset_us, now_us) = (boot_to_unix_us(), monotonic_us());
        let mut found = Found::new(most);
        let used = self.due_times.used();
        for (first, count) in runs(&used) {
            for Slot { state, .. } in self.read(first, count)? {
                if state.life == Life::Open as u8 {
                    found.offer(LiveFlow::of(*state, now_us, offset_us));
                }
            }
        }
        // It may have been much, and the next look may be far.
        self.values = Vec::new();
        Ok(found.sorted())
    }

    /// Neighbouring slots.
    fn read(&mut self, first: u32, count: u32) -> io::Result<&[Slot]> {
        let mut keys = [0u32; RUN as usize];
        let empty = Slot { lock: 0, generation: 0, state: FlowState::default() };
        self.values.resize(RUN as usize, empty);
        // The kernel goes on behind the key that it is given; what follows the greatest of all is the first.
        let (mut before, mut after) = (first.wrapping_sub(1), 0u32);
        let mut attributes = BatchAttributes {
            in_batch: (&raw mut before).expose_provenance() as u64,
            out_batch: (&raw mut after).expose_provenance() as u64,
            keys: keys.as_mut_ptr().expose_provenance() as u64,
            values: self.values.as_mut_ptr().expose_provenance() as u64,
            count: count.min(RUN),
            map: self.states.as_raw_fd().cast_unsigned(),
            element_flags: UNDER_LOCK,
            flags: 0,
        };
        // SAFETY: the attributes point to memory that outlives the call and has room for RUN keys and values; any bits are a
        // valid slot, which holds integers only.
        let _more = unsafe { attributes.call(LOOKUP_BATCH) }?;
        Ok(self.values.get(..attributes.count as usize).unwrap_or_default())
    }
}

impl LiveFlow {
    /// An open flow at `now_us` of the clock that its times are of; `offset_us` more is Unix time.
    pub(crate) fn of(state: FlowState, now_us: u64, offset_us: i64) -> Self {
        let age_us = now_us.saturating_sub(state.start_us);
        let quiet_us = age_us.saturating_sub(u64::try_from(state.last).unwrap_or(0));
        // For its end points; the reason is of no meaning.
        let record = FlowRecord::finish(state, EndReason::Shutdown);
        Self {
            source: record.source(),
            destination: record.destination(),
            protocol: record.protocol(),
            interface: state.interface,
            start_us: state.start_us.saturating_add_signed(offset_us),
            age_us,
            quiet_us,
            packets: [state.forward.packets.into(), state.backward.packets.into()],
            bytes: [state.forward.length_sum, state.backward.length_sum],
            flags: state.flag_counts,
        }
    }
}

/// Slots in use, in order, as runs of neighbours: the first slot of each, and how many.
fn runs(used: &[u32]) -> impl Iterator<Item = (u32, u32)> {
    let mut rest = used;
    std::iter::from_fn(move || {
        let (&first, mut behind) = rest.split_first()?;
        let mut last = first;
        while let Some((&next, further)) = behind.split_first()
            && next - last <= GAP
            && next - first < RUN
        {
            (last, behind) = (next, further);
        }
        rest = behind;
        Some((first, last - first + 1))
    })
}

/// A look that goes on.
pub(crate) struct Found {
    most: usize,
    open: u64,
    packets: Foremost,
    bytes: Foremost,
    age: Foremost,
}

impl Found {
    /// Keeps `most` in each order.
    pub(crate) const fn new(most: usize) -> Self {
        Self { most, open: 0, packets: Foremost::new(), bytes: Foremost::new(), age: Foremost::new() }
    }

    /// One more open flow.
    pub(crate) fn offer(&mut self, flow: LiveFlow) {
        let Self { most, open, packets, bytes, age } = self;
        *open += 1;
        packets.offer(*most, flow.packets.iter().sum(), flow);
        bytes.offer(*most, flow.bytes.iter().sum(), flow);
        age.offer(*most, flow.age_us, flow);
    }

    /// What the look has found.
    pub(crate) fn sorted(self) -> LiveTop {
        let Self { most: _, open, packets, bytes, age } = self;
        LiveTop { open, by_packets: packets.sorted(), by_bytes: bytes.sorted(), by_age: age.sorted() }
    }
}

/// The greatest of what was offered, as many as are wanted.
struct Foremost(BinaryHeap<Reverse<Ranked>>);

struct Ranked(u64, LiveFlow);

impl Foremost {
    const fn new() -> Self {
        Self(BinaryHeap::new())
    }

    fn offer(&mut self, most: usize, rank: u64, flow: LiveFlow) {
        if self.0.len() < most {
            self.0.push(Reverse(Ranked(rank, flow)));
        } else if let Some(mut least) = self.0.peek_mut()
            && least.0.0 < rank
        {
            *least = Reverse(Ranked(rank, flow));
        }
    }

    fn sorted(self) -> Vec<LiveFlow> {
        self.0.into_sorted_vec().into_iter().map(|Reverse(Ranked(_, flow))| flow).collect()
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Ranked {}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(packets: u64) -> LiveFlow {
        let end = (IpAddr::from([10, 0, 0, 1]), 80);
        LiveFlow {
            source: end,
            destination: end,
            protocol: 6,
            interface: 1,
            start_us: 0,
            age_us: 0,
            quiet_us: 0,
            packets: [packets, 0],
            bytes: [0; 2],
            flags: [0; 8],
        }
    }

    #[test]
    fn only_the_foremost_are_kept_and_the_first_comes_first() {
        let mut foremost = Foremost::new();
        for packets in [5, 1, 9, 7, 3, 9, 2] {
            foremost.offer(3, packets, flow(packets));
        }
        let kept: Vec<u64> = foremost.sorted().iter().map(|flow| flow.packets[0]).collect();
        assert_eq!(kept, [9, 9, 7]);
        let mut none = Foremost::new();
        none.offer(0, 1, flow(1));
        assert!(none.sorted().is_empty());
    }

    #[test]
    fn neighbours_are_read_together_up_to_a_length() {
        let found = |used: &[u32]| runs(used).collect::<Vec<_>>();
        assert_eq!(found(&[]), []);
        assert_eq!(found(&[0, 1, 3, 11, 20]), [(0, 12), (20, 1)]);
        let many: Vec<u32> = (0..600).collect();
        assert_eq!(found(&many), [(0, 256), (256, 256), (512, 88)]);
    }
}
