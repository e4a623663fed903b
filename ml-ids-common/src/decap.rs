//! Through a tunnel's headers to the packet inside, which then is what counts.
//!
//! A walk of its own, before the parse proper and in small steps that look alike to the verifier: its answer is merely
//! where the innermost network layer stands. Headers that lead nowhere (fragmented, cut off, of an unknown kind) leave
//! the packet around them to be counted as it is.

use crate::{
    FrameReader,
    parse::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, FRAGMENT_OFFSET, MORE_FRAGMENTS, is_vlan},
};

/// The kinds of tunnel that are looked into, a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Decap(pub u8);

impl Decap {
    /// None: the outer packets count.
    pub const NONE: Self = Self(0);
    /// VXLAN (RFC 7348), to UDP port 4789 or 8472.
    pub const VXLAN: Self = Self(1);
    /// Geneve (RFC 8926), to UDP port 6081.
    pub const GENEVE: Self = Self(2);
    /// GRE (RFC 2784, RFC 2890) around IP or Ethernet, ERSPAN of types I and II.
    pub const GRE: Self = Self(4);
    /// IPv4 or IPv6 in either (RFC 2003, RFC 2473, RFC 4213).
    pub const IPIP: Self = Self(8);
    /// All of them.
    pub const ALL: Self = Self(15);

    /// This set and that one.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[inline(always)]
    const fn has(self, kind: Self) -> bool {
        self.0 & kind.0 != 0
    }
}

/// Most headers, VLAN tags included, that are followed in search of tunnels. Enough for a tunnel in a tunnel.
pub const MAX_TUNNEL_HEADERS: u32 = 12;

const HOP_BY_HOP: u16 = 0;
const IPV4_IN_IP: u16 = 4;
const UDP: u16 = 17;
const IPV6_IN_IP: u16 = 41;
const ROUTING: u16 = 43;
const GRE: u16 = 47;
const AUTHENTICATION: u16 = 51;
const DESTINATION: u16 = 60;
/// EtherTypes are greater than this, IP protocol numbers are not: one number tells what a header is.
const LAST_PROTOCOL: u16 = 255;
/// What stands for the lengths that 802.3 has in place of an EtherType (a reserved one).
const NO_ETHERTYPE: u16 = 0xffff;
const TRANSPARENT_ETHERNET: u16 = 0x6558;
const ERSPAN: u16 = 0x88be;

/// EtherType and offset of the innermost network layer that tunnels of the given kinds lead to: the outer ones when there
/// is no tunnel.
#[inline(always)]
pub(crate) fn innermost<R: FrameReader>(reader: &R, ethertype: u16, offset: u32, decap: Decap) -> (u16, u32) {
    let mut found = (ethertype, offset);
    if decap == Decap::NONE {
        return found;
    }
    let (mut kind, mut at) = (frame_type(ethertype), offset);
    for _ in 0..MAX_TUNNEL_HEADERS {
        let Some((next_kind, next_at)) = next(reader, kind, at, decap) else { break };
        let (next_kind, next_at) = (reader.forget(u32::from(next_kind)) as u16, reader.forget(next_at));
        if kind <= LAST_PROTOCOL && next_kind > LAST_PROTOCOL {
            found = (next_kind, next_at);
        }
        (kind, at) = (next_kind, next_at);
    }
    found
}

#[inline(always)]
const fn frame_type(ethertype: u16) -> u16 {
    if ethertype <= LAST_PROTOCOL { NO_ETHERTYPE } else { ethertype }
}

/// Kind and offset of the header after the one of this kind at this offset.
#[inline(always)]
fn next<R: FrameReader>(reader: &R, kind: u16, at: u32, decap: Decap) -> Option<(u16, u32)> {
    match kind {
        ETHERTYPE_IPV4 => {
            let [version_ihl_tos, _, _, fragment, ttl_protocol] = reader.halfwords::<5>(at)?;
            let version_ihl = u16::from_be(version_ihl_tos) >> 8;
            let fragmented = u16::from_be(fragment) & (FRAGMENT_OFFSET | MORE_FRAGMENTS) != 0;
            if !matches!(version_ihl, 0x45..=0x4f) || fragmented {
                return None;
            }
            Some((u16::from_be(ttl_protocol) & 0xff, at + u32::from(version_ihl & 0x0f) * 4))
        }
        ETHERTYPE_IPV6 => {
            let [version, _, _, next_hop] = reader.halfwords::<4>(at)?;
            (u16::from_be(version) >> 12 == 6).then_some((u16::from_be(next_hop) >> 8, at + 40))
        }
        HOP_BY_HOP | ROUTING | DESTINATION | AUTHENTICATION => {
            let [next_length] = reader.halfwords::<1>(at)?;
            let next_length = u16::from_be(next_length);
            let length = u32::from(next_length & 0xff);
            let bytes = if kind == AUTHENTICATION { (length + 2) * 4 } else { (length + 1) * 8 };
            Some((next_length >> 8, at + bytes))
        }
        IPV4_IN_IP if decap.has(Decap::IPIP) => Some((ETHERTYPE_IPV4, at)),
        IPV6_IN_IP if decap.has(Decap::IPIP) => Some((ETHERTYPE_IPV6, at)),
        GRE if decap.has(Decap::GRE) => gre(reader, at),
        UDP if decap.has(Decap::VXLAN) || decap.has(Decap::GENEVE) => udp(reader, at, decap),
        _ if is_vlan(kind) => {
            let [_, inner] = reader.halfwords::<2>(at)?;
            Some((frame_type(u16::from_be(inner)), at + 4))
        }
        _ => None,
    }
}

