//! The flow table of offline replay: the engine's states in an ordinary hash table, ended by packets alone.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use ml_ids_common::{Address, Counters, EndReason, FlowKey, FlowRecord, FlowState, Life, Packet, Plan, Profile, Skip};

/// Most five-tuples that are kept at a time, about 4.5 GB. A packet that would open one more is skipped as
/// [`Skip::TableFull`].
pub const MAX_FLOWS: usize = 1 << 23;

/// Replays packets in the order of a capture.
///
/// Nothing ends a flow but its own packets and the end of the capture, exactly as in the reference tools.
pub struct Replay {
    profile: Profile,
    counters: Counters,
    /// Every five-tuple met, in the order of their first packets. An ended flow's entry is vacant until its next one.
    flows: Vec<FlowState>,
    /// Indices into `flows` by key.
    table: HashTable<u32>,
    hasher: RandomState,
    max_flows: usize,
}

impl Replay {
    /// An empty table.
    #[must_use]
    pub fn new(profile: Profile) -> Self {
        Self {
            profile,
            counters: Counters::default(),
            flows: Vec::new(),
            table: HashTable::new(),
            hasher: RandomState::default(),
            max_flows: MAX_FLOWS,
        }
    }

    /// The same with another limit than [`MAX_FLOWS`].
    #[must_use]
    pub fn with_max_flows(mut self, max_flows: usize) -> Self {
        self.max_flows = max_flows.min(u32::MAX as usize);
        self
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
        self.flows.iter().filter(|flow| flow.life == Life::Open as u8).count() as u64
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
        let books = &mut self.counters.ingress;
        books.seen += 1;
        books.seen_bytes += length as u64;
        match parsed {
            Ok(packet) => self.packet(&packet, now_us, emit),
            Err(skip) => {
                self.skip(skip);
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
        emit: &mut impl FnMut(FlowRecord) -> Result<(), E>,
    ) -> Result<(), E> {
        let profile = self.profile;
        let Some(index) = self.entry(&packet.key) else {
            self.skip(Skip::TableFull);
            return Ok(());
        };
        let Some(state) = self.flows.get_mut(index as usize) else { return Ok(()) };
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

    /// Ends the flows that are still open, in the order of their first packets.
    ///
    /// # Errors
    /// Those of `emit`.
    pub fn end<E>(&mut self, emit: &mut impl FnMut(FlowRecord) -> Result<(), E>) -> Result<(), E> {
        let mut rest: Vec<&FlowState> = self.flows.iter().filter(|flow| flow.life == Life::Open as u8).collect();
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

    /// The index of the key's entry, which is made vacant if there was none. `None` when the table is full.
    #[inline]
    fn entry(&mut self, key: &FlowKey) -> Option<u32> {
        let Self { flows, table, hasher, max_flows, .. } = self;
        let hash = hash(hasher, key);
        let same = |index: &u32| flows.get(*index as usize).is_some_and(|flow| flow.key.same(key));
        if let Some(index) = table.find(hash, same) {
            return Some(*index);
        }
        let index = u32::try_from(flows.len()).ok().filter(|index| (*index as usize) < *max_flows)?;
        flows.push(FlowState { key: *key, ..FlowState::default() });
        let rehash = |index: &u32| flows.get(*index as usize).map_or(0, |flow| self::hash(hasher, &flow.key));
        table.insert_unique(hash, index, rehash);
        Some(index)
    }

    fn skip(&mut self, reason: Skip) {
        if let Some(count) = self.counters.ingress.skipped.get_mut(reason as usize) {
            *count += 1;
        }
    }
}

/// Word-wise; the derived implementation feeds the hasher bytes.
#[inline]
fn hash(hasher: &RandomState, key: &FlowKey) -> u64 {
    let &FlowKey { addr_a, addr_b, port_a, port_b, protocol, version, .. } = key;
    let wide = |Address([a, b, c, d]): Address| [pair(a, b), pair(c, d)];
    let mut hasher = hasher.build_hasher();
    for half in wide(addr_a).into_iter().chain(wide(addr_b)) {
        hasher.write_u64(half);
    }
    hasher.write_u64(pair(pair16(port_a, port_b), pair16(protocol.into(), version.into())));
    hasher.finish()
}

#[inline]
fn pair(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

#[inline]
fn pair16(high: u16, low: u16) -> u32 {
    u32::from(high) << 16 | u32::from(low)
}
