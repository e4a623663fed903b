//! Tunnel headers around a frame that is built behind them.

use ml_ids_common::{Decap, Fragment};

use crate::{
    frames::{Expected, Population, Segment},
    random::Random,
};

const UDP: u8 = 17;

/// What the tunnel carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inside {
    /// An Ethernet frame.
    Ethernet,
    /// IPv4 without anything before it.
    V4,
    /// IPv6 without anything before it.
    V6,
}

impl Inside {
    const fn ethertype(self) -> u16 {
        match self {
            Self::Ethernet => 0x6558,
            Self::V4 => 0x0800,
            Self::V6 => 0x86dd,
        }
    }
}

/// The headers that have been written.
pub(crate) struct Tunnel {
    pub(crate) kind: Decap,
    pub(crate) inside: Inside,
    expected: Expected,
    /// Where the outer IP header starts and where its payload does.
    ip: usize,
    l4: usize,
}

impl Tunnel {
    /// Writes the headers of a tunnel, from an outer EtherType to what comes before the packet inside.
    pub(crate) fn write(random: &mut Random, population: Population, frame: &mut Vec<u8>) -> Self {
        let kind = random.pick([Decap::VXLAN, Decap::GENEVE, Decap::GRE, Decap::IPIP]);
        let inside = match kind {
            Decap::VXLAN => Inside::Ethernet,
            Decap::IPIP => random.pick([Inside::V4, Inside::V6]),
            _ => random.pick([Inside::Ethernet, Inside::V4, Inside::V6]),
        };
        let protocol = match (kind, inside) {
            (Decap::GRE, _) => 47,
            (Decap::IPIP, Inside::V6) => 41,
            (Decap::IPIP, _) => 4,
            _ => UDP,
        };
        let version = random.pick([4, 6]);
        let (source, destination, ip);
        let mut fragmented = false;
        if version == 4 {
            fragmented = random.percent(10);
            (source, destination) = (population.v4(random), population.v4(random));
            frame.extend_from_slice(&[0x08, 0x00]);
            ip = frame.len();
            let flags = if fragmented { 0x20 } else { 0x40 };
            frame.extend_from_slice(&[0x45, 0, 0, 0, 0, random.below(4) as u8, flags, 0, 64, protocol, 0, 0]);
            frame.extend_from_slice(&source[12..]);
            frame.extend_from_slice(&destination[12..]);
        } else {
            (source, destination) = (population.v6(random), population.v6(random));
            frame.extend_from_slice(&[0x86, 0xdd]);
            ip = frame.len();
            frame.extend_from_slice(&[0x60, 0, 0, 0, 0, 0, protocol, 64]);
            frame.extend_from_slice(&source);
            frame.extend_from_slice(&destination);
        }
        let l4 = frame.len();
        let mut expected = Segment { version, source, destination, population }.bare();
        if fragmented {
            expected.fragment = Fragment::FIRST;
            expected.datagram = u32::from(frame[ip + 5]);
        }
        if protocol == UDP {
            let (from, to) = (50_000, if kind == Decap::GENEVE { 6081 } else { random.pick([4789, 8472]) });
            (expected.protocol, expected.source_port, expected.destination_port, expected.header) = (UDP, from, to, 8);
            frame.extend_from_slice(&from.to_be_bytes());
            frame.extend_from_slice(&to.to_be_bytes());
            frame.extend_from_slice(&[0; 4]);
        }
        match kind {
            Decap::VXLAN => frame.extend_from_slice(&[random.byte() | 8, 0, 0, 0, 0, 0, 7, 0]),
            Decap::GENEVE => {
                let words = random.below(64) as u8;
                frame.extend_from_slice(&[words, random.byte()]);
                frame.extend_from_slice(&inside.ethertype().to_be_bytes());
                frame.extend_from_slice(&[0, 0, 7, 0]);
                frame.resize(frame.len() + usize::from(words) * 4, 0xcc);
            }
            Decap::GRE => gre(random, inside, frame),
            _ => {}
        }
        if inside == Inside::Ethernet {
            frame.extend_from_slice(&[2, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 4]);
        }
        Self { kind, inside, expected, ip, l4 }
    }

    /// Whether the packet inside is what counts.
    pub(crate) fn is_looked_into(&self, decap: Decap) -> bool {
        decap.0 & self.kind.0 != 0 && self.expected.fragment == Fragment::NONE
    }

    /// Completes the outer headers once the frame is. Returns what the outer packet is to those who do not look inside.
    pub(crate) fn close(mut self, frame: &mut [u8]) -> Expected {
        let (field, length) =
            if self.expected.version == 4 { (2, frame.len() - self.ip) } else { (4, frame.len() - self.l4) };
        // Long chains of extension headers may exceed the field; 0 then says that the packet reaches to the end.
        let length = u16::try_from(length).unwrap_or(0);
        frame[self.ip + field..self.ip + field + 2].copy_from_slice(&length.to_be_bytes());
        if self.expected.protocol == UDP {
            self.expected.payload = (frame.len() - self.l4 - 8) as u32;
            self.expected.padded_payload = self.expected.payload;
        }
        self.expected
    }
}

fn gre(random: &mut Random, inside: Inside, frame: &mut Vec<u8>) {
    let flags = random.byte() & 0xb0;
    let erspan = inside == Inside::Ethernet && random.percent(30);
    let protocol = if erspan { 0x88be } else { inside.ethertype() };
    frame.extend_from_slice(&[flags, 0]);
    frame.extend_from_slice(&protocol.to_be_bytes());
    frame.resize(frame.len() + flags.count_ones() as usize * 4, 0xdd);
    if erspan && flags & 0x10 != 0 {
        frame.extend_from_slice(&[0x10, 0, 0, 0, 0, 0, 0, 0]);
    }
}
