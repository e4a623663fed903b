//! Well-formed frames of every kind that the parser knows, each with what the parser must make of it.

use ml_ids_common::{Decap, Fragment, MAX_EXTENSION_HEADERS, MAX_HEADER_OFFSET, MAX_VLAN_TAGS, Skip};

use crate::{
    random::Random,
    tunnels::{Inside, Tunnel},
};

/// Smallest Ethernet frame on the wire, without its checksum.
const MIN_FRAME: usize = 60;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
/// Datagrams that are told apart, few so that fragments meet.
const DATAGRAMS: u64 = 4;

/// What a frame is, told by the builder that made it and not by the parser that is to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) version: u8,
    /// TCP, UDP, SCTP, or 0.
    pub(crate) protocol: u8,
    /// Source address as it stands in the frame; IPv4 uses the last four bytes.
    pub(crate) source: [u8; 16],
    pub(crate) destination: [u8; 16],
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) header: u8,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) payload: u32,
    pub(crate) padded_payload: u32,
    pub(crate) fragment: Fragment,
    /// 0 unless it is a fragment.
    pub(crate) datagram: u32,
}

/// Who talks in an episode. Few, so that packets meet in long flows; more, so that tables fill.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Population {
    /// Hosts of either IP version.
    hosts: usize,
    /// How many of [`Self::PORTS`] are used.
    ports: usize,
}

impl Population {
    const PORTS: [u16; 6] = [443, 40000, 80, 0, 22, 65535];

    pub(crate) fn new(random: &mut Random) -> Self {
        Self { hosts: random.pick([1, 2, 2, 2, 3, 6]), ports: random.pick([1, 1, 2, 2, 3, Self::PORTS.len()]) }
    }

    fn port(self, random: &mut Random) -> u16 {
        Self::PORTS[random.index(self.ports)]
    }

    pub(crate) fn v4(self, random: &mut Random) -> [u8; 16] {
        let mut address = [0; 16];
        address[12..].copy_from_slice(&[10, 0, 0, random.index(self.hosts) as u8]);
        address
    }

    pub(crate) fn v6(self, random: &mut Random) -> [u8; 16] {
        let mut address = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let host = random.index(self.hosts);
        // The difference stands in any word, so that each comparison of the canonical order is reached.
        address[[1, 5, 9, 15][host % 4]] = host as u8;
        address
    }
}

/// Writes one frame into `frame` (emptied first), sometimes one inside a tunnel. `decap` is what is looked into.
pub(crate) fn build(
    random: &mut Random,
    population: Population,
    decap: Decap,
    frame: &mut Vec<u8>,
) -> Result<Expected, Skip> {
    frame.clear();
    frame.extend_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    if random.percent(85) {
        return behind_ethernet(random, population, frame);
    }
    let tunnel = Tunnel::write(random, population, frame);
    let inner = match tunnel.inside {
        Inside::Ethernet => behind_ethernet(random, population, frame),
        Inside::V4 => Ok(ipv4(random, population, frame)),
        Inside::V6 => ipv6(random, population, frame),
    };
    let looked_into = tunnel.is_looked_into(decap);
    let outer = tunnel.close(frame);
    if looked_into { inner } else { Ok(outer) }
}

/// What follows the addresses of an Ethernet frame.
fn behind_ethernet(random: &mut Random, population: Population, frame: &mut Vec<u8>) -> Result<Expected, Skip> {
    let tags = if random.percent(80) { 0 } else { random.below(u64::from(MAX_VLAN_TAGS) + 2) as u32 };
    for _ in 0..tags {
        let tag: u16 = random.pick([0x8100, 0x88a8, 0x9100]);
        frame.extend_from_slice(&tag.to_be_bytes());
        frame.extend_from_slice(&(random.bits() as u16).to_be_bytes());
    }
    if tags > MAX_VLAN_TAGS {
        other_ethertype(random, frame);
        return Err(Skip::VlanDepth);
    }
    match random.below(100) {
        0..3 => {
            other_ethertype(random, frame);
            Err(Skip::NotIp)
        }
        3..70 => {
            frame.extend_from_slice(&[0x08, 0x00]);
            Ok(ipv4(random, population, frame))
        }
        _ => {
            frame.extend_from_slice(&[0x86, 0xdd]);
            ipv6(random, population, frame)
        }
    }
}

/// ARP, LLDP, MPLS, PPPoE, an 802.3 length, loopback test.
fn other_ethertype(random: &mut Random, frame: &mut Vec<u8>) {
    let ethertype: u16 = random.pick([0x0806, 0x88cc, 0x8847, 0x8864, 0x0026, 0x9000]);
    frame.extend_from_slice(&ethertype.to_be_bytes());
    let rest = random.index(80);
    frame.resize(frame.len() + rest, 0x5a);
}

