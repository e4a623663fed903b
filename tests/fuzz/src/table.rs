//! The flow table in memory, driven as the kernel's is (`ml-ids-ebpf/src/table.rs`, `sweep.rs`), with the packets of
//! every live flow kept beside it so that each finished one can be counted again.

use std::collections::HashMap;

use ml_ids_common::{
    Address, Datagram, DatagramKey, EndReason, FLOW_LIMIT_US, FlowCounters, FlowKey, FlowRecord, FlowState, Fragment,
    HookCounters, LINGER_US, Life, Packet, Plan, Profile, Skip, SweepAction,
};

use crate::{
    identities,
    recount::{self, Fragments, Seen},
};

/// One profile's table and its books.
pub(crate) struct Table {
    profile: Profile,
    /// A packet that is older than its predecessor counts as simultaneous with it, as live capture does; replay of a
    /// capture lets time run backwards.
    monotonic: bool,
    capacity: usize,
    entries: HashMap<FlowKey, Entry>,
    datagrams: HashMap<DatagramKey, (Datagram, First)>,
    pub(crate) packets: HookCounters,
    pub(crate) flows: FlowCounters,
    /// Packets of the longest flow emitted.
    pub(crate) longest: u32,
}

#[derive(Default)]
struct Entry {
    state: FlowState,
    packets: Vec<Seen>,
    fragments: Fragments,
}

/// A first fragment, kept to check what later ones make of its note.
struct First {
    key: FlowKey,
    source: Address,
}

impl Table {
    pub(crate) fn new(profile: Profile, monotonic: bool, capacity: usize) -> Self {
        Self {
            profile,
            monotonic,
            capacity,
            entries: HashMap::new(),
            datagrams: HashMap::new(),
            packets: HookCounters::default(),
            flows: FlowCounters::default(),
            longest: 0,
        }
    }

    pub(crate) const fn profile(&self) -> Profile {
        self.profile
    }

    /// Counts a frame that was parsed for this table's profile.
    pub(crate) fn frame(&mut self, parsed: Result<Packet, Skip>, bytes: u32, now_us: u64) -> Result<(), String> {
        let outcome = match parsed {
            Ok(packet) if packet.fragment == Fragment::LATER => self.later_fragment(packet, now_us)?,
            Ok(packet) => self.packet(&packet, now_us)?,
            Err(skip) => Err(skip),
        };
        self.packets.seen += 1;
        self.packets.seen_bytes += u64::from(bytes);
        match outcome {
            Ok(()) => self.packets.in_flow += 1,
            Err(skip) => self.packets.skipped[skip as usize] += 1,
        }
        Ok(())
    }

    fn later_fragment(&mut self, mut packet: Packet, now_us: u64) -> Result<Result<(), Skip>, String> {
        let Some((datagram, first)) = self.datagrams.get(&packet.datagram_key()) else {
            return Ok(Err(Skip::FragmentOrphan));
        };
        packet.attribute(datagram);
        if packet.key != first.key || source(&packet) != first.source {
            return Err(format!("{packet:?} is given to another flow than the first fragment's, {:?}", first.key));
        }
        let Some(entry) = self.entries.get_mut(&packet.key) else { return Ok(Err(Skip::FragmentOrphan)) };
        let before = entry.state;
        let outcome = entry.state.fragment(&packet, now_us);
        let over = now_us.wrapping_sub(before.start_us).cast_signed() > FLOW_LIMIT_US;
        let expected = match before.life {
            life if life == Life::Vacant as u8 => Err(Skip::FragmentOrphan),
            life if life == Life::Open as u8 && !over => Ok(()),
            _ => Err(Skip::AfterEnd),
        };
        let mut counted = before;
        if outcome.is_ok() {
            let FlowKey { addr_a, addr_b, .. } = packet.key;
            let forward = first.source == if before.source_is_b == 1 { addr_b } else { addr_a };
            let (count, log) = if forward {
                (&mut counted.forward.fragments, &mut entry.fragments.forward)
            } else {
                (&mut counted.backward.fragments, &mut entry.fragments.backward)
            };
            *count += 1;
            *log += 1;
        }
        if outcome != expected || entry.state != counted {
            return Err(format!("a later fragment came to {outcome:?} instead of {expected:?}, or changed more"));
        }
        Ok(outcome)
    }

    fn packet(&mut self, packet: &Packet, now_us: u64) -> Result<Result<(), Skip>, String> {
        if packet.fragment == Fragment::FIRST {
            let first = First { key: packet.key, source: source(packet) };
            self.datagrams.insert(packet.datagram_key(), (packet.datagram(), first));
        }
        if !self.entries.contains_key(&packet.key) && self.entries.len() == self.capacity {
            return Ok(Err(Skip::TableFull));
        }
        let profile = self.profile;
        let entry = self.entries.entry(packet.key).or_default();
        let now_us = if self.monotonic { entry.monotonic(now_us) } else { now_us };
        let plan = entry.state.plan(packet, now_us, profile);
        let before = entry.state;
        match plan {
            Plan::Add => entry.add(plan, packet, now_us, profile),
            Plan::Late => {
                entry.state.apply(plan, packet, now_us, 0, profile);
                if entry.state != before {
                    return Err("a late packet changed its flow".into());
                }
                return Ok(Err(Skip::AfterEnd));
            }
            Plan::AddAndEnd => {
                entry.add(plan, packet, now_us, profile);
                emit(&mut self.flows, &mut self.longest, entry, EndReason::None, profile)?;
                entry.state.vacate();
            }
            Plan::EndAndOpen { .. } => {
                emit(&mut self.flows, &mut self.longest, entry, EndReason::Timeout, profile)?;
                self.flows.opened += 1;
                entry.open(plan, packet, now_us, profile);
            }
            Plan::Open { .. } => {
                self.flows.opened += 1;
                entry.open(plan, packet, now_us, profile);
            }
            Plan::Reopen { .. } => {
                self.flows.opened += 1;
                if before.life == Life::Open as u8 {
                    discard(&mut self.flows, entry, profile)?;
                }
                entry.open(plan, packet, now_us, profile);
            }
        }
        if entry.state.key != packet.key {
            return Err(format!("the entry of {:?} holds the flow {:?}", packet.key, entry.state.key));
        }
        Ok(Ok(()))
    }

