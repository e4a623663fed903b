//! The flow table of offline replay: the engine's states in an ordinary hash table, ended by packets alone.
//!
//! A table of many flows is larger than any cache, and waiting for memory is most of what a packet then costs. So the
//! flows of [`AHEAD`] packets are looked up, and their memory asked for, before the first of them is counted.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use ml_ids_common::{
    Address, Counters, Decap, EndReason, FlowKey, FlowRecord, FlowState, Fragment, IpVersion, Life, Packet, Plan,
    Profile, Skip,
};

use super::fragments::Datagrams;

mod sweep;

/// Most five-tuples that are kept at a time, about 4.5 GB. A packet that would open one more is skipped as
/// [`Skip::TableFull`].
pub const MAX_FLOWS: usize = 1 << 23;

/// Packets whose flows are looked up before any is counted: their states fill half of a core's first cache.
const AHEAD: usize = 32;

/// A frame as far as it is understood without its flow.
#[derive(Clone, Copy, Debug)]
pub struct ParsedFrame {
    /// Microseconds since 1970.
    pub time_us: u64,
    /// Captured bytes.
    pub length: u32,
    /// Its packet, or why it has none.
    pub packet: Result<Packet, Skip>,
}

/// A flow's state on cache lines of its own.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Slot(FlowState);

/// Replays packets in the order of a capture.
///
/// Nothing ends a flow but its own packets and the end of the capture, exactly as in the reference tools.
pub struct Replay {
    profile: Profile,
    decap: Decap,
    counters: Counters,
    /// Every five-tuple met, in the order of their first packets. An ended flow's entry is vacant until its next one.
    flows: Vec<Slot>,
    /// Indices into `flows` by key.
    table: HashTable<u32>,
    hasher: RandomState,
    datagrams: Datagrams,
    max_flows: usize,
}

impl Replay {
    /// An empty table.
    #[must_use]
    pub fn new(profile: Profile) -> Self {
        Self {
            profile,
            decap: Decap::NONE,
            counters: Counters::default(),
            flows: Vec::new(),
            table: HashTable::new(),
            hasher: RandomState::default(),
            datagrams: Datagrams::default(),
            max_flows: MAX_FLOWS,
        }
    }

    /// The same with another limit than [`MAX_FLOWS`].
    #[must_use]
    pub fn with_max_flows(mut self, max_flows: usize) -> Self {
        self.max_flows = max_flows.min(u32::MAX as usize);
        self
    }

    /// The same with tunnels to be looked into.
    #[must_use]
    pub const fn with_decap(mut self, decap: Decap) -> Self {
        self.decap = decap;
        self
    }

    /// The tunnels whose inner packets are counted.
    #[must_use]
    pub const fn decap(&self) -> Decap {
        self.decap
    }

