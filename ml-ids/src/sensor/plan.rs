//! What a sensor would do if it were started now: which interfaces it would attach to and how, whether the kernel and the
//! process's rights suffice, and what the maps take. Nothing is attached, and nothing is left behind.

use std::{fs, io};

use aya::util::KernelVersion;
use ml_ids_common::Hook;

use super::{
    AttachMode, Options, SensorError, Watch,
    hook::Place,
    interface::{Interface, InterfaceError},
    kernel::Kernel,
    links::{LinkInfo, Links},
    load::Loaded,
    refusal::rights,
};

/// Where the BPF file system belongs.
const BPFFS: &str = "/sys/fs/bpf";
/// Bytes that a flow takes in the table, for who may not ask the kernel.
const FLOW_BYTES: u64 = 630;

/// What a sensor would do.
#[derive(Debug, Default)]
pub struct Plan {
    /// The interfaces that are meant and there.
    pub interfaces: Vec<PlannedInterface>,
    /// Names and patterns of which no interface is there yet.
    pub awaited: Vec<String>,
    /// Features of the running kernel, in words, and whether it has them.
    pub kernel: Vec<(String, bool)>,
    /// Rights that are needed, and whether this process holds them.
    pub rights: Vec<(&'static str, bool)>,
    /// Kernel memory of all maps in bytes, and whether the kernel said so or it is reckoned.
    pub memory: (u64, bool),
    /// Whether the kernel took the programs, which are gone again. `None` if that could not be tried.
    pub loads: Option<bool>,
    /// Why it would not start, in the order in which it would meet that.
    pub lacks: Vec<Lack>,
}

/// Why a sensor would not start.
#[derive(Debug)]
pub enum Lack {
    /// The command line asks for what is not there.
    Interface(InterfaceError),
    /// The kernel or the rights do not suffice.
    Kernel(SensorError),
}

/// One interface that is meant.
#[derive(Clone, Debug)]
pub struct PlannedInterface {
    /// Its name.
    pub name: String,
    /// The kernel's number of it.
    pub index: u32,
    /// Whether it is up and has a carrier.
    pub running: bool,
    /// In which role it would be watched.
    pub role: &'static str,
    /// For each direction the hooks that would be tried, the best first.
    pub hooks: Vec<(&'static str, Vec<&'static str>)>,
}

/// Says what [`super::Sensor::start`] would do.
///
/// # Errors
/// When the interfaces cannot be listed.
pub fn plan(watch: &Watch, options: &Options) -> Result<Plan, SensorError> {
    let list = Links::open().and_then(|mut links| links.list());
    let list = list.map_err(|source| SensorError::Io { action: "list the interfaces", source })?;
    let mut plan = Plan { kernel: kernel(), rights: rights(), ..Plan::default() };
    for name in watch.missing(&list) {
        if watch.wait {
            plan.awaited.push(name.to_string());
            continue;
        }
        let mut names: Vec<&str> = list.iter().map(|link| link.name.as_str()).collect();
        names.sort_unstable();
        let missing = InterfaceError::NotFound { name: name.to_string(), available: names.join(", ") };
        plan.lacks.push(Lack::Interface(missing));
    }
    for link in watch.present(&list) {
        match Interface::of(link) {
            Ok(interface) => plan.interfaces.push(planned(&interface, link, watch.attach)),
            Err(error) if watch.names(link) => plan.lacks.push(Lack::Interface(error)),
            Err(_) => {}
        }
    }
    let patterns = watch.interfaces.iter().filter(|pattern| !pattern.is_name());
    let idle = patterns.filter(|pattern| !list.iter().any(|link| pattern.matches(link)));
    plan.awaited.extend(idle.map(ToString::to_string));
    plan.memory = (u64::from(options.max_flows) * FLOW_BYTES + u64::from(options.ring_bytes), false);
    if plan.rights.iter().all(|(_, held)| *held) {
        // Without the pins: what is pinned belongs to the sensor that runs.
        match Loaded::load(&Options { pin: None, ..options.clone() }) {
            Ok(loaded) => (plan.memory, plan.loads) = ((loaded.memory_bytes(), true), Some(true)),
            Err(error) => {
                plan.loads = Some(false);
                plan.lacks.push(Lack::Kernel(error));
            }
        }
    } else {
        plan.lacks.push(Lack::Kernel(SensorError::Permission { action: "load and attach eBPF programs" }));
    }
    Ok(plan)
}

fn planned(interface: &Interface, link: &LinkInfo, mode: AttachMode) -> PlannedInterface {
    let hooks = mode.directions(interface).iter().map(|direction| {
        let mut names: Vec<_> =
            Place::chain(interface, *direction).iter().map(|place| place.name(*direction)).collect();
        names.dedup();
        let direction = if *direction == Hook::Ingress { "received" } else { "sent" };
        (direction, names)
    });
    let up = (libc::IFF_UP | libc::IFF_RUNNING) as u32;
    PlannedInterface {
        name: interface.name.clone(),
        index: interface.index,
        running: link.flags & up == up,
        role: if mode.mirrors(interface) { "mirror" } else { "host" },
        hooks: hooks.collect(),
    }
}

fn kernel() -> Vec<(String, bool)> {
    let running = KernelVersion::current().ok();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let since = |major, minor| running.is_some_and(|running| running >= KernelVersion::new(major, minor, 0));
    let probed = Kernel::probe();
    vec![
        (format!("Linux {}, ring buffers for eBPF programs", release.trim()), probed.is_ok()),
        ("XDP on frames of several buffers (jumbo MTUs)".to_owned(), probed.is_ok_and(|kernel| kernel.frags)),
        ("TCX links (Linux 6.6)".to_owned(), since(6, 6)),
        (format!("BPF file system at {BPFFS} (for --pin, --block)"), is_mounted(BPFFS).unwrap_or(false)),
    ]
}

/// Whether a BPF file system is mounted there.
fn is_mounted(at: &str) -> io::Result<bool> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    Ok(mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        fields.next() == Some(at) && fields.next() == Some("bpf")
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::testing::in_namespace;

    #[test]
    fn interfaces_are_resolved_and_nothing_is_attached() {
        in_namespace(|| {
            let options = Options { max_flows: 1024, ring_bytes: 1 << 20, ..Options::default() };
            let interfaces = ["a0", "b*", "zz*", "gone"].map(|name| name.parse().unwrap()).into();
            let watch = Watch { interfaces, ..Watch::default() };
            let plan = plan(&watch, &options).unwrap();
            let mut names: Vec<_> = plan.interfaces.iter().map(|interface| interface.name.as_str()).collect();
            names.sort_unstable();
            assert_eq!(names, ["a0", "b0"], "{plan:?}");
            assert_eq!(plan.awaited, ["zz*"]);
            assert!(matches!(plan.lacks[..], [Lack::Interface(InterfaceError::NotFound { .. })]), "{plan:?}");
            assert!(plan.memory.1 && plan.memory.0 > 1024 * 600 && plan.loads == Some(true), "{plan:?}");
            let (direction, hooks) = &plan.interfaces[0].hooks[0];
            assert_eq!((*direction, &hooks[..2]), ("received", &["xdp-native", "xdp-generic"][..]));
            let links = Links::open().unwrap().list().unwrap();
            assert!(links.iter().all(|link| !link.name.is_empty()));
        });
    }
}
