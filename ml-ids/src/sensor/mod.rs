//! The live sensor: loads the kernel side, attaches it, drains finished flows, keeps the books.

mod attach;
pub mod bench;
pub(crate) mod clock;
mod drain;
mod due;
mod filter;
mod hook;
mod ignore;
mod interface;
mod journal;
mod kernel;
mod links;
mod live;
mod load;
mod map_batch;
mod pattern;
mod permitted;
mod pin;
mod plan;
pub(crate) mod prefix;
mod pressure;
mod refusal;
mod replay;
mod status;
mod sweep;
mod test_run;
#[cfg(test)]
mod testing;
mod trust;
pub mod verify;
mod wake;
mod wanted;
mod watch;
mod watched;

pub use attach::AttachMode;
pub use drain::{Drain, DrainReport};
pub use filter::{BlockMode, FilterMaps, FilterOptions};
pub use hook::{EgressHook, IngressHook};
pub use ignore::IgnoreRule;
pub use interface::{InterfaceError, default_interface};
pub use journal::Journal;
pub(crate) use live::Found;
pub use live::{LiveFlow, LiveFlows, LiveTop};
pub use load::{Options, SensorError};
pub use pattern::{InterfacePattern, PatternError};
pub use permitted::use_permitted;
pub use pin::{PIN_DIRECTORY, PinError, Removed, remove_all};
pub use plan::{Lack, Plan, PlannedInterface, plan};
pub use prefix::parse_prefix;
pub use replay::KernelReplay;
pub use status::{InterfaceState, SensorState, WatchedInterface};
pub use test_run::TestRunner;
pub use wanted::Watch;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use attach::kernel_before;
use links::Links;
use load::Loaded;
use pin::Table;
use watch::Watcher;

use crate::privilege::{Account, Kept};

/// A sensor that is attached and counting. Dropping it detaches every hook, but for those that are pinned.
pub struct Sensor {
    watcher: Watcher,
    loaded: Arc<Mutex<Loaded>>,
    state: Arc<SensorState>,
    journal: Arc<Journal>,
    table: Option<Table>,
}

impl Sensor {
    /// Loads the kernel side, or takes over a pinned one, and attaches it to every interface that is meant and there.
    ///
    /// # Errors
    /// What failed, on which object, and what to do about it.
    pub fn start(watch: &Watch, options: &Options) -> Result<Self, SensorError> {
        let failed = |source| SensorError::Io { action: "list the interfaces", source };
        let mut links = Links::open().map_err(failed)?;
        watch.check(&links.list().map_err(failed)?)?;
        let table = options.pin.as_deref().map(|root| Table::open(root, options)).transpose()?;
        let mut loaded = match &table {
            Some(table) => Loaded::load_pinned(options, table)?,
            None => Loaded::load(options)?,
        };
        let journal = Arc::new(loaded.journal()?);
        let state = Arc::new(SensorState::new(options, loaded.memory_bytes(), loaded.counters()?));
        if let Some(table) = &table {
            table.begin(&journal, &state.counters_at_start().flows);
        }
        let loaded = Arc::new(Mutex::new(loaded));
        let watcher = Watcher::begin(watch, links, Arc::clone(&loaded), Arc::clone(&state))?;
        // Not later: instructions name maps by descriptor, and who takes a map may close it.
        loaded.lock().unwrap_or_else(PoisonError::into_inner).complete();
        Ok(Self { watcher, loaded, state, journal, table })
    }

    /// What is attached and what has been counted, shared with the API.
    #[must_use]
    pub fn state(&self) -> Arc<SensorState> {
        Arc::clone(&self.state)
    }

    /// The maps of the filter, for whoever decides what is blocked. They can be taken once.
    ///
    /// # Errors
    /// When they have been taken.
    pub fn filter_maps(&self) -> Result<FilterMaps, SensorError> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).filter_maps()
    }

    /// The open flows, for whoever wants to see them while they last.
    ///
    /// # Errors
    /// When the table cannot be mapped, or the threads have been started already.
    pub fn live_flows(&self, options: &Options) -> Result<LiveFlows, SensorError> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner).live_flows(options.max_flows)
    }

    /// Where to note which records have been judged.
    #[must_use]
    pub fn journal(&self) -> Arc<Journal> {
        Arc::clone(&self.journal)
    }

    /// Prepares for the end of the rights that this process started with: its pins are given to the account that goes on.
    /// Returns which capabilities this kernel leaves no choice about.
    ///
    /// # Errors
    /// When the kernel's ways cannot be found out, or the pins not given away.
    pub fn hand_over(&self, account: &Account) -> Result<Vec<Kept>, SensorError> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if account.changes()
            && let Some(pins) = &loaded.pins
        {
            let failed = |source| SensorError::Io { action: "give the pinned links to the account", source };
            pins.give(account.uid(), account.gid()).map_err(failed)?;
        }
        let mut kept = Vec::new();
        if !loaded.works_without_capabilities()? {
            kept.push(Kept::BPF);
        }
        // TCX came with it; before, what comes later hangs on a filter as well.
        if self.watcher.uses_clsact() || kernel_before(6, 6) {
            kept.push(Kept::NET_ADMIN);
        }
        Ok(kept)
    }

    /// Folders that the account needs to go on.
    #[must_use]
    pub fn folders(&self) -> Vec<PathBuf> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.pins.iter().map(|pins| pins.folder().to_owned()).collect()
    }

    /// Starts the threads: one drains finished flows into `sink` and runs the sweep, one follows the interfaces.
    ///
    /// # Errors
    /// When the ring buffer cannot be mapped or a thread cannot be started.
    pub fn drain(self, options: &Options, sink: drain::Sink) -> Result<Drain, SensorError> {
        let Self { watcher, loaded, state, journal, table } = self;
        Drain::start(loaded, watcher, state, journal, table, options, sink)
    }
}
