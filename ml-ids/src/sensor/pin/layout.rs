//! What is pinned, and the layout version: two agents that agree on it can work on one table.

use std::fmt::Write as _;

use aya::maps::{MapInfo, MapType};
use ml_ids_common::{
    COUNTER_SETS, Counters, Datagram, DatagramKey, Direction, FlowCounters, FlowKey, FlowState, HookCounters,
    LockedFlow, MAX_DATAGRAMS, Skip, SlotRef, Spans, TableMeta,
};
use sha2::{Digest as _, Sha256};

use crate::sensor::{Options, load::SPARE_KEYS};

/// To be raised when the meaning of something pinned changes that the description below does not show.
const MEANING: u32 = 1;

/// How many elements a map has.
#[derive(Clone, Copy)]
pub(super) enum Entries {
    /// One a slot.
    Slots,
    /// One a slot and some to spare.
    Keys,
    /// Bytes of the ring buffer.
    RingBytes,
    /// Always so many.
    Fixed(u32),
}

/// A map that outlives the agent.
pub(in crate::sensor) struct PinnedMap {
    pub(in crate::sensor) name: &'static str,
    kind: MapType,
    key: usize,
    value: usize,
    entries: Entries,
}

const fn map(name: &'static str, kind: MapType, key: usize, value: usize, entries: Entries) -> PinnedMap {
    PinnedMap { name, kind, key, value, entries }
}

const INDEX: usize = size_of::<u32>();

/// All of them. What is not here is made anew with each load; see [`PRIVATE`].
pub(in crate::sensor) const PINNED: &[PinnedMap] = &[
    map("FLOWS", MapType::Hash, size_of::<FlowKey>(), size_of::<SlotRef>(), Entries::Keys),
    map("STATES", MapType::Array, INDEX, size_of::<LockedFlow<u32>>(), Entries::Slots),
    map("FREE", MapType::Stack, 0, size_of::<u32>(), Entries::Slots),
    map("DUE", MapType::Array, INDEX, size_of::<u64>(), Entries::Slots),
    map("HAND", MapType::Array, INDEX, size_of::<u32>(), Entries::Fixed(1)),
    map("RECORDS", MapType::RingBuf, 0, 0, Entries::RingBytes),
    map("COUNTERS", MapType::PerCpuArray, INDEX, size_of::<Counters>(), Entries::Fixed(COUNTER_SETS)),
    map("DATAGRAMS", MapType::LruHash, size_of::<DatagramKey>(), size_of::<Datagram>(), Entries::Fixed(MAX_DATAGRAMS)),
    map("META", MapType::Array, INDEX, size_of::<TableMeta>(), Entries::Fixed(1)),
];

/// Maps of the object that hold nothing from one packet to the next, or only in tests.
#[cfg(test)]
pub(super) const PRIVATE: &[&str] = &[
    "SCRATCH",
    "CLOCK",
    ".rodata",
    "BLOCKED",
    "PROTECTED",
    "IGNORED",
    "IGNORED_PORTS",
    "IGNORED_INTERFACES",
    "FILTERED",
];

impl PinnedMap {
    /// Whether a pinned map is of this kind, whatever its number of elements.
    pub(super) fn has_layout_of(&self, info: &MapInfo) -> bool {
        info.map_type().is_ok_and(|kind| kind == self.kind)
            && info.key_size() as usize == self.key
            && info.value_size() as usize == self.value
    }

    /// Elements with these options.
    pub(super) const fn entries(&self, options: &Options) -> u32 {
        match self.entries {
            Entries::Slots => options.max_flows,
            Entries::Keys => options.max_flows.saturating_add(SPARE_KEYS),
            Entries::RingBytes => options.ring_bytes,
            Entries::Fixed(entries) => entries,
        }
    }
}

/// Describes a struct by its size and the place of each of its fields. A field that is not named does not compile.
macro_rules! describe {
    ($text:expr, $name:ident { $($field:ident),* $(,)? }) => {{
        let _complete = |$name { $($field: _),* }: $name| ();
        // Writing to a string cannot fail.
        let _ = write!($text, "{} {}:", stringify!($name), size_of::<$name>());
        $(let _ = write!($text, " {}@{}", stringify!($field), std::mem::offset_of!($name, $field));)*
        $text.push('\n');
    }};
}

type Slot = LockedFlow<u32>;

