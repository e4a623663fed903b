//! From frame bytes to a [`Packet`], by `docs/feature-spec.md` section 2: Ethernet, VLAN tags, IPv4 with options, IPv6
//! with extension headers, TCP, UDP, SCTP; everything else that is IP becomes a packet with protocol and ports 0.

use crate::{
    Address, Decap, FlowKey, Fragment, FrameReader, IpVersion, Packet, Profile, Skip, TcpFlags, decap::innermost,
    key::same_address,
};

/// Deepest stack of 802.1Q/802.1ad tags that is followed.
pub const MAX_VLAN_TAGS: u32 = 8;
/// Longest chain of IPv6 extension headers that is followed.
pub const MAX_EXTENSION_HEADERS: u32 = 8;
/// No header is read beyond this byte offset of a frame.
pub const MAX_HEADER_OFFSET: u32 = 4096;

pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERNET_HEADER: u32 = 14;
const VLAN_TAG: u32 = 4;
const IPV4_HEADER: u32 = 20;
const IPV6_HEADER: u32 = 40;
const TCP: u8 = 6;
const UDP: u8 = 17;
const UDP_HEADER: u32 = 8;
const SCTP: u8 = 132;
/// Protocol number under which everything else is kept, as the reference tools do.
const OTHER: u8 = 0;
pub(crate) const FRAGMENT_OFFSET: u16 = 0x1fff;
pub(crate) const MORE_FRAGMENTS: u16 = 0x2000;

/// Parses an Ethernet frame of `frame_len` bytes (captured bytes: a snapped capture counts what it holds).
///
/// # Errors
/// The reason for which the frame is not a packet of a flow.
#[inline(always)]
pub fn parse_ethernet<R: FrameReader>(
    reader: &R,
    frame_len: u32,
    profile: Profile,
    decap: Decap,
) -> Result<Packet, Skip> {
    let [_, _, _, _, _, _, ethertype] = reader.halfwords::<7>(0).ok_or(Skip::Truncated)?;
    parse_network(reader, u16::from_be(ethertype), ETHERNET_HEADER, frame_len, profile, decap)
}

/// Parses from the network layer on: `offset` is the first byte after the EtherType. Of a tunnel that is in `decap` it is
/// the packet inside.
///
/// # Errors
/// The reason for which the frame is not a packet of a flow.
#[inline(always)]
pub fn parse_network<R: FrameReader>(
    reader: &R,
    ethertype: u16,
    offset: u32,
    frame_len: u32,
    profile: Profile,
    decap: Decap,
) -> Result<Packet, Skip> {
    let (mut ethertype, mut offset) = innermost(reader, ethertype, offset, decap);
    let mut tags = 0;
    while is_vlan(ethertype) {
        if tags == MAX_VLAN_TAGS {
            return Err(Skip::VlanDepth);
        }
        let [_, inner] = reader.halfwords::<2>(offset).ok_or(Skip::Truncated)?;
        ethertype = u16::from_be(inner);
        offset = reader.forget(offset + VLAN_TAG);
        tags += 1;
    }
    match ethertype {
        ETHERTYPE_IPV4 => ipv4(reader, offset, frame_len, profile),
        ETHERTYPE_IPV6 => ipv6(reader, offset, frame_len, profile),
        _ => Err(Skip::NotIp),
    }
}

#[inline(always)]
pub(crate) const fn is_vlan(ethertype: u16) -> bool {
    matches!(ethertype, 0x8100 | 0x88a8 | 0x9100)
}

/// The IP layer's findings, common to both versions.
struct Network {
    version: IpVersion,
    source: Address,
    destination: Address,
    /// TCP, UDP or SCTP, otherwise [`OTHER`].
    protocol: u8,
    /// Offset of the layer 4 header, which a later fragment does not have.
    l4: u32,
    fragment: Fragment,
    datagram: u32,
    /// End of the packet by its own length field, at most the end of the frame.
    end: u32,
    frame_len: u32,
}

