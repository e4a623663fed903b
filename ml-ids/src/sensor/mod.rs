//! The live sensor: loads the kernel side, attaches it, drains finished flows, keeps the books.

mod attach;
pub mod bench;
mod clock;
mod drain;
mod due;
mod interface;
mod load;
mod pressure;
mod replay;
mod status;
mod sweep;
mod test_run;

pub use attach::{AttachMode, EgressHook, IngressHook};
pub use drain::{Drain, DrainReport};
pub use interface::{InterfaceError, default_interface};
pub use load::{Options, SensorError};
pub use replay::KernelReplay;
pub use status::{AttachedInterface, SensorState};
pub use test_run::TestRunner;

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

    /// Starts the thread that drains finished flows into `sink` and runs the sweep.
    ///
    /// # Errors
    /// When the ring buffer cannot be mapped or the thread cannot be started.
    pub fn drain(self, options: &Options, sink: drain::Sink) -> Result<Drain, SensorError> {
        Drain::start(self.loaded, self.state, options, sink)
    }
}
