//! The live sensor: loads the kernel side, attaches it, drains finished flows, keeps the books.

mod attach;
pub mod bench;
pub(crate) mod clock;
mod drain;
mod due;
mod filter;
mod ignore;
mod interface;
mod load;
pub(crate) mod prefix;
mod pressure;
mod replay;
mod status;
mod sweep;

pub use attach::{AttachMode, EgressHook, IngressHook};
pub use drain::{Drain, DrainReport};
pub use filter::{BlockMode, FilterMaps, FilterOptions};
pub use ignore::IgnoreRule;
pub use interface::{InterfaceError, default_interface};
pub use load::{Options, SensorError};
pub use prefix::parse_prefix;
pub use replay::KernelReplay;
pub use status::{AttachedInterface, SensorState};

use std::sync::Arc;

use attach::attach;
use load::Loaded;

/// A sensor that is attached and counting. Dropping it detaches every hook.
pub struct Sensor {
    loaded: Loaded,
    state: Arc<SensorState>,
}

impl Sensor {
    /// Loads the kernel side and attaches it to every interface, in the given mode.
    ///
    /// # Errors
    /// What failed, on which object, and what to do about it.
    pub fn start(interfaces: &[String], mode: AttachMode, options: &Options) -> Result<Self, SensorError> {
        let found = interfaces.iter().map(|name| interface::Interface::find(name)).collect::<Result<Vec<_>, _>>()?;
        let mut loaded = Loaded::load(options)?;
        let attached = found
            .iter()
            .map(|interface| attach(&mut loaded, interface, mode))
            .collect::<Result<Vec<_>, SensorError>>()?;
        let state = Arc::new(SensorState::new(attached, options, loaded.memory_bytes(), loaded.counters()?));
        Ok(Self { loaded, state })
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
    pub fn filter_maps(&mut self) -> Result<FilterMaps, SensorError> {
        self.loaded.filter_maps()
    }

    /// Starts the thread that drains finished flows into `sink` and runs the sweep.
    ///
    /// # Errors
    /// When the ring buffer cannot be mapped or the thread cannot be started.
    pub fn drain(self, options: &Options, sink: drain::Sink) -> Result<Drain, SensorError> {
        Drain::start(self.loaded, self.state, options, sink)
    }
}
