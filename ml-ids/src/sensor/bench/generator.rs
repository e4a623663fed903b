//! The traffic generator of `cargo xtask bench live` and of the flood test: live XDP frames, made in the kernel.

use std::{
    thread,
    time::{Duration, Instant},
};

use aya::{Pod, maps::Array};

use super::{
    frames::{ACK, segment},
    programs::Programs,
    wire::Order,
};
use crate::sensor::{
    SensorError,
    interface::{InterfaceError, index_of},
    test_run::TestRunner,
};

/// Time between two bursts when there is a rate to keep.
const TICK: Duration = Duration::from_millis(2);
/// Most frames of one burst: a burst that is late is not made up for in one go.
const BURST: u64 = 16_384;

/// What to send.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Flows at a time.
    pub flows: u64,
    /// Packets of a flow; then others begin. 1 is a SYN flood.
    pub packets: u64,
    /// First byte of the source addresses.
    pub network: u8,
    /// Packets a second; as many as the machine can make if there is none.
    pub rate: Option<u64>,
}

/// Sends frames through an interface.
pub struct Generator {
    runner: TestRunner,
    traffic: Traffic,
    sent: u64,
    /// Keeps the program's map.
    _programs: Programs,
}

// SAFETY: a repr(C) structure of integers without padding.
unsafe impl Pod for Order {}

impl Generator {
    /// Prepares to send through the named interface of the namespace that the process is in.
    ///
    /// # Errors
    /// When there is no such interface, or the kernel refuses the program.
    pub fn new(interface: &str, traffic: Traffic) -> Result<Self, SensorError> {
        let index = index_of(interface).ok_or_else(|| InterfaceError::NotFound {
            name: interface.to_owned(),
            available: "those that `ip link` shows".to_owned(),
        })?;
        let mut programs = Programs::load()?;
        let mut orders: Array<_, Order> = programs.array("ORDER")?;
        let order = Order {
            next: 0,
            flows: traffic.flows,
            packets: traffic.packets,
            interface: index,
            network: traffic.network.into(),
        };
        orders.set(0, order, 0).map_err(|source| SensorError::Map { map: "ORDER", source })?;
        Ok(Self { runner: programs.runner("flood")?, traffic, sent: 0, _programs: programs })
    }

    /// Sends for as long as is said. Returns how many frames that were and how long it took.
    ///
    /// # Errors
    /// When the kernel refuses; before Linux 5.18 it always does.
    pub fn run(&mut self, time: Duration) -> Result<(u64, Duration), SensorError> {
        let before = self.sent;
        let began = Instant::now();
        loop {
            let elapsed = began.elapsed();
            if elapsed >= time {
                return Ok((self.sent - before, elapsed));
            }
            let Some(rate) = self.traffic.rate else {
                self.send(BURST)?;
                continue;
            };
            let wanted = (elapsed.as_secs_f64() * rate as f64) as u64;
            self.send(wanted.saturating_sub(self.sent - before).min(BURST))?;
            thread::sleep(TICK);
        }
    }

    fn send(&mut self, frames: u64) -> Result<(), SensorError> {
        if frames == 0 {
            return Ok(());
        }
        let repeat = frames as u32;
        let sent = self.runner.live(&segment(0, ACK), repeat);
        sent.map_err(|source| SensorError::Io { action: "send live frames (Linux 5.18 or later)", source })?;
        self.sent += frames;
        Ok(())
    }
}