    /// The profile that packets are counted by.
    #[must_use]
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    /// The books so far. Every frame counts as received.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Flows that are open now.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.open().count() as u64
    }

    /// Five-tuples that are kept now.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.flows.len()
    }

    /// The flows that are open now.
    pub(super) fn open(&self) -> impl Iterator<Item = &FlowState> {
        self.flows.iter().map(|Slot(flow)| flow).filter(|flow| flow.life == Life::Open as u8)
    }

    /// As [`Self::frame`], for each of `frames`.
    ///
    /// # Errors
    /// Those of `emit`.
    pub fn frames<E>(
        &mut self,
        frames: &[ParsedFrame],
        emit: &mut impl FnMut(FlowRecord) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut entries = [None; AHEAD];
        for frames in frames.chunks(AHEAD) {
            for (entry, frame) in entries.iter_mut().zip(frames) {
                *entry = frame.packet.as_ref().ok().and_then(|packet| self.find(&packet.key));
                if let Some(Slot(flow)) = entry.and_then(|index| self.flows.get(index as usize)) {
                    prefetch(flow);
                }
            }
            for (entry, frame) in entries.iter().zip(frames) {
                let &ParsedFrame { time_us, length, ref packet } = frame;
                self.found(packet, length as usize, time_us, *entry, emit)?;
            }
        }
        Ok(())
    }

    /// Accounts for a frame of `length` captured bytes and counts its packet, if it has one.
    ///
    /// # Errors
    /// Those of `emit`.
    #[inline]
    pub fn frame<E>(
        &mut self,
        parsed: Result<Packet, Skip>,
        length: usize,
        now_us: u64,
        emit: &mut impl FnMut(FlowRecord) -> Result<(), E>,
    ) -> Result<(), E> {
        self.found(&parsed, length, now_us, None, emit)
    }

    /// [`Self::frame`] with the entry where the packet's flow may be.
    #[inline]
    fn found<E>(
        &mut self,
        parsed: &Result<Packet, Skip>,
        length: usize,
        now_us: u64,
        entry: Option<u32>,
        emit: &mut impl FnMut(FlowRecord) -> Result<(), E>,
    ) -> Result<(), E> {
        let books = &mut self.counters.ingress;
        books.seen += 1;
        books.seen_bytes += length as u64;
        match parsed {
            Ok(packet) if packet.fragment != Fragment::NONE => self.fragment(*packet, now_us, emit),
            Ok(packet) => self.packet(packet, now_us, entry, emit),
            Err(skip) => {
                self.skip(*skip);
                Ok(())
            }
        }
    }

    /// Counts a packet into its flow, opening and ending flows as the engine says.
    ///
    /// # Errors
    /// Those of `emit`.
    #[inline]
    fn packet<E>(
        &mut self,
        packet: &Packet,
        now_us: u64,
        entry: Option<u32>,
        emit: &mut impl FnMut(FlowRecord) -> Result<(), E>,
    ) -> Result<(), E> {
        let profile = self.profile;
        let known = entry.filter(|index| self.is_at(*index, &packet.key));
        let Some(index) = known.or_else(|| self.entry(&packet.key)) else {
            self.skip(Skip::TableFull);
            return Ok(());
        };
        let Some(Slot(state)) = self.flows.get_mut(index as usize) else { return Ok(()) };
        let counters = &mut self.counters;
        let plan = state.plan(packet, now_us, profile);
        let mut ended = None;
        match plan {
            Plan::Add => {}
            Plan::Open { .. } => counters.flows.opened += 1,
            Plan::Reopen { .. } => {
                counters.flows.discarded += u64::from(state.life == Life::Open as u8);
                counters.flows.opened += 1;
            }
            Plan::EndAndOpen { .. } => {
                ended = Some(FlowRecord::finish(*state, EndReason::Timeout));
                counters.flows.opened += 1;
            }
            Plan::AddAndEnd => {
                state.apply(plan, packet, now_us, 0, profile);
                ended = Some(FlowRecord::finish(*state, EndReason::Fin));
                state.vacate();
            }
            Plan::Late => {
                self.skip(Skip::AfterEnd);
                return Ok(());
            }
        }
        if !matches!(plan, Plan::AddAndEnd) {
            state.apply(plan, packet, now_us, 0, profile);
        }
        counters.ingress.in_flow += 1;
        match ended {
            Some(record) => {
                counters.flows.emitted += 1;
                emit(record)
            }
            None => Ok(()),
        }
    }

    /// Notes a first fragment, which then is a packet like any other, and counts a later one in the flow of the first.
    #[cold]
    fn fragment<E>(
        &mut self,
        mut packet: Packet,
        now_us: u64,
        emit: &mut impl FnMut(FlowRecord) -> Result<(), E>,
    ) -> Result<(), E> {
        let resolved = self.datagrams.resolve(&mut packet);
        if packet.fragment == Fragment::FIRST {
            return self.packet(&packet, now_us, None, emit);
        }
        let outcome = resolved.and_then(|()| {
            let index = self.find(&packet.key).ok_or(Skip::FragmentOrphan)?;
            let Slot(state) = self.flows.get_mut(index as usize).ok_or(Skip::FragmentOrphan)?;
            state.fragment(&packet, now_us)
        });
        match outcome {
            Ok(()) => self.counters.ingress.in_flow += 1,
            Err(skip) => self.skip(skip),
        }
        Ok(())
    }

    /// Ends the flows that are still open, in the order of their first packets.
    ///
    /// # Errors
    /// Those of `emit`.
    pub fn end<E>(&mut self, emit: &mut impl FnMut(FlowRecord) -> Result<(), E>) -> Result<(), E> {
        let mut rest: Vec<&FlowState> =
            self.flows.iter().map(|Slot(flow)| flow).filter(|flow| flow.life == Life::Open as u8).collect();
        rest.sort_by_key(|flow| flow.start_us);
        for state in rest {
            if state.packets() < self.profile.min_packets() {
                self.counters.flows.discarded += 1;
            } else {
                self.counters.flows.emitted += 1;
                emit(FlowRecord::finish(*state, EndReason::EndOfCapture))?;
            }
        }
        self.flows.clear();
        self.table.clear();
        Ok(())
    }

    #[inline]
    fn is_at(&self, index: u32, key: &FlowKey) -> bool {
        self.flows.get(index as usize).is_some_and(|Slot(flow)| flow.key.same(key))
    }

    #[inline]
    fn find(&self, key: &FlowKey) -> Option<u32> {
        self.table.find(hash(&self.hasher, key), |index| self.is_at(*index, key)).copied()
    }

    /// The index of the key's entry, which is made vacant if there was none. `None` when the table is full.
    fn entry(&mut self, key: &FlowKey) -> Option<u32> {
        if let Some(index) = self.find(key) {
            return Some(index);
        }
        let Self { flows, table, hasher, max_flows, .. } = self;
        let index = u32::try_from(flows.len()).ok().filter(|index| (*index as usize) < *max_flows)?;
        flows.push(Slot(FlowState { key: *key, ..FlowState::default() }));
        let rehash = |index: &u32| flows.get(*index as usize).map_or(0, |Slot(flow)| self::hash(hasher, &flow.key));
        table.insert_unique(hash(hasher, key), index, rehash);
        Some(index)
    }

    fn skip(&mut self, reason: Skip) {
        if let Some(count) = self.counters.ingress.skipped.get_mut(reason as usize) {
            *count += 1;
        }
    }
}

/// Word-wise; the derived implementation feeds the hasher bytes. The words that are zero for every IPv4 address are left
/// out.
#[inline]
fn hash(hasher: &RandomState, key: &FlowKey) -> u64 {
    let &FlowKey { addr_a: Address([a, b, c, d]), addr_b: Address([e, f, g, h]), port_a, port_b, .. } = key;
    let mut hasher = hasher.build_hasher();
    if key.version != IpVersion::V4 as u8 {
        for (high, low) in [(a, b), (e, f), (c, g)] {
            hasher.write_u64(pair(high, low));
        }
    }
    hasher.write_u64(pair(d, h));
    hasher.write_u64(pair(pair16(port_a, port_b), pair16(key.protocol.into(), key.version.into())));
    hasher.finish()
}

/// Asks for the memory of a flow before it is needed.
#[inline]
fn prefetch(flow: &FlowState) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..size_of::<FlowState>().div_ceil(64) {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint; it does not access memory and never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(flow).cast::<i8>().wrapping_add(64 * line)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = flow;
}

#[inline]
fn pair(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

#[inline]
fn pair16(high: u16, low: u16) -> u32 {
    u32::from(high) << 16 | u32::from(low)
}

#[cfg(test)]
mod tests;