/// All that the kernel side and the agent must agree on, in words.
fn description() -> String {
    let mut text = String::new();
    for PinnedMap { name, kind, key, value, entries } in PINNED {
        let fixed = if let Entries::Fixed(entries) = entries { *entries } else { 0 };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name}: {kind:?}, {key} -> {value}, {fixed}");
    }
    describe!(text, SlotRef { slot, generation });
    describe!(text, Slot { lock, generation, state });
    describe!(text, FlowKey { addr_a, addr_b, port_a, port_b, protocol, version, reserved });
    describe!(
        text,
        FlowState {
            key,
            start_us,
            life,
            teardown,
            reason,
            source_is_b,
            interface,
            last,
            active_start,
            gap_min,
            gap_max,
            gap_square_sum,
            long_gaps,
            disordered,
            active,
            idle,
            flag_counts,
            first_length,
            first_padded,
            first_window,
            backward_window_last,
            backward_window_first,
            first_flags,
            first_backward,
            forward,
            backward,
        }
    );
    describe!(text, Spans { square_sum, sum, max, min, count, reserved });
    describe!(
        text,
        Direction {
            length_sum,
            length_square_sum,
            padded_sum,
            padded_square_sum,
            header_sum,
            gap_square_sum,
            bulk_bytes,
            bulk_duration,
            packets,
            length_min,
            length_max,
            padded_min,
            padded_max,
            gap_min,
            gap_max,
            first,
            last,
            psh,
            urg,
            fin,
            data_packets,
            padded_data_packets,
            header_min,
            bulk_start,
            bulk_last,
            bulk_run_packets,
            bulk_run_bytes,
            bulks,
            bulk_packets,
            fragments,
        }
    );
    describe!(text, DatagramKey { addr_a, addr_b, id, protocol, version, from_b, reserved });
    describe!(text, Datagram { port_a, port_b, protocol, reserved });
    describe!(text, Counters { ingress, egress, flows });
    describe!(text, HookCounters { seen, seen_bytes, in_flow, skipped });
    describe!(
        text,
        FlowCounters {
            opened,
            emitted,
            discarded,
            lost_ring_full,
            lost_packets,
            evicted,
            evicted_packets,
            clock_steps,
        }
    );
    describe!(text, TableMeta { magic, globals, namespace, taken, judged, max_flows, ring_bytes, profile, owner });
    for skip in Skip::ALL {
        text.push_str(skip.name());
        text.push(' ');
    }
    text
}

/// The layout version: the name of the directory that the maps are pinned in.
pub(super) fn version() -> String {
    version_of(&description())
}

fn version_of(description: &str) -> String {
    format!("v{MEANING}-{:08x}", digest(description) >> 32)
}

/// The first eight bytes of the SHA-256.
pub(in crate::sensor) fn digest(text: &str) -> u64 {
    Sha256::digest(text).iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::{SensorError, load::Loaded};

    #[test]
    fn the_version_is_a_name_for_a_directory_and_changes_with_each_word_of_the_description() {
        let (version, description) = (version(), description());
        assert_eq!(version, version_of(&description), "the same build has one version");
        // A dot would be refused by the BPF file system.
        assert!(version.starts_with("v1-") && version.len() == 11 && !version.contains('.'), "{version}");
        for (place, word) in description.match_indices(|letter: char| letter.is_ascii_digit()) {
            let mut other = description.clone();
            other.replace_range(place..place + 1, if word == "1" { "2" } else { "1" });
            assert_ne!(version_of(&other), version, "{place}");
        }
    }

    #[test]
    fn every_map_of_the_object_is_pinned_or_private_on_purpose_and_is_as_described() {
        let options = Options { max_flows: 1024, ring_bytes: 1 << 16, ..Options::default() };
        let loaded = match Loaded::load(&options) {
            Ok(loaded) => loaded,
            Err(SensorError::Permission { .. } | SensorError::Barred { .. }) => {
                eprintln!("SKIPPED: loading eBPF programs needs root");
                return;
            }
            Err(error) => panic!("{:#}", anyhow::Error::from(error)),
        };
        let mut pinned = 0;
        for (name, map) in loaded.ebpf.maps() {
            let Some(expected) = PINNED.iter().find(|map| map.name == name) else {
                assert!(PRIVATE.contains(&name), "{name} is neither pinned nor private: add it to one of the lists");
                continue;
            };
            let info = crate::sensor::load::data_of(map).unwrap().info().unwrap();
            assert!(expected.has_layout_of(&info), "{name} is {info:?}");
            assert_eq!(info.max_entries(), expected.entries(&options), "{name}");
            pinned += 1;
        }
        assert_eq!(pinned, PINNED.len());
    }
}
