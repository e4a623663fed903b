//! Loading the eBPF object: tunables, map sizes, verification.

use std::{
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _},
    path::PathBuf,
    time::Duration,
};

use aya::{
    Ebpf, EbpfError, EbpfLoader, VerifierLogLevel,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf},
    programs::{ProgramError, SchedClassifier, Xdp},
};
use log::warn;
use ml_ids_common::{Counters, Datagram, DatagramKey, Decap, LINGER_US, LockedFlow, Profile};

use super::{
    due::DueTimes,
    filter::{FilterMaps, FilterOptions},
    ignore::IgnoredInterfaces,
    interface::InterfaceError,
    journal::Journal,
    kernel::Kernel,
    live::LiveFlows,
    pin::{LinkPins, PINNED, PinError, Table, digest},
    refusal::{no_maps, os_error, refused},
    sweep,
};
use crate::privilege::without_capabilities;

/// The eBPF object, built by `build.rs`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/ml-ids"));

/// Programs that are loaded when an interface first needs them.
const LATER: [&str; 4] = ["egress", "ingress_tc", "ingress_l3", "egress_l3"];

/// Elements of the hash table beyond one a slot: each CPU keeps some back.
pub(super) const SPARE_KEYS: u32 = 1024;

/// How the sensor is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Feature profile, which decides the flow borders.
    pub profile: Profile,
    /// Tunnels whose inner packets are counted.
    pub decap: Decap,
    /// Flows that the table holds.
    pub max_flows: u32,
    /// Ring buffer bytes: a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// How long a terminated flow waits for late packets.
    pub linger: Duration,
    /// Least time between two looks for flows that are due.
    pub sweep_interval: Duration,
    /// Directory of a BPF file system in which maps and links outlive the agent.
    pub pin: Option<PathBuf>,
    /// What is not counted, and whether sources can be blocked.
    pub filter: FilterOptions,
}

/// What the programs are loaded with.
#[derive(Debug)]
pub(super) struct Globals {
    profile: u8,
    linger: u64,
    decap: u8,
    test_clock: u8,
}

impl Globals {
    /// Two programs with one digest behave alike.
    pub(super) fn digest(&self) -> u64 {
        digest(&format!("{self:?}"))
    }
}

impl Options {
    /// `test_clock`: the time is taken from a map.
    pub(super) fn globals(&self, test_clock: bool) -> Globals {
        Globals {
            profile: self.profile as u8,
            linger: u64::try_from(self.linger.as_micros()).unwrap_or(u64::MAX),
            decap: self.decap.0,
            test_clock: u8::from(test_clock),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            profile: Profile::Fixed,
            decap: Decap::NONE,
            max_flows: 131_072,
            ring_bytes: 16 << 20,
            linger: Duration::from_micros(LINGER_US),
            sweep_interval: Duration::from_millis(10),
            pin: None,
            filter: FilterOptions::default(),
        }
    }
}