#[inline(always)]
fn gre<R: FrameReader>(reader: &R, at: u32) -> Option<(u16, u32)> {
    const SEQUENCE: u16 = 12;
    /// Source routing, and the version that PPTP speaks.
    const FOREIGN: u16 = 0x4007;
    let [flags, protocol] = reader.halfwords::<2>(at)?;
    let (flags, protocol) = (u16::from_be(flags), u16::from_be(protocol));
    if flags & FOREIGN != 0 {
        return None;
    }
    // Checksum, key and sequence number, each there by its flag.
    let optional = (flags >> 15) + (flags >> 13 & 1) + (flags >> SEQUENCE & 1);
    let inner = at + 4 + u32::from(optional) * 4;
    // Type I has no sequence number and no header of its own.
    let erspan = if protocol == ERSPAN { u32::from(flags >> SEQUENCE & 1) * 8 } else { 0 };
    let protocol = if protocol == ERSPAN { TRANSPARENT_ETHERNET } else { protocol };
    payload(reader, protocol, inner + erspan)
}

#[inline(always)]
fn udp<R: FrameReader>(reader: &R, at: u32, decap: Decap) -> Option<(u16, u32)> {
    const VXLAN_PORTS: [u16; 2] = [4789, 8472];
    const GENEVE_PORT: u16 = 6081;
    let [_, port, _, _, first, protocol, _, _] = reader.halfwords::<8>(at)?;
    let (port, first, protocol) = (u16::from_be(port), u16::from_be(first), u16::from_be(protocol));
    // The flag says that there is a network identifier, and is always set.
    if decap.has(Decap::VXLAN) && (port == VXLAN_PORTS[0] || port == VXLAN_PORTS[1]) && first & 0x0800 != 0 {
        return payload(reader, TRANSPARENT_ETHERNET, at + 16);
    }
    // Version 0, then the length of the options.
    if decap.has(Decap::GENEVE) && port == GENEVE_PORT && first >> 14 == 0 {
        return payload(reader, protocol, at + 16 + u32::from(first >> 8) * 4);
    }
    None
}

