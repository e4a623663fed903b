//! The filter in front of the counting: which parts of it are in use, and its maps.

use aya::{
    Ebpf,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray},
};
use ml_ids_common::{BlockEntry, FilterCounters, FilterMask, PrefixData, port_bit};

use super::{
    SensorError,
    ignore::{IgnoreRule, IgnoredInterfaces},
    prefix,
};

/// What is done with packets of blocked sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockMode {
    /// They are dropped.
    Drop,
    /// They are counted and let through.
    DryRun,
}

/// How the filter is set up.
#[derive(Clone, Debug, Default)]
pub struct FilterOptions {
    /// What is not counted.
    pub ignore: Vec<IgnoreRule>,
    /// Whether sources can be blocked.
    pub block: Option<BlockMode>,
    /// Most blocks at a time.
    pub block_max: u32,
}

/// The maps of the filter that change while the sensor runs.
pub struct FilterMaps {
    /// What is blocked.
    pub blocked: LpmTrie<MapData, PrefixData, BlockEntry>,
    /// What is never dropped, with the reason as a number.
    pub protected: LpmTrie<MapData, PrefixData, u64>,
    /// What the filter counts besides the books.
    pub counters: PerCpuArray<MapData, FilterCounters>,
}

impl FilterOptions {
    /// The switches, as [`FilterMask`] has them.
    pub(super) fn mask(&self) -> u8 {
        let block = match self.block {
            Some(BlockMode::Drop) => FilterMask::BLOCK,
            Some(BlockMode::DryRun) => FilterMask::DRY_RUN,
            None => 0,
        };
        self.ignore.iter().fold(block, |mask, rule| {
            mask | match rule {
                IgnoreRule::Prefix(_) => FilterMask::IGNORE_PREFIX,
                IgnoreRule::Port { .. } => FilterMask::IGNORE_PORT,
                IgnoreRule::Interface(_) => FilterMask::IGNORE_INTERFACE,
            }
        })
    }

    /// Enters the rules, before anything is attached.
    pub(super) fn install(&self, ebpf: &mut Ebpf) -> Result<IgnoredInterfaces, SensorError> {
        let failed = |map| move |source| SensorError::Map { map, source };
        let mut prefixes: LpmTrie<_, PrefixData, u64> = take(ebpf, "IGNORED")?;
        let mut ports: Array<_, u64> = take(ebpf, "IGNORED_PORTS")?;
        for rule in &self.ignore {
            match rule {
                IgnoreRule::Prefix(net) => {
                    prefixes.insert(&prefix::key(net), 1, 0).map_err(failed("IGNORED"))?;
                }
                IgnoreRule::Port { tcp, udp, port } => {
                    for (_, udp) in [(tcp, false), (udp, true)].into_iter().filter(|(wanted, _)| **wanted) {
                        let (word, bit) = port_bit(udp, *port);
                        let bits = ports.get(&word, 0).map_err(failed("IGNORED_PORTS"))?;
                        ports.set(word, bits | bit, 0).map_err(failed("IGNORED_PORTS"))?;
                    }
                }
                IgnoreRule::Interface(_) => {}
            }
        }
        let interfaces: HashMap<_, u32, u32> = take(ebpf, "IGNORED_INTERFACES")?;
        Ok(IgnoredInterfaces::new(interfaces, &self.ignore))
    }
}

impl FilterMaps {
    /// Takes the maps out of the loaded object.
    pub(super) fn take(ebpf: &mut Ebpf) -> Result<Self, SensorError> {
        Ok(Self {
            blocked: take(ebpf, "BLOCKED")?,
            protected: take(ebpf, "PROTECTED")?,
            counters: take(ebpf, "FILTERED")?,
        })
    }
}

fn take<M: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, SensorError> {
    let map = ebpf.take_map(name).ok_or(SensorError::Missing(name))?;
    M::try_from(map).map_err(|source| SensorError::Map { map: name, source })
}
