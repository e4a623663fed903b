//! The pinned table: found and fit to go on with, found and unfit, or new.

use std::{
    fs, io,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use aya::maps::{Array, Map, MapData, MapInfo, RingBuf};
use log::{info, warn};
use ml_ids_common::{FlowCounters, Life, LockedFlow, Profile, TABLE_READY, TableMeta};

use super::{
    LinkPins, PinError,
    bpffs::{self, Lock, entries},
    layout::{self, PINNED},
    links, removal,
};
use crate::sensor::{Options, due::DueTimes, journal::Journal};

/// The table's directory, in the hands of this process.
pub(in crate::sensor) struct Table {
    _lock: Lock,
    directory: PathBuf,
    /// What a new table is to say of itself.
    meta: TableMeta,
    /// Nothing fit was found.
    fresh: bool,
    /// A new table stays when the agent ends.
    kept: bool,
    leftovers: Option<Leftovers>,
}

/// What a table that is not gone on with still held: nothing counts into it any more.
pub(in crate::sensor) struct Leftovers {
    pub(in crate::sensor) records: RingBuf<MapData>,
    pub(in crate::sensor) states: Array<MapData, LockedFlow<u32>>,
    /// Slots in use.
    pub(in crate::sensor) slots: Vec<u32>,
}

/// Why a table is not gone on with.
#[derive(Debug)]
struct Unfit {
    reason: String,
    /// Its flows can be read and judged.
    readable: bool,
}

impl Table {
    /// Takes the directory and looks at what is pinned in it. What cannot be gone on with is detached and removed here.
    ///
    /// # Errors
    /// When the directory cannot be made or another sensor has it.
    pub(in crate::sensor) fn open(root: &Path, options: &Options) -> Result<Self, PinError> {
        bpffs::prepare(root)?;
        let Some(lock) = Lock::take(root)? else {
            let advice = "stop that one, or choose another place with --pin-dir";
            return Err(PinError::Locked { directory: root.to_owned(), owner: owner(root), advice });
        };
        let meta = wanted(options);
        let directory = root.join(layout::version());
        for other in entries(root).into_iter().filter(|path| removal::is_table(path) && *path != directory) {
            give_up(&other, "another version of ml-ids made it");
        }
        let mut table = Self { _lock: lock, directory, meta, fresh: true, kept: false, leftovers: None };
        if table.directory.exists() {
            match check(&table.directory, &meta, options) {
                Ok(()) => table.fresh = false,
                Err(Unfit { reason, readable: true }) => table.leftovers = rescue(&table.directory, &reason),
                Err(Unfit { reason, readable: false }) => give_up(&table.directory, &reason),
            }
        }
        let links = links::directory(&table.directory);
        fs::create_dir_all(&links).map_err(|source| PinError::Io { action: "make", path: links, source })?;
        Ok(table)
    }

    /// Where a map is pinned, or is to be.
    pub(in crate::sensor) fn path(&self, map: &str) -> PathBuf {
        self.directory.join(map)
    }

    /// Whether the maps are about to be made, and have to be filled.
    pub(in crate::sensor) const fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// The links that are pinned with the table.
    pub(in crate::sensor) fn links(&self) -> Result<LinkPins, PinError> {
        let failed = |source| PinError::Io { action: "open", path: links::directory(&self.directory), source };
        LinkPins::find(&self.directory).map_err(failed)
    }

    /// The maps are ready: this process works on them now. `found` is what the kernel has counted into them so far.
    pub(in crate::sensor) fn begin(&self, journal: &Journal, found: &FlowCounters) {
        let place = self.directory.display();
        if self.fresh {
            journal.seal(self.meta);
            info!("pinned a new flow table at {place}; it stays when this sensor ends");
            return;
        }
        let live = found.opened.saturating_sub(found.ended());
        let before = journal.read().owner;
        let how = if before == 0 { "left in order".to_owned() } else { format!("process {before}, was killed") };
        info!("going on with the pinned flow table at {place}: {live} live flows; the previous sensor {how}");
        let lost = journal.write_off();
        if lost > 0 {
            warn!("{lost} flows that the previous sensor had taken from the kernel were lost before they were judged");
        }
        if found.lost_ring_full > 0 {
            warn!(
                "since this table was made, {} finished flows with {} packets were lost because the ring buffer was full",
                found.lost_ring_full, found.lost_packets
            );
        }
        journal.set_owner(std::process::id());
    }

    /// From here on a new table stays, too.
    pub(in crate::sensor) const fn keep(&mut self) {
        self.kept = true;
    }

    /// Where to look for it.
    pub(in crate::sensor) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What the table before this one still held.
    pub(in crate::sensor) const fn take_leftovers(&mut self) -> Option<Leftovers> {
        self.leftovers.take()
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // A sensor that could not start leaves nothing behind.
        if self.fresh && !self.kept {
            removal::remove_tree(&self.directory);
        }
    }
}

/// What a table made with these options says of itself.
fn wanted(options: &Options) -> TableMeta {
    let namespace = fs::metadata("/proc/self/ns/net").map_or(0, |namespace| namespace.ino());
    TableMeta {
        magic: TABLE_READY,
        globals: options.globals(false).digest(),
        namespace,
        max_flows: options.max_flows,
        ring_bytes: options.ring_bytes,
        profile: options.profile as u32,
        owner: std::process::id(),
        ..TableMeta::default()
    }
}

/// Whether the maps in a directory are complete and were made as these would be.
fn check(directory: &Path, wanted: &TableMeta, options: &Options) -> Result<(), Unfit> {
    let broken = |reason: String| Unfit { reason, readable: false };
    let mut sizes = Vec::new();
    for map in PINNED {
        let info = MapInfo::from_pin(directory.join(map.name));
        let info = info.map_err(|_| broken(format!("its map {} is missing", map.name)))?;
        if !map.has_layout_of(&info) {
            return Err(broken(format!("its map {} has another layout", map.name)));
        }
        sizes.push((map, info.max_entries()));
    }
    let found = journal(directory).map_err(|error| broken(format!("its map META cannot be read ({error})")))?.read();
    agrees(&found, wanted)?;
    match sizes.iter().find(|(map, entries)| *entries != map.entries(options)) {
        Some((map, entries)) => Err(broken(format!("its map {} has {entries} elements", map.name))),
        None => Ok(()),
    }
}

/// Whether a table that says this of itself is one that we would make.
fn agrees(found: &TableMeta, wanted: &TableMeta) -> Result<(), Unfit> {
    let unfit = |reason: String, readable| Err(Unfit { reason, readable });
    if found.magic != TABLE_READY {
        return unfit("it was never finished".to_owned(), false);
    }
    if found.profile != wanted.profile {
        let name = |number: u32| u8::try_from(number).ok().and_then(Profile::from_u8).map_or("unknown", Profile::name);
        let (found, wanted) = (name(found.profile), name(wanted.profile));
        // A model never judges flows of another profile than its own.
        return unfit(format!("it counts flows of profile {found}, the model wants {wanted}"), false);
    }
    if found.max_flows != wanted.max_flows {
        return unfit(format!("it has --max-flows {}, not {}", found.max_flows, wanted.max_flows), true);
    }
    if found.ring_bytes != wanted.ring_bytes {
        return unfit(format!("it has --ring-bytes {}, not {}", found.ring_bytes, wanted.ring_bytes), true);
    }
    if found.namespace != wanted.namespace {
        return unfit("it watches the interfaces of another network namespace".to_owned(), true);
    }
    if found.globals != wanted.globals {
        return unfit("its programs were loaded with other options, such as --linger".to_owned(), true);
    }
    Ok(())
}

/// Detaches a table, takes what it holds, and removes its pins.
fn rescue(directory: &Path, reason: &str) -> Option<Leftovers> {
    removal::remove_links(directory);
    match leftovers(directory) {
        Ok(leftovers) => {
            info!(
                "the pinned flow table at {} is not gone on with: {reason}; its {} open flows end here and are judged",
                directory.display(),
                leftovers.open()
            );
            removal::remove_tree(directory);
            Some(leftovers)
        }
        Err(error) => {
            give_up(directory, &format!("{reason}, and it cannot be read ({error})"));
            None
        }
    }
}

/// Detaches and removes a table, and says what is lost with it.
fn give_up(directory: &Path, reason: &str) {
    removal::remove_links(directory);
    let Census { flows, exact, records } = Census::of(directory);
    let most = if exact { "" } else { "up to " };
    warn!(
        "the pinned flow table at {} is given up: {reason}; {most}{flows} live flows and {records} finished ones that \
         nobody had read are lost",
        directory.display()
    );
    removal::remove_tree(directory);
}

impl Leftovers {
    /// Open flows.
    fn open(&self) -> usize {
        self.slots.iter().filter(|slot| is_open(&self.states, **slot)).count()
    }
}

fn is_open(states: &Array<MapData, LockedFlow<u32>>, slot: u32) -> bool {
    states.get(&slot, 0).is_ok_and(|flow| flow.state.life == Life::Open as u8)
}

/// What a table holds that nobody goes on with.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Census {
    /// Live flows.
    pub(super) flows: u64,
    /// Otherwise slots in use are counted: those of ended flows are among them.
    pub(super) exact: bool,
    /// Records in the ring buffer.
    pub(super) records: u64,
}

