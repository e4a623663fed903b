//! Fragments of IP datagrams. The first one carries the ports and is a packet like any other; it leaves a note by which
//! later ones, which have no ports, find its flow. They are no packets to the features (`docs/feature-spec.md` section
//! 2), so all that they do to the flow is to be counted.

use crate::{Address, FLOW_LIMIT_US, FlowKey, FlowState, IpVersion, Life, Packet, Skip};

/// Datagrams whose fragments can find their flow at a time. One more takes the place of one not used for long.
pub const MAX_DATAGRAMS: u32 = 4096;

/// A packet's place in its datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Fragment(pub u8);

impl Fragment {
    /// The packet is the whole datagram.
    pub const NONE: Self = Self(0);
    /// The first of several, with the upper layer's header.
    pub const FIRST: Self = Self(1);
    /// Any other.
    pub const LATER: Self = Self(2);

    /// What fragment offset and "more fragments" say together.
    #[inline(always)]
    #[must_use]
    pub(crate) const fn of(offset: u16, more: u16) -> Self {
        Self(if offset != 0 { Self::LATER.0 } else { (more != 0) as u8 })
    }
}

/// What the fragments of one datagram have in common (RFC 791, RFC 8200), in the canonical order of [`FlowKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct DatagramKey {
    /// Address of end point a.
    pub addr_a: Address,
    /// Address of end point b.
    pub addr_b: Address,
    /// Identification.
    pub id: u32,
    /// IPv4: the flow's protocol. IPv6: 0, as later fragments need not name it.
    pub protocol: u8,
    /// 4 or 6.
    pub version: u8,
    /// 1 when the datagram's source is end point b.
    pub from_b: u8,
    /// Always zero.
    pub reserved: u8,
}

/// What a first fragment tells the later ones: the rest of the flow's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Datagram {
    /// Port of end point a.
    pub port_a: u16,
    /// Port of end point b.
    pub port_b: u16,
    /// Protocol of the flow's key.
    pub protocol: u8,
    /// Always zero.
    pub reserved: [u8; 3],
}

const _: () = assert!(size_of::<DatagramKey>() == 40);
const _: () = assert!(size_of::<Datagram>() == 8);

impl Packet {
    /// The key under which a fragment's datagram is noted.
    #[inline(always)]
    #[must_use]
    pub fn datagram_key(&self) -> DatagramKey {
        let FlowKey { addr_a, addr_b, protocol, version, .. } = self.key;
        DatagramKey {
            addr_a,
            addr_b,
            id: self.datagram,
            protocol: if version == IpVersion::V4 as u8 { protocol } else { 0 },
            version,
            // Between ports of one host the ports decide, which a later fragment does not know.
            from_b: u8::from(self.from_b && !self.key.one_host()),
            reserved: 0,
        }
    }

    /// The note that a first fragment leaves.
    #[inline(always)]
    #[must_use]
    pub const fn datagram(&self) -> Datagram {
        let FlowKey { port_a, port_b, protocol, .. } = self.key;
        Datagram { port_a, port_b, protocol, reserved: [0; 3] }
    }

    /// Gives a later fragment the key of its datagram's flow.
    #[inline(always)]
    pub const fn attribute(&mut self, datagram: &Datagram) {
        self.key.port_a = datagram.port_a;
        self.key.port_b = datagram.port_b;
        self.key.protocol = datagram.protocol;
    }
}

impl FlowState {
    /// Counts a later fragment that has been [attributed](Packet::attribute) to this flow. Neither opens nor ends one.
    ///
    /// # Errors
    /// [`Skip::FragmentOrphan`] when there is no flow, [`Skip::AfterEnd`] when it has ended.
    #[inline(always)]
    pub fn fragment(&mut self, packet: &Packet, now_us: u64) -> Result<(), Skip> {
        if self.life == Life::Vacant as u8 {
            return Err(Skip::FragmentOrphan);
        }
        let age = now_us.wrapping_sub(self.start_us).cast_signed();
        if self.life != Life::Open as u8 || age > FLOW_LIMIT_US {
            return Err(Skip::AfterEnd);
        }
        let is_forward = packet.key.one_host() || packet.from_b == (self.source_is_b != 0);
        let direction = if is_forward { &mut self.forward } else { &mut self.backward };
        direction.fragments = direction.fragments.wrapping_add(1);
        Ok(())
    }
}