fn ipv4(random: &mut Random, population: Population, frame: &mut Vec<u8>) -> Expected {
    let start = frame.len();
    let words = if random.percent(90) { 5 } else { 5 + random.below(11) as u8 };
    let (source, destination) = (population.v4(random), population.v4(random));
    let protocol = protocol(random);
    let (word, fragment): (u16, Fragment) = match random.below(100) {
        0..4 => (0x2000 | (1 + random.below(0x1ffe) as u16), Fragment::LATER),
        4..8 => (0x2000, Fragment::FIRST),
        8..10 => (1 + random.below(0x1ffe) as u16, Fragment::LATER),
        _ => (0x4000, Fragment::NONE),
    };
    let datagram = random.below(DATAGRAMS) as u16;
    frame.extend_from_slice(&[0x40 | words, 0, 0, 0]);
    frame.extend_from_slice(&datagram.to_be_bytes());
    frame.extend_from_slice(&word.to_be_bytes());
    frame.extend_from_slice(&[64, protocol, 0, 0]);
    frame.extend_from_slice(&source[12..]);
    frame.extend_from_slice(&destination[12..]);
    frame.resize(start + usize::from(words) * 4, 1);
    let segment = Segment { version: 4, source, destination, population };
    let mut expected = segment.transport(random, frame, if fragment == Fragment::LATER { 0 } else { protocol });
    expected.fragment = fragment;
    if fragment != Fragment::NONE {
        expected.datagram = datagram.into();
    }
    if fragment == Fragment::LATER && matches!(protocol, TCP | UDP | SCTP) {
        expected.protocol = protocol;
    }
    let total = (frame.len() - start) as u16;
    // 0 is what captures of segmentation offload hold: the packet then reaches to the end of the frame.
    let unsized_packet = random.percent(3);
    let field = if unsized_packet { 0 } else { total };
    frame[start + 2..start + 4].copy_from_slice(&field.to_be_bytes());
    pad(random, frame, &mut expected, unsized_packet);
    expected
}

fn ipv6(random: &mut Random, population: Population, frame: &mut Vec<u8>) -> Result<Expected, Skip> {
    const EXTENSIONS: [u8; 6] = [0, 43, 44, 51, 60, 135];
    let start = frame.len();
    let (source, destination) = (population.v6(random), population.v6(random));
    let protocol = protocol(random);
    let depth = MAX_EXTENSION_HEADERS as usize + 1;
    let count = if random.percent(70) { 0 } else { random.index(depth + 1) };
    frame.extend_from_slice(&[0x60, 0, 0, 0, 0, 0, 0, 64]);
    frame.extend_from_slice(&source);
    frame.extend_from_slice(&destination);
    // Position of the byte that names the header which follows.
    let mut next_at = start + 6;
    let (mut fragment, mut datagram) = (Fragment::NONE, 0);
    // Offset of the last header that must be read.
    let mut deepest = start;
    for _ in 0..count {
        let kind = random.pick(EXTENSIONS);
        frame[next_at] = kind;
        next_at = frame.len();
        deepest = next_at;
        let length = if random.percent(90) { random.below(3) as u8 } else { random.byte() };
        match kind {
            44 => {
                let more = random.below(2) as u16;
                let later = random.percent(20);
                fragment = match (later, more) {
                    (true, _) => Fragment::LATER,
                    (false, 0) => Fragment::NONE,
                    (false, _) => Fragment::FIRST,
                };
                datagram = random.below(DATAGRAMS) as u32;
                let offset: u16 = if later { 8 << random.below(12) } else { 0 };
                frame.extend_from_slice(&[0, length]);
                frame.extend_from_slice(&(offset | more).to_be_bytes());
                frame.extend_from_slice(&datagram.to_be_bytes());
            }
            51 => {
                frame.extend_from_slice(&[0, length]);
                frame.resize(next_at + (usize::from(length) + 2) * 4, 0xaa);
            }
            _ => {
                frame.extend_from_slice(&[0, length]);
                frame.resize(next_at + (usize::from(length) + 1) * 8, 0xbb);
            }
        }
        if fragment == Fragment::LATER {
            break;
        }
    }
    frame[next_at] = protocol;
    let later = fragment == Fragment::LATER;
    let too_deep = count == depth && !later;
    if !too_deep && !later && matches!(protocol, TCP | UDP | SCTP) {
        deepest = frame.len();
    }
    let segment = Segment { version: 6, source, destination, population };
    let mut expected = segment.transport(random, frame, if later { 0 } else { protocol });
    expected.fragment = fragment;
    if fragment != Fragment::NONE {
        expected.datagram = datagram;
    }
    let length = (frame.len() - start - 40) as u16;
    let unsized_packet = random.percent(3);
    let field = if unsized_packet { 0 } else { length };
    frame[start + 4..start + 6].copy_from_slice(&field.to_be_bytes());
    // A payload length of 0 is also what a bare header says: it then reaches to the end of the frame as well.
    pad(random, frame, &mut expected, unsized_packet || length == 0);
    if deepest > MAX_HEADER_OFFSET as usize {
        Err(Skip::Truncated)
    } else if too_deep {
        Err(Skip::ExtensionDepth)
    } else {
        Ok(expected)
    }
}