impl Census {
    /// Of a table of any layout, as far as it can be told. Takes the records out of the ring buffer.
    pub(super) fn of(directory: &Path) -> Self {
        let slots = due_slots(directory).unwrap_or_default();
        let ours = directory.file_name().is_some_and(|name| name.to_str() == Some(layout::version().as_str()));
        let states = if ours { states(directory).ok() } else { None };
        let flows = match &states {
            Some(states) => slots.iter().filter(|slot| is_open(states, **slot)).count(),
            None => slots.len(),
        };
        let mut records = 0;
        if let Ok(mut ring) = ring(directory) {
            while ring.next().is_some() {
                records += 1;
            }
        }
        Self { flows: flows as u64, exact: states.is_some() || slots.is_empty(), records }
    }

    /// The same without touching the records, which a running sensor reads.
    pub(super) fn of_running(directory: &Path) -> Self {
        let slots = due_slots(directory).unwrap_or_default();
        Self { flows: slots.len() as u64, exact: false, records: 0 }
    }
}

/// The process that works on a table below `root`, 0 if none is known.
pub(super) fn owner(root: &Path) -> u32 {
    journal(&root.join(layout::version())).map_or(0, |journal| journal.read().owner)
}

fn open(directory: &Path, map: &str) -> io::Result<MapData> {
    MapData::from_pin(directory.join(map)).map_err(io::Error::other)
}

