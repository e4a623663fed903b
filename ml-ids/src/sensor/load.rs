//! Loading the eBPF object: tunables, map sizes, verification.

use std::{
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _},
    time::Duration,
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Array, Map, MapData, MapError, PerCpuArray, RingBuf},
    programs::{ProgramError, SchedClassifier, Xdp},
};
use ml_ids_common::{Counters, LINGER_US, LockedFlow, Profile};

use super::{
    due::DueTimes,
    filter::{FilterMaps, FilterOptions},
    ignore::IgnoredInterfaces,
    interface::InterfaceError,
    sweep,
};

/// The eBPF object, built by `build.rs`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/ml-ids"));

/// Elements of the hash table beyond one a slot: each CPU keeps some back.
const SPARE_KEYS: u32 = 1024;

/// How the sensor is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Feature profile, which decides the flow borders.
    pub profile: Profile,
    /// Flows that the table holds.
    pub max_flows: u32,
    /// Ring buffer bytes: a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// How long a terminated flow waits for late packets.
    pub linger: Duration,
    /// Least time between two looks for flows that are due.
    pub sweep_interval: Duration,
    /// What is not counted, and whether sources can be blocked.
    pub filter: FilterOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            profile: Profile::Fixed,
            max_flows: 131_072,
            ring_bytes: 16 << 20,
            linger: Duration::from_micros(LINGER_US),
            sweep_interval: Duration::from_millis(10),
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
    /// Not allowed.
    #[error(
        "no permission to {action}: run as root, or give the binary CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON \
         (setcap cap_bpf,cap_net_admin,cap_perfmon+ep ml-ids)"
    )]
    Permission {
        /// What was refused.
        action: &'static str,
    },
    /// Somebody else is already there.
    #[error(
        "interface {interface} already has an XDP program; stop the other sensor or detach it with \
         `ip link set dev {interface} xdp off`"
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
    /// The object was refused by the kernel.
    #[error("cannot load the eBPF programs into this kernel")]
    Load(#[from] EbpfError),
    /// A program was refused by the kernel.
    #[error("the kernel refused eBPF program {program}")]
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
    pub(super) ignored: IgnoredInterfaces,
}

impl Loaded {
    /// Loads all programs with the kernel's clock.
    pub(super) fn load(options: &Options) -> Result<Self, SensorError> {
        Self::load_with(options, false)
    }

    /// `test_clock`: take the time from a map.
    pub(super) fn load_with(options: &Options, test_clock: bool) -> Result<Self, SensorError> {
        let linger = u64::try_from(options.linger.as_micros()).unwrap_or(u64::MAX);
        let profile = options.profile as u8;
        let test_clock = u8::from(test_clock);
        let filters = options.filter.mask();
        let mut ebpf = EbpfLoader::new()
            .override_global("PROFILE", &profile, true)
            .override_global("LINGER", &linger, true)
            .override_global("TEST_CLOCK", &test_clock, true)
            .override_global("FILTERS", &filters, true)
            // Elements of the hash table wait in lists of each CPU; a few more than slots let every slot be used.
            .map_max_entries("FLOWS", options.max_flows.saturating_add(SPARE_KEYS))
            .map_max_entries("STATES", options.max_flows)
            .map_max_entries("FREE", options.max_flows)
            .map_max_entries("DUE", options.max_flows)
            .map_max_entries("RECORDS", options.ring_bytes)
            .map_max_entries("BLOCKED", options.filter.block_max.max(1))
            .load(OBJECT)
            .map_err(denied("create eBPF maps", SensorError::Load))?;
        let ignored = options.filter.install(&mut ebpf)?;
        let mut loaded = Self { ebpf, ignored };
        loaded.xdp("ingress")?.load().map_err(refused("ingress"))?;
        loaded.classifier()?.load().map_err(refused("egress"))?;
        loaded.xdp("sweep")?.load().map_err(refused("sweep"))?;
        loaded.xdp("fill")?.load().map_err(refused("fill"))?;
        sweep::fill(loaded.xdp("fill")?, options.max_flows)?;
        Ok(loaded)
    }

    pub(super) fn xdp(&mut self, name: &'static str) -> Result<&mut Xdp, SensorError> {
        let program = self.ebpf.program_mut(name).ok_or(SensorError::Missing(name))?;
        program.try_into().map_err(refused(name))
    }

    pub(super) fn classifier(&mut self) -> Result<&mut SchedClassifier, SensorError> {
        let program = self.ebpf.program_mut("egress").ok_or(SensorError::Missing("egress"))?;
        program.try_into().map_err(refused("egress"))
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

    /// When each slot is due.
    pub(super) fn due_times(&mut self, slots: u32) -> Result<DueTimes, SensorError> {
        let Some(Map::Array(map)) = self.ebpf.map("DUE") else { return Err(SensorError::Missing("DUE")) };
        DueTimes::map(map.fd().as_fd(), slots)
            .map_err(|source| SensorError::Io { action: "map the due times of the flow table into memory", source })
    }

    /// Kernel memory of all maps, in bytes, as the kernel accounts for it.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.ebpf.maps().filter_map(|(_, map)| memory_of(map)).sum()
    }

    pub(super) fn clock(&mut self) -> Result<Array<MapData, u64>, SensorError> {
        let map = self.ebpf.take_map("CLOCK").ok_or(SensorError::Missing("CLOCK"))?;
        Array::try_from(map).map_err(|source| SensorError::Map { map: "CLOCK", source })
    }
}

/// What the kernel says that a map takes: `memlock` in its descriptor's `/proc` entry.
fn memory_of(map: &Map) -> Option<u64> {
    let data = match map {
        Map::Array(data) | Map::HashMap(data) | Map::PerCpuArray(data) | Map::RingBuf(data) | Map::Stack(data) => data,
        _ => return None,
    };
    let path = format!("/proc/self/fdinfo/{}", data.fd().as_fd().as_raw_fd());
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok())
}

fn refused(program: &'static str) -> impl Fn(ProgramError) -> SensorError {
    denied("load eBPF programs", move |source| SensorError::Program { program, source: Box::new(source) })
}

/// Turns a permission error, however deep, into the message that says what to do.
pub(super) fn denied<E: std::error::Error + 'static>(
    action: &'static str,
    otherwise: impl Fn(E) -> SensorError,
) -> impl Fn(E) -> SensorError {
    move |error| match os_error(&error) {
        // EACCES is what the verifier answers to a program that it rejects.
        Some(libc::EPERM) => SensorError::Permission { action },
        _ => otherwise(error),
    }
}

/// The operating system's error number at the root of an error.
pub(super) fn os_error(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.raw_os_error();
        }
        next = error.source();
    }
    None
}
