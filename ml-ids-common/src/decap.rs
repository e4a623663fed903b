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
const DESTINATION: u16 = 60;
/// EtherTypes are greater than this, IP protocol numbers are not: one number tells what a header is.
const LAST_PROTOCOL: u16 = 255;
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
    let (mut kind, mut at) = found;
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

/// Kind and offset of the header after the one of this kind at this offset.
#[inline(always)]
fn next<R: FrameReader>(reader: &R, kind: u16, at: u32, decap: Decap) -> Option<(u16, u32)> {
    match kind {
        ETHERTYPE_IPV4 => {
            let [version_ihl_tos, _, _, fragment, ttl_protocol] = reader.halfwords::<5>(at)?;
            let version_ihl = u16::from_be(version_ihl_tos) >> 8;
            let fragmented = u16::from_be(fragment) & (FRAGMENT_OFFSET | MORE_FRAGMENTS) != 0;
            if version_ihl < 0x45 || version_ihl > 0x4f || fragmented {
                return None;
            }
            Some((u16::from_be(ttl_protocol) & 0xff, at + u32::from(version_ihl & 0x0f) * 4))
        }
        ETHERTYPE_IPV6 => {
            let [version, _, _, next_hop] = reader.halfwords::<4>(at)?;
            (u16::from_be(version) >> 12 == 6).then_some((u16::from_be(next_hop) >> 8, at + 40))
        }
        HOP_BY_HOP | ROUTING | DESTINATION => {
            let [next_length] = reader.halfwords::<1>(at)?;
            let next_length = u16::from_be(next_length);
            Some((next_length >> 8, at + (u32::from(next_length & 0xff) + 1) * 8))
        }
        IPV4_IN_IP if decap.has(Decap::IPIP) => Some((ETHERTYPE_IPV4, at)),
        IPV6_IN_IP if decap.has(Decap::IPIP) => Some((ETHERTYPE_IPV6, at)),
        GRE if decap.has(Decap::GRE) => gre(reader, at),
        UDP if decap.has(Decap::VXLAN) || decap.has(Decap::GENEVE) => udp(reader, at, decap),
        _ if is_vlan(kind) => {
            let [_, inner] = reader.halfwords::<2>(at)?;
            Some((u16::from_be(inner), at + 4))
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
            Some((u16::from_be(ethertype), at + 14))
        }
        _ => None,
    }
}