/// Ethernet padding, up to the least frame or a stray trailer.
fn pad(random: &mut Random, frame: &mut Vec<u8>, expected: &mut Expected, reaches_to_the_end: bool) {
    let before = frame.len();
    let trailer = if random.percent(3) { random.index(40) } else { 0 };
    let length = if random.percent(50) { (before + trailer).max(MIN_FRAME) } else { before + trailer };
    frame.resize(length, 0);
    if matches!(expected.protocol, TCP | UDP) && expected.fragment != Fragment::LATER {
        let padding = (length - before) as u32;
        expected.padded_payload = expected.payload + padding;
        if reaches_to_the_end {
            expected.payload = expected.padded_payload;
        }
    }
}

fn protocol(random: &mut Random) -> u8 {
    match random.below(100) {
        0..65 => TCP,
        65..93 => UDP,
        _ => random.pick([1, 2, 47, 50, 58, 59, SCTP, SCTP]),
    }
}

/// What a transport header goes with.
pub(crate) struct Segment {
    pub(crate) version: u8,
    pub(crate) source: [u8; 16],
    pub(crate) destination: [u8; 16],
    pub(crate) population: Population,
}

impl Segment {
    /// A packet of which no more is known.
    pub(crate) fn bare(&self) -> Expected {
        let &Self { version, source, destination, .. } = self;
        Expected {
            version,
            protocol: 0,
            source,
            destination,
            source_port: 0,
            destination_port: 0,
            header: 0,
            flags: 0,
            window: 0,
            payload: 0,
            padded_payload: 0,
            fragment: Fragment::NONE,
            datagram: 0,
        }
    }

    fn transport(self, random: &mut Random, frame: &mut Vec<u8>, protocol: u8) -> Expected {
        let population = self.population;
        let mut expected = self.bare();
        let payload = match random.below(100) {
            0..50 => 0,
            50..60 => 1,
            60..90 => random.index(200),
            _ => random.index(1461),
        };
        if matches!(protocol, TCP | UDP | SCTP) {
            expected.protocol = protocol;
            expected.source_port = population.port(random);
            expected.destination_port = population.port(random);
            expected.payload = if protocol == SCTP { 0 } else { payload as u32 };
            frame.extend_from_slice(&expected.source_port.to_be_bytes());
            frame.extend_from_slice(&expected.destination_port.to_be_bytes());
        }
        match protocol {
            TCP => {
                let words = if random.percent(60) { 5 } else { 5 + random.below(11) as u8 };
                expected.header = words * 4;
                expected.flags = flags(random);
                expected.window = random.pick([0, 1, 502, 64240, 65535]);
                frame.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1, words << 4 | random.byte() & 0x0f, expected.flags]);
                frame.extend_from_slice(&expected.window.to_be_bytes());
                frame.extend_from_slice(&[0; 4]);
                frame.resize(frame.len() + usize::from(words) * 4 - 20, 1);
            }
            UDP => {
                expected.header = 8;
                // UDP's own length is not what counts, so it may lie.
                frame.extend_from_slice(&(random.bits() as u16).to_be_bytes());
                frame.extend_from_slice(&[0; 2]);
            }
            // Verification tag and checksum; chunks follow.
            SCTP => frame.extend_from_slice(&[0; 8]),
            _ => {}
        }
        frame.resize(frame.len() + payload, 0x78);
        expected
    }
}

/// Mostly what conversations send, sometimes anything.
fn flags(random: &mut Random) -> u8 {
    match random.below(100) {
        0..55 => 0x10,
        55..82 => 0x18,
        82..87 => 0x02,
        87..91 => 0x12,
        91..95 => 0x11,
        95 => 0x01,
        96 => 0x14,
        _ => random.byte(),
    }
}