fn journal(directory: &Path) -> io::Result<Journal> {
    let map = open(directory, "META")?;
    Journal::map(map.fd().as_fd())
}

fn ring(directory: &Path) -> io::Result<RingBuf<MapData>> {
    RingBuf::try_from(Map::RingBuf(open(directory, "RECORDS")?)).map_err(io::Error::other)
}

fn states(directory: &Path) -> io::Result<Array<MapData, LockedFlow<u32>>> {
    Array::try_from(Map::Array(open(directory, "STATES")?)).map_err(io::Error::other)
}

/// Slots in use.
fn due_slots(directory: &Path) -> io::Result<Vec<u32>> {
    let map = open(directory, "DUE")?;
    let info = map.info().map_err(io::Error::other)?;
    if info.value_size() as usize != size_of::<u64>() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(DueTimes::map(map.fd().as_fd(), info.max_entries())?.used())
}

fn leftovers(directory: &Path) -> io::Result<Leftovers> {
    Ok(Leftovers { records: ring(directory)?, states: states(directory)?, slots: due_slots(directory)? })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_table_is_gone_on_with_only_if_it_is_what_would_be_made() {
        let options = Options::default();
        let wanted = wanted(&options);
        assert!(agrees(&TableMeta { taken: 9, judged: 8, owner: 1, ..wanted }, &wanted).is_ok());
        let other = |change: fn(&mut Options)| {
            let mut other = options.clone();
            change(&mut other);
            super::wanted(&other)
        };
        let cases = [
            (TableMeta { magic: 0, ..wanted }, false, "never finished"),
            (other(|options| options.profile = Profile::Cic2017), false, "profile cic2017"),
            (other(|options| options.max_flows = 1024), true, "--max-flows 1024, not 131072"),
            (other(|options| options.ring_bytes = 65_536), true, "--ring-bytes 65536"),
            (other(|options| options.linger = Duration::from_secs(7)), true, "--linger"),
            (TableMeta { namespace: wanted.namespace + 1, ..wanted }, true, "namespace"),
        ];
        for (found, readable, says) in cases {
            let unfit = agrees(&found, &wanted).unwrap_err();
            assert_eq!(unfit.readable, readable, "{}", unfit.reason);
            assert!(unfit.reason.contains(says), "{} lacks {says}", unfit.reason);
        }
        // How often the agent looks is its own affair.
        assert_eq!(other(|options| options.sweep_interval = Duration::from_secs(1)), wanted);
    }
}
