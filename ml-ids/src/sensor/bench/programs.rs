//! The comparison programs, loaded.

use std::{os::fd::AsFd as _, time::Duration};

use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, HashMap, Map, MapData, PerCpuArray},
    programs::Program,
};
use ml_ids_common::{Decap, FlowKey, Profile, SliceReader, parse_ethernet};

use crate::sensor::{SensorError, test_run::TestRunner};

/// Built by `build.rs` beside the real ones.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/ml-ids-bench"));

/// The loaded object.
pub(super) struct Programs {
    ebpf: Ebpf,
}

impl Programs {
    pub(super) fn load() -> Result<Self, SensorError> {
        let mut ebpf = EbpfLoader::new().load(OBJECT)?;
        for (_, program) in ebpf.programs_mut() {
            let loaded = match program {
                Program::Xdp(program) => program.load(),
                Program::SchedClassifier(program) => program.load(),
                _ => Ok(()),
            };
            loaded.map_err(|source| SensorError::Program { program: "bench", source: Box::new(source) })?;
        }
        Ok(Self { ebpf })
    }

    /// A program by its name.
    pub(super) fn runner(&self, name: &str) -> Result<TestRunner, SensorError> {
        let descriptor = match self.ebpf.program(name) {
            Some(Program::Xdp(program)) => program.fd(),
            Some(Program::SchedClassifier(program)) => program.fd(),
            _ => return Err(SensorError::Missing("bench program")),
        };
        let descriptor =
            descriptor.map_err(|source| SensorError::Program { program: "bench", source: Box::new(source) })?;
        let duplicate = descriptor.as_fd().try_clone_to_owned();
        duplicate.map(TestRunner::new).map_err(|source| SensorError::Io { action: "duplicate a descriptor", source })
    }

    pub(super) fn map(&mut self, name: &'static str) -> Result<Map, SensorError> {
        self.ebpf.take_map(name).ok_or(SensorError::Missing(name))
    }

    pub(super) fn hash<K: Pod, V: Pod>(&mut self, map: &'static str) -> Result<HashMap<MapData, K, V>, SensorError> {
        self.map(map)?.try_into().map_err(|source| SensorError::Map { map, source })
    }

    pub(super) fn array<V: Pod>(&mut self, map: &'static str) -> Result<Array<MapData, V>, SensorError> {
        self.map(map)?.try_into().map_err(|source| SensorError::Map { map, source })
    }

    pub(super) fn per_cpu<V: Pod>(&mut self, map: &'static str) -> Result<PerCpuArray<MapData, V>, SensorError> {
        self.map(map)?.try_into().map_err(|source| SensorError::Map { map, source })
    }
}

/// Runs a program, and returns the nanoseconds of a run.
pub(super) fn time(runner: &TestRunner, frame: &[u8], repeat: u32) -> Result<f64, SensorError> {
    run(runner, frame, repeat).map(|time| time.as_nanos() as f64)
}

pub(super) fn run(runner: &TestRunner, frame: &[u8], repeat: u32) -> Result<Duration, SensorError> {
    runner.run(frame, repeat).map_err(|source| SensorError::Io { action: "run a program", source })
}

/// The key under which a frame's flow is found.
pub(super) fn key(frame: &[u8]) -> Result<FlowKey, SensorError> {
    let parsed = parse_ethernet(&SliceReader(frame), frame.len() as u32, Profile::Fixed, Decap::NONE);
    parsed.map(|packet| packet.key).map_err(|_| SensorError::Missing("key of a bench frame"))
}
