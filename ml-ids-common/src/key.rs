//! The five-tuple, in one canonical form for both directions.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 or IPv6 address as it stands in the packet; an IPv4 address is in the last word, the others are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Address(pub [u32; 4]);

/// IP version of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum IpVersion {
    /// IPv4
    V4 = 4,
    /// IPv6
    V6 = 6,
}

impl Address {
    /// From the address word of an IPv4 header, in network byte order as read from memory.
    #[inline(always)]
    #[must_use]
    pub const fn v4(word: u32) -> Self {
        Self([0, 0, 0, word])
    }

    /// As a standard address; `version` says how the words are to be read.
    #[must_use]
    pub fn to_ip(self, version: u8) -> IpAddr {
        let Self([a, b, c, d]) = self;
        if version == IpVersion::V4 as u8 {
            return IpAddr::V4(Ipv4Addr::from(d.to_ne_bytes()));
        }
        let mut bytes = [0u8; 16];
        for (chunk, word) in bytes.chunks_exact_mut(4).zip([a, b, c, d]) {
            chunk.copy_from_slice(&word.to_ne_bytes());
        }
        IpAddr::V6(Ipv6Addr::from(bytes))
    }
}

/// Key of the flow table: both end points in canonical order (the lesser one is `a`), so that the two directions of a
/// conversation share one entry.
///
/// Packets that are neither TCP nor UDP nor SCTP have ports 0 and protocol 0, as in the reference tools: an ICMP error too,
/// which so never counts in the flow that it quotes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FlowKey {
    /// Address of end point a.
    pub addr_a: Address,
    /// Address of end point b.
    pub addr_b: Address,
    /// Port of end point a, host byte order.
    pub port_a: u16,
    /// Port of end point b, host byte order.
    pub port_b: u16,
    /// IP protocol number: 6, 17, 132, or 0 for everything else.
    pub protocol: u8,
    /// 4 or 6.
    pub version: u8,
    /// Always zero.
    pub reserved: u16,
}

const _: () = assert!(size_of::<FlowKey>() == 40);

impl FlowKey {
    /// The canonical key, and whether the first end point given is `b` in it.
    #[inline(always)]
    #[must_use]
    pub fn canonical(
        version: IpVersion,
        protocol: u8,
        from: (Address, u16),
        to: (Address, u16),
        one_key_per_direction: bool,
    ) -> (Self, bool) {
        let same = same_address(&from.0, &to.0);
        let swap = if same { !one_key_per_direction && from.1 > to.1 } else { greater(&from.0, &to.0) };
        let (a, b) = if swap { (to, from) } else { (from, to) };
        let key =
            Self { addr_a: a.0, addr_b: b.0, port_a: a.1, port_b: b.1, protocol, version: version as u8, reserved: 0 };
        (key, swap)
    }

    /// True when both end points have one address. Direction is decided by address alone, so such a flow is all
    /// forward (`docs/feature-spec.md` section 3).
    #[inline(always)]
    #[must_use]
    pub fn one_host(&self) -> bool {
        same_address(&self.addr_a, &self.addr_b)
    }

    /// Word-wise equality. The derived one becomes a call of a `memcmp` subprogram in eBPF, which the verifier does
    /// not allow while a spin lock is held.
    #[inline(always)]
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        same_address(&self.addr_a, &other.addr_a)
            && same_address(&self.addr_b, &other.addr_b)
            && self.port_a == other.port_a
            && self.port_b == other.port_b
            && self.protocol == other.protocol
            && self.version == other.version
    }
}

#[inline(always)]
pub(crate) fn same_address(left: &Address, right: &Address) -> bool {
    let (Address([a, b, c, d]), Address([e, f, g, h])) = (left, right);
    ((a ^ e) | (b ^ f) | (c ^ g) | (d ^ h)) == 0
}

#[inline(always)]
fn greater(left: &Address, right: &Address) -> bool {
    let (Address([a, b, c, d]), Address([e, f, g, h])) = (*left, *right);
    if d != h {
        return d > h;
    }
    if c != g {
        return c > g;
    }
    if b != f {
        return b > f;
    }
    a > e
}