#[inline(always)]
fn ipv4<R: FrameReader>(reader: &R, offset: u32, frame_len: u32, profile: Profile) -> Result<Packet, Skip> {
    let header = reader.halfwords::<10>(offset).ok_or(Skip::Truncated)?;
    let [version_ihl_tos, total_length, id, fragment, ttl_protocol, _, s0, s1, d0, d1] = header;
    let version_ihl = (u16::from_be(version_ihl_tos) >> 8) as u8;
    let header_len = u32::from(version_ihl & 0x0f) * 4;
    if version_ihl >> 4 != 4 || header_len < IPV4_HEADER {
        return Err(Skip::Malformed);
    }
    let total_length = u32::from(u16::from_be(total_length));
    let fragment = u16::from_be(fragment);
    let network = Network {
        version: IpVersion::V4,
        source: Address::v4(word(s0, s1)),
        destination: Address::v4(word(d0, d1)),
        protocol: known((u16::from_be(ttl_protocol) & 0xff) as u8),
        l4: offset + header_len,
        fragment: Fragment::of(fragment & FRAGMENT_OFFSET, fragment & MORE_FRAGMENTS),
        datagram: u32::from(u16::from_be(id)),
        // A length of 0 is a segmentation-offload capture: the packet reaches to the end of the frame.
        end: if total_length == 0 { frame_len } else { frame_len.min(offset + total_length) },
        frame_len,
    };
    transport(reader, &network, profile)
}

#[inline(always)]
fn ipv6<R: FrameReader>(reader: &R, offset: u32, frame_len: u32, profile: Profile) -> Result<Packet, Skip> {
    let header = reader.halfwords::<20>(offset).ok_or(Skip::Truncated)?;
    let [version, _, payload_length, next_hop, s0, s1, s2, s3, s4, s5, s6, s7, d0, d1, d2, d3, d4, d5, d6, d7] = header;
    if u16::from_be(version) >> 12 != 6 {
        return Err(Skip::Malformed);
    }
    let payload_length = u32::from(u16::from_be(payload_length));
    let first = (u16::from_be(next_hop) >> 8) as u8;
    let upper = extension_headers(reader, first, offset + IPV6_HEADER)?;
    let network = Network {
        version: IpVersion::V6,
        source: Address([word(s0, s1), word(s2, s3), word(s4, s5), word(s6, s7)]),
        destination: Address([word(d0, d1), word(d2, d3), word(d4, d5), word(d6, d7)]),
        protocol: known(upper.protocol),
        l4: upper.offset,
        fragment: upper.fragment,
        datagram: upper.datagram,
        // 0 is a jumbogram (RFC 2675) or a segmentation-offload capture.
        end: if payload_length == 0 { frame_len } else { frame_len.min(offset + IPV6_HEADER + payload_length) },
        frame_len,
    };
    transport(reader, &network, profile)
}

/// What a chain of extension headers leads to.
struct Upper {
    protocol: u8,
    offset: u32,
    fragment: Fragment,
    datagram: u32,
}

/// Follows the chain of extension headers (RFC 8200, RFC 4302) to the upper-layer protocol and its offset. A fragment
/// other than the first has no upper-layer header: protocol [`OTHER`].
#[inline(always)]
fn extension_headers<R: FrameReader>(reader: &R, first: u8, offset: u32) -> Result<Upper, Skip> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    const DESTINATION: u8 = 60;
    const MOBILITY: u8 = 135;
    let (mut next, mut offset) = (first, offset);
    let (mut fragment, mut datagram) = (Fragment::NONE, 0);
    for _ in 0..=MAX_EXTENSION_HEADERS {
        let units: u32 = match next {
            HOP_BY_HOP | ROUTING | DESTINATION | MOBILITY => 8,
            AUTHENTICATION => 4,
            FRAGMENT => 0,
            _ => return Ok(Upper { protocol: next, offset, fragment, datagram }),
        };
        // All are multiples of 8 bytes, so this is no more than there must be.
        let [next_length, place, id0, id1] = reader.halfwords::<4>(offset).ok_or(Skip::Truncated)?;
        let next_length = u16::from_be(next_length);
        if next == FRAGMENT {
            let place = u16::from_be(place);
            fragment = Fragment::of(place & 0xfff8, place & 1);
            datagram = u32::from_be(word(id0, id1));
            offset += 8;
            if fragment == Fragment::LATER {
                return Ok(Upper { protocol: OTHER, offset, fragment, datagram });
            }
        } else {
            let length = u32::from(next_length & 0xff);
            offset += if units == 4 { (length + 2) * 4 } else { (length + 1) * 8 };
        }
        offset = reader.forget(offset);
        next = (next_length >> 8) as u8;
    }
    Err(Skip::ExtensionDepth)
}