/// Why the sensor cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum SensorError {
    /// An interface is missing or of the wrong kind.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// Maps and links cannot be pinned.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// Not allowed.
    #[error(
        "no permission to {action}: run as root, or give the binary CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON \
         (setcap cap_bpf,cap_net_admin,cap_perfmon+ep ml-ids)"
    )]
    Permission {
        /// What was refused.
        action: &'static str,
    },
    /// Not allowed to anybody, or not to this process whatever its rights.
    #[error(
        "the kernel refuses to {action} though this process has the rights: a seccomp filter stands before bpf, as some \
         containers have, the kernel is locked down, or it is older than 5.11 and RLIMIT_MEMLOCK is low"
    )]
    Barred {
        /// What was refused.
        action: &'static str,
    },
    /// The kernel has no room for the maps, or may not give it to this process.
    #[error(
        "no memory for the eBPF maps of {max_flows} flows and {ring_bytes} bytes of ring buffer: lower --max-flows, or raise \
         the memory limit of the container or unit, which kernel memory counts towards"
    )]
    Memory {
        /// Flows of the table.
        max_flows: u32,
        /// Bytes of the ring buffer.
        ring_bytes: u32,
        /// Which map, and what the kernel said.
        #[source]
        source: Box<EbpfError>,
    },
    /// Somebody else is already there.
    #[error(
        "interface {interface} already has an XDP program; stop the other sensor, remove a pinned one with \
         `ml-ids unpin`, or detach a program of somebody else with `ip link set dev {interface} xdp off`"
    )]
    Busy {
        /// The interface.
        interface: String,
    },
    /// A program could not be attached.
    #[error("cannot attach {hook} to {interface}")]
    Attach {
        /// Which hook.
        hook: &'static str,
        /// The interface.
        interface: String,
        /// What the kernel said.
        #[source]
        source: Box<ProgramError>,
    },
    /// The kernel lacks what nothing stands in for.
    #[error("this kernel (Linux {found}) has no {lacks}: the sensor needs Linux 5.10 or later")]
    OldKernel {
        /// What it lacks.
        lacks: &'static str,
        /// Its version.
        found: String,
    },
    /// The object was refused by the kernel.
    #[error("cannot load the eBPF programs into this kernel; `uname -r` has to be 5.10 or later")]
    Load(#[from] EbpfError),
    /// A program was refused by the kernel.
    #[error(
        "the kernel refused eBPF program {program}; please report this with what follows and the output of `uname -a`"
    )]
    Program {
        /// Its name.
        program: &'static str,
        /// What the verifier said.
        #[source]
        source: Box<ProgramError>,
    },
    /// A map operation failed.
    #[error("cannot use eBPF map {map}")]
    Map {
        /// Its name.
        map: &'static str,
        /// What the kernel said.
        #[source]
        source: MapError,
    },
    /// The object lacks something: agent and kernel side are of different builds.
    #[error("the eBPF object has no {0}; rebuild the agent")]
    Missing(&'static str),
    /// A signal came while the flow table was being prepared.
    #[error("interrupted by a signal while the flow table was being prepared; start again")]
    Interrupted,
    /// An operating system call failed.
    #[error("cannot {action}")]
    Io {
        /// What failed.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The loaded object.
pub(super) struct Loaded {
    pub(super) ebpf: Ebpf,
    /// Where links outlive the agent, if they are to.
    pub(super) pins: Option<LinkPins>,
    pub(super) ignored: IgnoredInterfaces,
}

impl Loaded {
    /// Every program of the object.
    pub(super) const PROGRAMS: [&'static str; 7] =
        ["ingress", "egress", "ingress_tc", "ingress_l3", "egress_l3", "sweep", "fill"];

    /// Loads all programs with the kernel's clock.
    pub(super) fn load(options: &Options) -> Result<Self, SensorError> {
        Self::load_with(options, false, None)
    }

    /// The same on the maps that are pinned in a table, or are to be.
    pub(super) fn load_pinned(options: &Options, table: &Table) -> Result<Self, SensorError> {
        Self::load_with(options, false, Some(table))
    }

    /// `test_clock`: take the time from a map.
    pub(super) fn load_with(options: &Options, test_clock: bool, table: Option<&Table>) -> Result<Self, SensorError> {
        let mut loaded = Self::create(options, test_clock, table, VerifierLogLevel::default())?;
        loaded.xdp("ingress")?.load().map_err(refused("ingress"))?;
        loaded.classifier("egress")?;
        loaded.classifier("sweep")?;
        // Slots of a table that is gone on with are in use or on the stack.
        if table.is_none_or(Table::is_fresh) {
            sweep::fill(loaded.classifier("fill")?, options.max_flows)?;
        }
        Ok(loaded)
    }

    /// Creates the maps, or takes those of a pinned table; no program is loaded yet.
    pub(super) fn create(
        options: &Options,
        test_clock: bool,
        table: Option<&Table>,
        log_level: VerifierLogLevel,
    ) -> Result<Self, SensorError> {
        let kernel = Kernel::probe()?;
        let Globals { profile, linger, decap, test_clock } = options.globals(test_clock);
        let (frags, filters) = (u8::from(kernel.frags), options.filter.mask());
        let mut loader = EbpfLoader::new();
        loader
            .override_global("PROFILE", &profile, true)
            .override_global("LINGER", &linger, true)
            .override_global("TEST_CLOCK", &test_clock, true)
            .override_global("DECAP", &decap, true)
            .override_global("FRAGS", &frags, true)
            .override_global("FILTERS", &filters, true)
            // Elements of the hash table wait in lists of each CPU; a few more than slots let every slot be used.
            .map_max_entries("FLOWS", options.max_flows.saturating_add(SPARE_KEYS))
            .map_max_entries("STATES", options.max_flows)
            .map_max_entries("FREE", options.max_flows)
            .map_max_entries("DUE", options.max_flows)
            .map_max_entries("RECORDS", options.ring_bytes)
            .map_max_entries("BLOCKED", options.filter.block_max.max(1))
            .verifier_log_level(log_level);
        if let Some(table) = table {
            for map in PINNED {
                loader.map_pin_path(map.name, table.path(map.name));
            }
        }
        let mut ebpf = loader.load(&kernel.fit(OBJECT)).map_err(no_maps(options))?;
        let ignored = options.filter.install(&mut ebpf)?;
        Ok(Self { ebpf, pins: table.map(Table::links).transpose()?, ignored })
    }

    pub(super) fn xdp(&mut self, name: &'static str) -> Result<&mut Xdp, SensorError> {
        let program = self.ebpf.program_mut(name).ok_or(SensorError::Missing(name))?;
        program.try_into().map_err(refused(name))
    }

    /// A program for TCX and clsact. Most of them are loaded when an interface first needs them.
    pub(super) fn classifier(&mut self, name: &'static str) -> Result<&mut SchedClassifier, SensorError> {
        let program = self.ebpf.program_mut(name).ok_or(SensorError::Missing(name))?;
        let program: &mut SchedClassifier = program.try_into().map_err(refused(name))?;
        if program.fd().is_err() {
            program.load().map_err(refused(name))?;
        }
        Ok(program)
    }

    /// Loads what only an interface that comes later needs: once the rights of the start have ended nothing can be loaded, and
    /// once a map has been taken and closed its descriptor may be another's. Says what the kernel refuses; that is then missed
    /// by these interfaces alone.
    pub(super) fn complete(&mut self) {
        for name in LATER {
            if let Err(error) = self.classifier(name) {
                warn!("interfaces that come later may not be watched: {:#}", anyhow::Error::from(error));
            }
        }
    }

    /// Whether the kernel lets a process without capabilities use maps that it has open.
    pub(super) fn works_without_capabilities(&self) -> Result<bool, SensorError> {
        let failed = |source| SensorError::Io { action: "try the maps without capabilities", source };
        let Some(map) = self.ebpf.map("STATES").and_then(data_of) else { return Err(SensorError::Missing("STATES")) };
        match without_capabilities(|| map.info().map(drop)).map_err(failed)? {
            Ok(()) => Ok(true),
            Err(error) if os_error(&error) == Some(libc::EPERM) => Ok(false),
            Err(source) => Err(SensorError::Map { map: "STATES", source }),
        }
    }

    /// The books. Taken out once, so that they can be read from any thread.
    pub(super) fn counters(&mut self) -> Result<PerCpuArray<MapData, Counters>, SensorError> {
        let map = self.ebpf.take_map("COUNTERS").ok_or(SensorError::Missing("COUNTERS"))?;
        PerCpuArray::try_from(map).map_err(|source| SensorError::Map { map: "COUNTERS", source })
    }

    /// The maps of the filter that change while the sensor runs.
    pub(super) fn filter_maps(&mut self) -> Result<FilterMaps, SensorError> {
        FilterMaps::take(&mut self.ebpf)
    }

    pub(super) fn records(&mut self) -> Result<RingBuf<MapData>, SensorError> {
        let map = self.ebpf.take_map("RECORDS").ok_or(SensorError::Missing("RECORDS"))?;
        RingBuf::try_from(map).map_err(|source| SensorError::Map { map: "RECORDS", source })
    }

    /// The states by slot.
    pub(super) fn states(&mut self) -> Result<Array<MapData, LockedFlow<u32>>, SensorError> {
        let map = self.ebpf.take_map("STATES").ok_or(SensorError::Missing("STATES"))?;
        Array::try_from(map).map_err(|source| SensorError::Map { map: "STATES", source })
    }

    /// Another view of the states, for reading. To be had before the states are taken.
    pub(super) fn live_flows(&mut self, slots: u32) -> Result<LiveFlows, SensorError> {
        let Some(Map::Array(map)) = self.ebpf.map("STATES") else { return Err(SensorError::Missing("STATES")) };
        let states = map.fd().as_fd().try_clone_to_owned();
        let states = states
            .map_err(|source| SensorError::Io { action: "duplicate the descriptor of the flow table", source })?;
        Ok(LiveFlows::new(states, self.due_times(slots)?))
    }

    /// When each slot is due.
    pub(super) fn due_times(&mut self, slots: u32) -> Result<DueTimes, SensorError> {
        let Some(Map::Array(map)) = self.ebpf.map("DUE") else { return Err(SensorError::Missing("DUE")) };
        DueTimes::map(map.fd().as_fd(), slots)
            .map_err(|source| SensorError::Io { action: "map the due times of the flow table into memory", source })
    }

    /// What the agent writes down in the kernel.
    pub(super) fn journal(&mut self) -> Result<Journal, SensorError> {
        let Some(Map::Array(map)) = self.ebpf.map("META") else { return Err(SensorError::Missing("META")) };
        Journal::map(map.fd().as_fd()).map_err(|source| SensorError::Io { action: "map META into memory", source })
    }

    /// Kernel memory of all maps, in bytes, as the kernel accounts for it.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.ebpf.maps().filter_map(|(_, map)| memory_of(map)).sum()
    }

    /// The notes of first fragments.
    pub(super) fn datagrams(&mut self) -> Result<HashMap<MapData, DatagramKey, Datagram>, SensorError> {
        let map = self.ebpf.take_map("DATAGRAMS").ok_or(SensorError::Missing("DATAGRAMS"))?;
        HashMap::try_from(map).map_err(|source| SensorError::Map { map: "DATAGRAMS", source })
    }

    pub(super) fn clock(&mut self) -> Result<Array<MapData, u64>, SensorError> {
        let map = self.ebpf.take_map("CLOCK").ok_or(SensorError::Missing("CLOCK"))?;
        Array::try_from(map).map_err(|source| SensorError::Map { map: "CLOCK", source })
    }
}

/// What the kernel says that a map takes: `memlock` in its descriptor's `/proc` entry.
fn memory_of(map: &Map) -> Option<u64> {
    let data = data_of(map)?;
    let path = format!("/proc/self/fdinfo/{}", data.fd().as_fd().as_raw_fd());
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok())
}

/// The map itself, of the types that the object has.
pub(super) const fn data_of(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::RingBuf(data)
        | Map::Stack(data) => Some(data),
        _ => None,
    }
}
