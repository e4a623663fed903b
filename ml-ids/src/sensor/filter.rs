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
        for rule in &self.ignore {
            match rule {
                IgnoreRule::Prefix(net) => {
                    let mut prefixes: LpmTrie<_, PrefixData, u64> = borrow(ebpf, "IGNORED")?;
                    prefixes.insert(&prefix::key(net), 1, 0).map_err(failed("IGNORED"))?;
                }
                IgnoreRule::Port { tcp, udp, port } => {
                    let mut ports: Array<_, u64> = borrow(ebpf, "IGNORED_PORTS")?;
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

/// A map that the programs use and nobody else does. It stays in the object, or they could not be loaded.
fn borrow<'a, M>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<M, SensorError>
where
    M: TryFrom<&'a mut Map, Error = MapError>,
{
    let map = ebpf.map_mut(name).ok_or(SensorError::Missing(name))?;
    M::try_from(map).map_err(|source| SensorError::Map { map: name, source })
}

fn take<M: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, SensorError> {
    let map = ebpf.take_map(name).ok_or(SensorError::Missing(name))?;
    M::try_from(map).map_err(|source| SensorError::Map { map: name, source })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ipnet::IpNet;
    use ml_ids_common::{Counters, Hook, Skip};

    use super::*;
    use crate::{
        respond::{Blocklist, Guard, Protected, Protection, entry},
        sensor::{KernelReplay, Options, parse_prefix, testing::loaded},
    };

    const OUTSIDE: [u8; 4] = [203, 0, 113, 9];
    const INSIDE: [u8; 4] = [10, 0, 0, 2];
    const TCP: u8 = 6;
    const UDP: u8 = 17;

    /// Ethernet and IPv4 around 20 bytes that begin with the ports, padded to 60 bytes.
    fn v4(protocol: u8, from: ([u8; 4], u16), to: ([u8; 4], u16)) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol, 0, 0];
        frame.extend([from.0, to.0].concat());
        frame.extend([from.1.to_be_bytes(), to.1.to_be_bytes()].concat());
        frame.extend([0, 20, 0, 0, 0, 0, 0, 0, 0x50, 0x10]);
        frame.resize(60, 0);
        frame
    }

    /// The same over IPv6, between 2001:db8::`from` and fd77::2.
    fn v6(from: u8) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, TCP, 64];
        frame.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, from]);
        frame.extend([0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        frame.extend([3, 0xe8, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 0, 0, 0, 0, 0, 0]);
        frame
    }

    fn tcp(from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
        v4(TCP, (from, 1000), (to, 80))
    }

    fn load(filter: FilterOptions) -> Option<KernelReplay> {
        let options = Options { max_flows: 64, ring_bytes: 1 << 16, filter, ..Options::default() };
        loaded(&options)
    }

    fn load_blocking(block: BlockMode, ignore: &[&str]) -> Option<(KernelReplay, Blocklist, Protected, FilterCounts)> {
        let ignore = ignore.iter().map(|rule| rule.parse().unwrap()).collect();
        let mut replay = load(FilterOptions { ignore, block: Some(block), block_max: 4 })?;
        let FilterMaps { blocked, protected, counters } = replay.filter_maps().unwrap();
        Some((replay, Blocklist::new(blocked), Protected::new(protected), FilterCounts(counters)))
    }

    fn host_net(last: u8) -> IpNet {
        IpNet::from(std::net::IpAddr::from([10, 0, 0, last]))
    }

    struct FilterCounts(PerCpuArray<MapData, FilterCounters>);

    impl FilterCounts {
        fn get(&self) -> (u64, u64) {
            let values = self.0.get(&0, 0).unwrap();
            values.iter().fold((0, 0), |(would, spared), one| (would + one.would_block, spared + one.spared))
        }
    }

    /// In a flow, ignored, blocked of both hooks, once the books have been found in order.
    fn books(replay: &KernelReplay) -> [u64; 3] {
        let Counters { ingress, egress, .. } = replay.counters().unwrap();
        assert!(ingress.balanced() && egress.balanced(), "{ingress:?} {egress:?}");
        let skipped = |skip: Skip| ingress.skipped[skip as usize] + egress.skipped[skip as usize];
        [ingress.in_flow + egress.in_flow, skipped(Skip::Ignored), skipped(Skip::Blocked)]
    }

    fn block(list: &mut Blocklist, net: &str, from_us: u64, ttl: Duration) {
        list.add(&parse_prefix(net).unwrap(), &entry(from_us, ttl, None)).unwrap();
    }

    #[test]
    fn a_blocked_source_is_dropped_until_its_time_is_over_and_nobody_else_is() {
        let Some((mut replay, mut list, ..)) = load_blocking(BlockMode::Drop, &[]) else { return };
        assert!(!replay.is_dropped(&tcp(OUTSIDE, INSIDE), 1_000_000).unwrap());
        block(&mut list, "203.0.113.9", 1_000_000, Duration::from_secs(1));
        block(&mut list, "2001:db8::/64", 1_000_000, Duration::from_secs(1));
        for (frame, dropped) in [
            (tcp(OUTSIDE, INSIDE), true),
            (tcp([203, 0, 113, 10], INSIDE), false),
            // What is sent to it, when it comes in on a bridge.
            (tcp(INSIDE, OUTSIDE), false),
            (v6(1), true),
        ] {
            assert_eq!(replay.is_dropped(&frame, 1_999_999).unwrap(), dropped);
        }
        // The end of a block is not in it.
        assert!(!replay.is_dropped(&tcp(OUTSIDE, INSIDE), 2_000_000).unwrap());
        assert!(!replay.is_dropped(&v6(1), 2_000_000).unwrap());
        assert!(replay.packet(Hook::Egress, &tcp(OUTSIDE, INSIDE), 1_500_000).unwrap());
        assert_eq!(books(&replay), [6, 0, 2]);
        assert_eq!(list.covering(&parse_prefix("203.0.113.9").unwrap()).unwrap().unwrap().packets, 1);
    }

    #[test]
    fn what_the_parser_refuses_does_not_get_a_blocked_source_through() {
        let Some((mut replay, mut list, ..)) = load_blocking(BlockMode::Drop, &[]) else { return };
        let cut = &tcp(OUTSIDE, INSIDE)[..36];
        assert!(!replay.is_dropped(cut, 0).unwrap());
        block(&mut list, "203.0.113.0/24", 0, Duration::from_secs(1));
        let mut tagged = tcp(OUTSIDE, INSIDE);
        tagged.splice(12..12, [0x81, 0, 0, 5, 0x88, 0xa8, 0, 6]);
        let mut no_ip = tcp(OUTSIDE, INSIDE);
        no_ip[13] = 6;
        for (frame, dropped) in [(cut, true), (&tagged, true), (&tagged[..44], true), (&no_ip, false)] {
            assert_eq!(replay.is_dropped(frame, 0).unwrap(), dropped, "{frame:?}");
        }
        assert_eq!(books(&replay), [0, 0, 3]);
    }

    #[test]
    fn a_dry_run_drops_nothing_and_counts_what_it_would_have() {
        let Some((mut replay, mut list, _, counts)) = load_blocking(BlockMode::DryRun, &[]) else { return };
        block(&mut list, "203.0.113.9", 0, Duration::from_secs(1));
        for _ in 0..3 {
            assert!(!replay.is_dropped(&tcp(OUTSIDE, INSIDE), 5).unwrap());
        }
        assert_eq!((books(&replay), counts.get()), ([3, 0, 0], (3, 0)));
    }

    #[test]
    fn what_is_protected_is_never_dropped_even_inside_a_blocked_prefix() {
        let Some((mut replay, mut list, mut protected, counts)) = load_blocking(BlockMode::Drop, &[]) else { return };
        let net = |text| parse_prefix(text).unwrap();
        let guard = Guard::new([(net("203.0.113.8/29"), Protection::OwnAddress)], &[]);
        protected.write(&guard).unwrap();
        assert_eq!(protected.read().unwrap().protected().first(), guard.protected().first());
        block(&mut list, "203.0.113.0/24", 0, Duration::from_secs(1));
        assert!(!replay.is_dropped(&tcp(OUTSIDE, INSIDE), 5).unwrap());
        assert!(replay.is_dropped(&tcp([203, 0, 113, 1], INSIDE), 5).unwrap());
        assert_eq!((books(&replay), counts.get()), ([1, 0, 1], (0, 1)));
        protected.write(&Guard::default()).unwrap();
        assert!(replay.is_dropped(&tcp(OUTSIDE, INSIDE), 5).unwrap());
    }

    #[test]
    fn ignored_packets_pass_uncounted_at_both_hooks_and_are_never_dropped() {
        for (rule, frame, other) in [
            ("203.0.113.0/24", tcp(OUTSIDE, INSIDE), tcp([203, 0, 114, 9], INSIDE)),
            ("203.0.113.9", tcp(INSIDE, OUTSIDE), tcp(INSIDE, [203, 0, 113, 8])),
            ("2001:db8::7", v6(7), v6(8)),
            // All of IPv6 is not a word about IPv4.
            ("::/0", v6(7), tcp(OUTSIDE, INSIDE)),
            ("0.0.0.0/0", tcp(OUTSIDE, INSIDE), v6(7)),
            ("tcp:80", tcp(OUTSIDE, INSIDE), v4(UDP, (OUTSIDE, 1000), (INSIDE, 80))),
            ("udp:53", v4(UDP, (OUTSIDE, 53), (INSIDE, 9)), v4(TCP, (OUTSIDE, 53), (INSIDE, 9))),
            ("port:65535", v4(UDP, (OUTSIDE, 1), (INSIDE, 65_535)), v4(UDP, (OUTSIDE, 1), (INSIDE, 65_534))),
        ] {
            let Some((mut replay, mut list, ..)) = load_blocking(BlockMode::Drop, &[rule]) else { return };
            block(&mut list, "203.0.0.0/16", 0, Duration::from_secs(1));
            block(&mut list, "2001:db8::7", 0, Duration::from_secs(1));
            assert!(!replay.is_dropped(&frame, 5).unwrap(), "{rule}");
            replay.packet(Hook::Egress, &frame, 5).unwrap();
            replay.packet(Hook::Egress, &other, 5).unwrap();
            assert_eq!(books(&replay), [1, 2, 0], "{rule}");
        }
    }

    #[test]
    fn an_ignored_interface_is_ignored_and_an_unknown_one_harms_nobody() {
        // A test run's packets come from loopback.
        for (rule, expected) in [("interface:lo", [0, 2, 0]), ("interface:nope0", [2, 0, 0])] {
            let filter = FilterOptions { ignore: vec![rule.parse().unwrap()], ..FilterOptions::default() };
            let Some(mut replay) = load(filter) else { return };
            for hook in Hook::ALL {
                replay.packet(hook, &tcp(OUTSIDE, INSIDE), 5).unwrap();
            }
            assert_eq!(books(&replay), expected, "{rule}");
        }
    }

    #[test]
    fn a_full_list_takes_no_more_and_says_so() {
        let Some((_, mut list, ..)) = load_blocking(BlockMode::Drop, &[]) else { return };
        let full = (1..=5).map(|host| list.add(&host_net(host), &entry(0, Duration::ZERO, None)));
        let full: Vec<bool> = full.map(|added| matches!(added, Err(crate::respond::BlocklistError::Full))).collect();
        assert_eq!(full, [false, false, false, false, true]);
        assert_eq!(list.entries().unwrap().len(), 4);
        assert!(list.remove(&host_net(1)).unwrap());
        assert!(!list.remove(&host_net(1)).unwrap());
        list.add(&host_net(5), &entry(0, Duration::ZERO, None)).unwrap();
    }
}