#[inline(always)]
fn transport<R: FrameReader>(reader: &R, network: &Network, profile: Profile) -> Result<Packet, Skip> {
    let &Network { version, source, destination, protocol, l4, fragment, datagram, end, frame_len } = network;
    let headed = if fragment == Fragment::LATER { OTHER } else { protocol };
    let (source_port, destination_port, header, flags, window) = match headed {
        TCP => {
            let [source, destination, _, _, _, _, offset_flags, window, _, _] =
                reader.halfwords::<10>(l4).ok_or(Skip::Truncated)?;
            let offset_flags = u16::from_be(offset_flags);
            let header = (offset_flags >> 12) as u8 * 4;
            (source, destination, header, (offset_flags & 0xff) as u8, u16::from_be(window))
        }
        UDP => {
            let [source, destination, _, _] = reader.halfwords::<4>(l4).ok_or(Skip::Truncated)?;
            (source, destination, UDP_HEADER as u8, 0, 0)
        }
        SCTP => {
            // Its chunks are no payload in the sense of the features, as with the other protocols.
            let [source, destination, _, _, _, _] = reader.halfwords::<6>(l4).ok_or(Skip::Truncated)?;
            (source, destination, 0, 0, 0)
        }
        _ => (0, 0, 0, 0, 0),
    };
    // From here on the verifier need not tell TCP, UDP and the rest apart, nor fragments. A header is a multiple of 4.
    let packed = u16::from_ne_bytes([header | fragment.0, protocol]);
    let [packed, protocol] = (reader.forget(u32::from(packed)) as u16).to_ne_bytes();
    let (header, fragment) = (packed & 0xfc, Fragment(packed & 0x03));
    let data = l4 + u32::from(header);
    let counts = (protocol == TCP || protocol == UDP) && fragment != Fragment::LATER;
    let (payload, padded_payload) =
        if counts { (end.saturating_sub(data), frame_len.saturating_sub(data)) } else { (0, 0) };
    let (key, from_b) = FlowKey::canonical(
        version,
        protocol,
        (source, u16::from_be(source_port)),
        (destination, u16::from_be(destination_port)),
        // The 2017 tool keeps one flow per direction when both ends have one address.
        matches!(profile, Profile::Cic2017),
    );
    let one_host = same_address(&source, &destination);
    let flags = TcpFlags(flags);
    Ok(Packet { key, from_b, one_host, header, flags, window, payload, padded_payload, copies: 1, fragment, datagram })
}

/// The protocols that flows are told apart by, otherwise [`OTHER`].
#[inline(always)]
const fn known(protocol: u8) -> u8 {
    if matches!(protocol, TCP | UDP | SCTP) { protocol } else { OTHER }
}