    /// Looks at every entry once, as the agent's timer makes the kernel do.
    pub(crate) fn sweep(&mut self, now_us: u64) -> Result<(), String> {
        let Self { profile, entries, flows, longest, .. } = self;
        let mut failed = None;
        entries.retain(|_, entry| match entry.state.sweep(now_us, LINGER_US, *profile) {
            SweepAction::Keep => true,
            SweepAction::Free => {
                if entry.state.life == Life::Open as u8 {
                    failed = Some("the sweep frees a live flow".to_owned());
                }
                false
            }
            SweepAction::Emit(reason) => {
                failed = failed.take().or(emit(flows, longest, entry, reason, *profile).err());
                entry.state.life = Life::Emitted as u8;
                true
            }
            SweepAction::Evict => {
                failed = Some("the sweep evicts without being pressed".to_owned());
                false
            }
            SweepAction::Discard => {
                failed = failed.take().or(discard(flows, entry, *profile).err());
                entry.state.life = Life::Emitted as u8;
                true
            }
        });
        failed.map_or(Ok(()), Err)
    }

    /// The books so far: `seen = in flow + skipped`, `opened = emitted + discarded + live`.
    pub(crate) fn balance(&self) -> Result<(), String> {
        let live = self.entries.values().filter(|entry| entry.state.life == Life::Open as u8).count() as u64;
        let FlowCounters { opened, emitted, discarded, .. } = self.flows;
        if !self.packets.balanced() {
            return Err(format!("the packet books do not balance: {:?}", self.packets));
        }
        if opened != emitted + discarded + live {
            return Err(format!("the flow books do not balance with {live} live flows: {:?}", self.flows));
        }
        Ok(())
    }

    /// Ends every live flow, as the end of a capture does.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        for entry in self.entries.values_mut().filter(|entry| entry.state.life == Life::Open as u8) {
            if entry.state.packets() < self.profile.min_packets() {
                discard(&mut self.flows, entry, self.profile)?;
            } else {
                emit(&mut self.flows, &mut self.longest, entry, EndReason::EndOfCapture, self.profile)?;
            }
        }
        self.entries.clear();
        self.balance()
    }
}

impl Entry {
    fn monotonic(&self, now_us: u64) -> u64 {
        if self.state.life != Life::Open as u8 {
            return now_us;
        }
        now_us.max(self.state.start_us.wrapping_add_signed(i64::from(self.state.last)))
    }

    fn open(&mut self, plan: Plan, packet: &Packet, now_us: u64, profile: Profile) {
        self.state.apply(plan, packet, now_us, 0, profile);
        self.packets.clear();
        self.fragments = Fragments::default();
        let forced = matches!(plan, Plan::EndAndOpen { forward: true, .. } | Plan::Reopen { forward: true, .. });
        self.log(packet, now_us, forced);
    }

    fn add(&mut self, plan: Plan, packet: &Packet, now_us: u64, profile: Profile) {
        self.state.apply(plan, packet, now_us, 0, profile);
        self.log(packet, now_us, false);
    }

    /// Notes the packet with its direction by section 3: the source's address decides, equal addresses are forward.
    fn log(&mut self, packet: &Packet, now_us: u64, forced: bool) {
        let FlowKey { addr_a, addr_b, .. } = packet.key;
        let from = source(packet);
        let source = if self.state.source_is_b == 1 { addr_b } else { addr_a };
        self.packets.push(Seen { now_us, packet: *packet, forward: forced || from == source });
    }
}

fn source(packet: &Packet) -> Address {
    if packet.from_b { packet.key.addr_b } else { packet.key.addr_a }
}

fn emit(
    flows: &mut FlowCounters,
    longest: &mut u32,
    entry: &Entry,
    reason: EndReason,
    profile: Profile,
) -> Result<(), String> {
    flows.emitted += 1;
    *longest = entry.state.packets().max(*longest);
    let mut copy = FlowState::default();
    // SAFETY: a local of the right type is valid and aligned.
    unsafe { entry.state.copy_to(&raw mut copy) };
    if copy != entry.state {
        return Err("the copy of a finished flow is not equal to it".into());
    }
    let record = FlowRecord::finish(copy, reason);
    identities::check(&record, profile)
        .and_then(|()| recount::compare(record.state(), &entry.packets, entry.fragments, profile))
        .map_err(|fault| format!("{fault}\nprofile {}\nrecord {:#?}", profile.name(), record.state()))
}

fn discard(flows: &mut FlowCounters, entry: &Entry, profile: Profile) -> Result<(), String> {
    flows.discarded += 1;
    if entry.state.packets() >= profile.min_packets() {
        return Err(format!("a flow of {} packets is discarded by {}", entry.state.packets(), profile.name()));
    }
    recount::compare(&entry.state, &entry.packets, entry.fragments, profile)
}