/// What a tunnel carries: IP, or an Ethernet frame, whose EtherType then says.
#[inline(always)]
fn payload<R: FrameReader>(reader: &R, protocol: u16, at: u32) -> Option<(u16, u32)> {
    match protocol {
        ETHERTYPE_IPV4 | ETHERTYPE_IPV6 => Some((protocol, at)),
        TRANSPARENT_ETHERNET => {
            // Else the compiler checks the sum's parts, and the verifier wants to see the sum checked.
            let at = reader.forget(at);
            let [_, _, _, _, _, _, ethertype] = reader.halfwords::<7>(at)?;
            Some((frame_type(u16::from_be(ethertype)), at + 14))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{vec, vec::Vec};

    use super::*;
    use crate::{
        MAX_VLAN_TAGS, Packet, Skip,
        testing::{ethernet, five_tuple, ipv4, ipv6, join, parse, parse_in_tunnels, tagged, udp},
    };

    const V4: u16 = 0x0800;
    const V6: u16 = 0x86dd;
    const VXLAN_HEADER: [u8; 8] = [8, 0, 0, 0, 0, 0, 42, 0];

    /// What is in all tunnels: UDP from host 7 to host 8.
    fn inner() -> Vec<u8> {
        ipv4(7, 8, 17, 0, &udp(1000, 53, &[1; 30]))
    }

    fn inner_v6() -> Vec<u8> {
        ipv6(7, 8, 17, &udp(1000, 53, &[1; 30]))
    }

    /// In IPv4 from host 1 to host 2.
    fn outer(protocol: u8, payload: &[u8]) -> Vec<u8> {
        ethernet(V4, &ipv4(1, 2, protocol, 0, payload))
    }

    fn vxlan(frame: &[u8]) -> Vec<u8> {
        udp(50_000, 4789, &join(&[&VXLAN_HEADER, frame]))
    }

    fn geneve(options: usize, protocol: u16, payload: &[u8]) -> Vec<u8> {
        let [high, low] = protocol.to_be_bytes();
        udp(50_000, 6081, &join(&[&[(options / 4) as u8, 0, high, low, 0, 0, 42, 0], &vec![0xee; options], payload]))
    }

    fn gre(flags: u16, protocol: u16, optional: usize, payload: &[u8]) -> Vec<u8> {
        join(&[&flags.to_be_bytes(), &protocol.to_be_bytes(), &vec![0xee; optional], payload])
    }

    /// That the packet inside is what counts, and only if this kind of tunnel is looked into.
    fn assert_inner(kind: Decap, frame: &[u8], what: &str) {
        for decap in [kind, Decap::ALL] {
            let packet = parse_in_tunnels(frame, decap).unwrap();
            assert_eq!(five_tuple(&packet), (7, 1000, 8, 53, 17), "{what}");
            assert_eq!((packet.payload, packet.padded_payload, packet.header), (30, 30, 8), "{what}");
        }
        let others = Decap(Decap::ALL.0 & !kind.0);
        assert_eq!(parse_in_tunnels(frame, others), parse(frame), "{what}");
    }

    fn assert_outer(frame: &[u8], what: &str) {
        let packet: Packet = parse(frame).unwrap();
        assert_eq!(parse_in_tunnels(frame, Decap::ALL), Ok(packet), "{what}");
        assert_eq!(packet.key.version, 4, "{what}");
        assert!(matches!(five_tuple(&packet), (1, _, 2, _, _)), "{what}");
    }

    #[test]
    fn vxlan_is_looked_into_at_both_ports_with_tags_and_in_either_ip_version() {
        let plain = vxlan(&ethernet(V4, &inner()));
        assert_inner(Decap::VXLAN, &outer(17, &plain), "plain");
        assert_inner(Decap::VXLAN, &ethernet(V6, &ipv6(1, 2, 17, &plain)), "over IPv6");
        assert_inner(Decap::VXLAN, &outer(17, &vxlan(&ethernet(V6, &inner_v6()))), "IPv6 inside");
        let old_port = udp(50_000, 8472, &join(&[&VXLAN_HEADER, &ethernet(V4, &inner())]));
        assert_inner(Decap::VXLAN, &outer(17, &old_port), "port 8472");
        let tags = ethernet(0x88a8, &tagged(0x8100, &tagged(V4, &inner())));
        assert_inner(Decap::VXLAN, &outer(17, &vxlan(&tags)), "tags inside");
        let tagged_outside = ethernet(0x8100, &tagged(V4, &ipv4(1, 2, 17, 0, &plain)));
        assert_inner(Decap::VXLAN, &tagged_outside, "a tag outside");
    }

    #[test]
    fn geneve_is_looked_into_behind_options_and_with_or_without_ethernet() {
        for options in [0, 4, 252] {
            let frame = ethernet(V4, &inner());
            assert_inner(Decap::GENEVE, &outer(17, &geneve(options, 0x6558, &frame)), "Ethernet");
            assert_inner(Decap::GENEVE, &outer(17, &geneve(options, V4, &inner())), "IPv4");
            assert_inner(Decap::GENEVE, &outer(17, &geneve(options, V6, &inner_v6())), "IPv6");
        }
    }

    #[test]
    fn gre_is_looked_into_behind_all_optional_fields() {
        for (flags, optional) in [(0, 0), (0x8000, 4), (0x2000, 4), (0x1000, 4), (0xa000, 8), (0xb000, 12)] {
            assert_inner(Decap::GRE, &outer(47, &gre(flags, V4, optional, &inner())), "IPv4");
            assert_inner(Decap::GRE, &outer(47, &gre(flags, V6, optional, &inner_v6())), "IPv6");
            let frame = ethernet(0x8100, &tagged(V4, &inner()));
            assert_inner(Decap::GRE, &outer(47, &gre(flags, 0x6558, optional, &frame)), "Ethernet");
        }
        let frame = ethernet(V4, &inner());
        assert_inner(Decap::GRE, &outer(47, &gre(0, 0x88be, 0, &frame)), "ERSPAN I");
        assert_inner(Decap::GRE, &outer(47, &gre(0x1000, 0x88be, 4 + 8, &frame)), "ERSPAN II");
        assert_inner(Decap::GRE, &ethernet(V6, &ipv6(1, 2, 47, &gre(0, V4, 0, &inner()))), "over IPv6");
    }

    #[test]
    fn ip_in_ip_is_looked_into_in_all_four_combinations_and_behind_extension_headers() {
        assert_inner(Decap::IPIP, &outer(4, &inner()), "4 in 4");
        assert_inner(Decap::IPIP, &outer(41, &inner_v6()), "6 in 4");
        assert_inner(Decap::IPIP, &ethernet(V6, &ipv6(1, 2, 4, &inner())), "4 in 6");
        assert_inner(Decap::IPIP, &ethernet(V6, &ipv6(1, 2, 41, &inner_v6())), "6 in 6");
        // RFC 2473 puts its tunnel encapsulation limit into destination options.
        let limit = join(&[&[4, 0, 4, 1, 4, 1, 1, 0], &inner()]);
        assert_inner(Decap::IPIP, &ethernet(V6, &ipv6(1, 2, 60, &limit)), "behind an encapsulation limit");
        let authenticated = join(&[&[4, 1, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1], &inner()]);
        assert_inner(Decap::IPIP, &outer(51, &authenticated), "behind an authentication header");
    }

    #[test]
    fn a_tunnel_in_a_tunnel_is_looked_into_as_well() {
        let innermost = ethernet(V4, &ipv4(3, 4, 47, 0, &gre(0x2000, V4, 4, &inner())));
        let frame = outer(17, &vxlan(&innermost));
        let packet = parse_in_tunnels(&frame, Decap::ALL).unwrap();
        assert_eq!(five_tuple(&packet), (7, 1000, 8, 53, 17));
        let packet = parse_in_tunnels(&frame, Decap::VXLAN).unwrap();
        assert_eq!(five_tuple(&packet), (3, 0, 4, 0, 0));
    }

    #[test]
    fn a_stack_of_tunnels_has_an_end() {
        let mut packet = inner();
        for _ in 0..40 {
            packet = ipv4(1, 2, 4, 0, &packet);
        }
        let parsed = parse_in_tunnels(&ethernet(V4, &packet), Decap::ALL).unwrap();
        assert_eq!(five_tuple(&parsed), (1, 0, 2, 0, 0));
    }

    #[test]
    fn what_is_no_tunnel_after_all_counts_as_it_is() {
        let frame = ethernet(V4, &inner());
        assert_outer(&outer(17, &udp(50_000, 4790, &join(&[&VXLAN_HEADER, &frame]))), "another port");
        assert_outer(&outer(17, &udp(4789, 50_000, &join(&[&VXLAN_HEADER, &frame]))), "the source's port");
        assert_outer(&outer(17, &udp(50_000, 4789, &join(&[&[0; 8], &frame]))), "VXLAN without its flag");
        assert_outer(&outer(17, &udp(50_000, 6081, &join(&[&[0x40, 0, 8, 0, 0, 0, 0, 0], &inner()]))), "Geneve 1");
        assert_outer(&outer(17, &udp(50_000, 4789, &VXLAN_HEADER[..6])), "a header cut short");
        assert_outer(&outer(17, &udp(50_000, 4789, &join(&[&VXLAN_HEADER, &frame[..12]]))), "Ethernet cut short");
        assert_outer(&outer(17, &geneve(0, 0x0806, &inner())), "Geneve around ARP");
        assert_outer(&outer(47, &gre(1, V4, 0, &inner())), "PPTP");
        assert_outer(&outer(47, &gre(0x4000, V4, 4, &inner())), "GRE with routes");
        assert_outer(&outer(47, &gre(0, 0x880b, 0, &inner())), "GRE around PPP");
    }

    #[test]
    fn a_fragmented_outer_packet_counts_as_it_is() {
        let datagram = vxlan(&ethernet(V4, &inner()));
        for fragment in [0x2000, 0x2004, 0x0004] {
            assert_outer(&ethernet(V4, &ipv4(1, 2, 17, fragment, &datagram)), "VXLAN");
            assert_outer(&ethernet(V4, &ipv4(1, 2, 4, fragment, &inner())), "IP in IP");
        }
    }

    #[test]
    fn a_broken_packet_inside_is_skipped_for_its_own_reason() {
        let tunnel = |frame: &[u8]| parse_in_tunnels(&outer(17, &vxlan(frame)), Decap::VXLAN);
        assert_eq!(tunnel(&ethernet(0x0806, &[0; 28])), Err(Skip::NotIp));
        // A length of 802.3, which is no protocol number.
        assert_eq!(tunnel(&ethernet(4, &inner())), Err(Skip::NotIp));
        assert_eq!(tunnel(&ethernet(0x8100, &tagged(4, &inner()))), Err(Skip::NotIp));
        assert_eq!(parse_in_tunnels(&ethernet(4, &inner()), Decap::ALL), Err(Skip::NotIp));
        assert_eq!(tunnel(&ethernet(V4, &inner()[..10])), Err(Skip::Truncated));
        assert_eq!(tunnel(&ethernet(V4, &[0x65; 40])), Err(Skip::Malformed));
        let mut packet = tagged(V4, &inner());
        for _ in 0..MAX_VLAN_TAGS {
            packet = tagged(0x8100, &packet);
        }
        assert_eq!(tunnel(&ethernet(0x8100, &packet)), Err(Skip::VlanDepth));
    }
}