/// Two half words in memory order as one word in memory order.
#[inline(always)]
fn word(first: u16, second: u16) -> u32 {
    let ([a, b], [c, d]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ethernet, five_tuple, ipv4, ipv6, join, parse, tagged, udp};

    #[test]
    fn sctp_has_ports_and_nothing_else_that_the_features_know() {
        let header = [0x0b, 0x80, 0x0b, 0x59, 0, 0, 0, 1, 0, 0, 0, 0];
        let chunk = [0; 40];
        for frame in [
            ethernet(0x0800, &ipv4(1, 2, 132, 0, &join(&[&header, &chunk]))),
            ethernet(0x86dd, &ipv6(1, 2, 132, &join(&[&header, &chunk]))),
        ] {
            let packet = parse(&frame).unwrap();
            assert_eq!(five_tuple(&packet), (1, 0x0b80, 2, 0x0b59, 132));
            assert_eq!((packet.payload, packet.padded_payload, packet.header, packet.flags.0), (0, 0, 0, 0));
        }
        assert_eq!(parse(&ethernet(0x0800, &ipv4(1, 2, 132, 0, &header[..8]))), Err(Skip::Truncated));
    }

    #[test]
    fn an_icmp_error_belongs_to_its_own_addresses_and_not_to_the_flow_that_it_quotes() {
        let quoted = ipv4(2, 9, 17, 0, &udp(1000, 53, &[]));
        let unreachable = [3, 3, 0, 0, 0, 0, 0, 0];
        let error = parse(&ethernet(0x0800, &ipv4(1, 2, 1, 0, &join(&[&unreachable, &quoted])))).unwrap();
        assert_eq!(five_tuple(&error), (1, 0, 2, 0, 0));
        assert_eq!((error.payload, error.header), (0, 0));
        // Even when the quoted flow's other end sent it.
        let from_the_end = parse(&ethernet(0x0800, &ipv4(9, 2, 1, 0, &join(&[&unreachable, &quoted])))).unwrap();
        let flow = parse(&ethernet(0x0800, &quoted)).unwrap();
        assert_ne!(from_the_end.key, flow.key);
        let quoted = ipv6(2, 9, 17, &udp(1000, 53, &[]));
        let too_big = [2, 0, 0, 0, 0, 0, 5, 0];
        let error = parse(&ethernet(0x86dd, &ipv6(1, 2, 58, &join(&[&too_big, &quoted])))).unwrap();
        assert_eq!(five_tuple(&error), (1, 0, 2, 0, 0));
    }

    #[test]
    fn tags_are_followed_to_the_limit_and_no_further() {
        let mut packet = tagged(0x0800, &ipv4(1, 2, 17, 0, &udp(1000, 53, &[1; 5])));
        for depth in 1..=MAX_VLAN_TAGS {
            let parsed = parse(&ethernet(if depth % 2 == 0 { 0x8100 } else { 0x88a8 }, &packet)).unwrap();
            assert_eq!((five_tuple(&parsed), parsed.payload), ((1, 1000, 2, 53, 17), 5), "{depth} tags");
            packet = tagged(0x8100, &packet);
        }
        assert_eq!(parse(&ethernet(0x8100, &packet)), Err(Skip::VlanDepth));
    }

    #[test]
    fn extension_headers_are_followed_to_the_limit_and_no_further() {
        // Options of 8 bytes for an IPv6 chain; the authentication header counts in units of 4, less 2.
        for (kind, units) in [(0, 0), (43, 0), (60, 0), (135, 0), (51, 0)] {
            let mut chain = udp(1000, 53, &[1; 5]);
            let mut next = 17;
            for depth in 1..=MAX_EXTENSION_HEADERS {
                chain = join(&[&[next, units, 0, 0, 0, 0, 0, 0], &chain]);
                next = kind;
                let parsed = parse(&ethernet(0x86dd, &ipv6(1, 2, next, &chain))).unwrap();
                assert_eq!((five_tuple(&parsed), parsed.payload), ((1, 1000, 2, 53, 17), 5), "{depth} of {kind}");
            }
            chain = join(&[&[next, units, 0, 0, 0, 0, 0, 0], &chain]);
            assert_eq!(parse(&ethernet(0x86dd, &ipv6(1, 2, kind, &chain))), Err(Skip::ExtensionDepth));
        }
    }

    #[test]
    fn ipv4_options_are_skipped() {
        let mut packet = ipv4(1, 2, 17, 0, &join(&[&[1; 40], &udp(1000, 53, &[1; 5])]));
        packet[0] = 0x4f;
        let parsed = parse(&ethernet(0x0800, &packet)).unwrap();
        assert_eq!((five_tuple(&parsed), parsed.payload), ((1, 1000, 2, 53, 17), 5));
    }
}
