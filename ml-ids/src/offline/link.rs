//! Link layers: from a captured frame to the network layer.

use ml_ids_common::{Decap, Packet, Profile, Skip, SliceReader, parse_ethernet, parse_network};

/// A link type number of <https://www.tcpdump.org/linktypes.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkType(pub u16);

impl LinkType {
    /// BSD loopback: the address family in the byte order of the capturing host.
    pub const NULL: Self = Self(0);
    /// Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// Raw IP as some systems number it.
    pub const RAW_BSD: Self = Self(12);
    /// Raw IP, version 4 or 6.
    pub const RAW: Self = Self(101);
    /// OpenBSD loopback: the address family in network byte order.
    pub const LOOP: Self = Self(108);
    /// Linux cooked capture (`tcpdump -i any`).
    pub const LINUX_SLL: Self = Self(113);
    /// Raw IPv4.
    pub const IPV4: Self = Self(228);
    /// Raw IPv6.
    pub const IPV6: Self = Self(229);
    /// Linux cooked capture, version 2.
    pub const LINUX_SLL2: Self = Self(276);
}

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// Parses a captured frame: of a tunnel that is in `decap` the packet inside.
///
/// # Errors
/// The reason for which the frame is not a packet of a flow.
#[inline]
pub fn parse_frame(link: LinkType, frame: &[u8], profile: Profile, decap: Decap) -> Result<Packet, Skip> {
    let reader = SliceReader(frame);
    let length = u32::try_from(frame.len()).map_err(|_| Skip::Malformed)?;
    let (ethertype, offset) = match link {
        LinkType::ETHERNET => return parse_ethernet(&reader, length, profile, decap),
        LinkType::LINUX_SLL => (ethertype(frame, 14)?, 16),
        LinkType::LINUX_SLL2 => (ethertype(frame, 0)?, 20),
        LinkType::RAW | LinkType::RAW_BSD => (raw(frame)?, 0),
        LinkType::IPV4 => (IPV4, 0),
        LinkType::IPV6 => (IPV6, 0),
        LinkType::NULL => (family(frame, true)?, 4),
        LinkType::LOOP => (family(frame, false)?, 4),
        _ => return Err(Skip::LinkType),
    };
    parse_network(&reader, ethertype, offset, length, profile, decap)
}

fn ethertype(frame: &[u8], offset: usize) -> Result<u16, Skip> {
    let bytes = frame.get(offset..).and_then(|rest| rest.first_chunk()).ok_or(Skip::Truncated)?;
    Ok(u16::from_be_bytes(*bytes))
}

fn raw(frame: &[u8]) -> Result<u16, Skip> {
    match frame.first().map(|byte| byte >> 4) {
        Some(4) => Ok(IPV4),
        Some(6) => Ok(IPV6),
        Some(_) => Err(Skip::NotIp),
        None => Err(Skip::Truncated),
    }
}

/// The network layer of a BSD address family. AF_INET is 2 everywhere, AF_INET6 depends on the system.
fn family(frame: &[u8], either_order: bool) -> Result<u16, Skip> {
    let bytes = *frame.first_chunk().ok_or(Skip::Truncated)?;
    let number = u32::from_be_bytes(bytes);
    let number = if either_order && number > 0xffff { number.swap_bytes() } else { number };
    match number {
        2 => Ok(IPV4),
        10 | 24 | 28 | 30 => Ok(IPV6),
        _ => Err(Skip::NotIp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A UDP packet without payload, 10.0.0.1:1 to 10.0.0.2:2.
    const UDP: [u8; 28] = [
        0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, // IPv4
        0, 1, 0, 2, 0, 8, 0, 0,
    ];

    fn with_header(header: &[u8]) -> Vec<u8> {
        [header, &UDP].concat()
    }

    #[test]
    fn every_supported_link_type_leads_to_the_same_packet() {
        let expected = parse_frame(LinkType::RAW, &UDP, Profile::Fixed, Decap::NONE).unwrap();
        assert_eq!((expected.key.port_a, expected.key.port_b, expected.key.protocol), (1, 2, 17));
        let ethernet = with_header(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0]);
        let sll = with_header(&[0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0]);
        let sll2 = with_header(&[8, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0]);
        for (link, frame) in [
            (LinkType::ETHERNET, ethernet),
            (LinkType::LINUX_SLL, sll),
            (LinkType::LINUX_SLL2, sll2),
            (LinkType::RAW_BSD, UDP.to_vec()),
            (LinkType::IPV4, UDP.to_vec()),
            (LinkType::NULL, with_header(&[2, 0, 0, 0])),
            (LinkType::NULL, with_header(&[0, 0, 0, 2])),
            (LinkType::LOOP, with_header(&[0, 0, 0, 2])),
        ] {
            assert_eq!(parse_frame(link, &frame, Profile::Fixed, Decap::NONE), Ok(expected), "{link:?}");
        }
    }

    #[test]
    fn frames_without_a_packet_say_why() {
        let parse = |link, frame: &[u8]| parse_frame(LinkType(link), frame, Profile::Fixed, Decap::NONE);
        assert_eq!(parse(127, &UDP), Err(Skip::LinkType));
        assert_eq!(parse(101, &[]), Err(Skip::Truncated));
        assert_eq!(parse(101, &[0x50; 40]), Err(Skip::NotIp));
        assert_eq!(parse(113, &[0; 15]), Err(Skip::Truncated));
        assert_eq!(parse(108, &with_header(&[2, 0, 0, 0])), Err(Skip::NotIp));
        assert_eq!(parse(229, &UDP), Err(Skip::Truncated));
    }
}
