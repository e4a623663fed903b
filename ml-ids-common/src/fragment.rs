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
            from_b: u8::from(self.from_b && !self.one_host),
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
        let is_forward = packet.one_host || packet.from_b == (self.source_is_b != 0);
        let direction = if is_forward { &mut self.forward } else { &mut self.backward };
        direction.fragments = direction.fragments.wrapping_add(1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Plan, Profile,
        testing::{ethernet, five_tuple, fragment_header, ipv4, ipv6, join, parse, udp},
    };

    const UDP: u8 = 17;
    const MORE: u16 = 0x2000;

    fn first_v4(from: u8, to: u8, from_port: u16, to_port: u16) -> Packet {
        parse(&ethernet(0x0800, &ipv4(from, to, UDP, MORE, &udp(from_port, to_port, &[1; 24])))).unwrap()
    }

    fn later_v4(from: u8, to: u8, protocol: u8) -> Packet {
        parse(&ethernet(0x0800, &ipv4(from, to, protocol, MORE | 4, &[1; 32]))).unwrap()
    }

    fn flow(packet: &Packet, now_us: u64) -> FlowState {
        let mut state = FlowState::default();
        let plan = state.plan(packet, now_us, Profile::Fixed);
        assert!(matches!(plan, Plan::Open { .. }));
        state.apply(plan, packet, now_us, 0, Profile::Fixed);
        state
    }

    #[test]
    fn a_first_fragment_is_a_packet_with_the_bytes_it_carries() {
        let first = first_v4(1, 2, 1000, 53);
        assert_eq!((first.fragment, first.payload, first.header), (Fragment::FIRST, 24, 8));
        assert_eq!(five_tuple(&first), (1, 1000, 2, 53, UDP));
        let whole = parse(&ethernet(0x0800, &ipv4(1, 2, UDP, 0x4000, &udp(1000, 53, &[1; 24])))).unwrap();
        assert_eq!(whole.fragment, Fragment::NONE);
        assert_eq!(Packet { fragment: Fragment::NONE, ..first }, whole);
    }

    #[test]
    fn a_later_fragment_finds_the_flow_of_the_first_in_both_ip_versions_and_directions() {
        let v6 = |from, to, offset, bytes: &[u8]| {
            parse(&ethernet(0x86dd, &ipv6(from, to, 44, &join(&[&fragment_header(UDP, offset, true), bytes])))).unwrap()
        };
        let pairs = [
            (first_v4(1, 2, 1000, 53), later_v4(1, 2, UDP)),
            (first_v4(2, 1, 53, 1000), later_v4(2, 1, UDP)),
            (first_v4(3, 3, 53, 1000), later_v4(3, 3, UDP)),
            (first_v4(3, 3, 1000, 53), later_v4(3, 3, UDP)),
            (v6(1, 2, 0, &udp(1000, 53, &[1; 24])), v6(1, 2, 4, &[1; 32])),
            (v6(2, 1, 0, &udp(53, 1000, &[1; 24])), v6(2, 1, 4, &[1; 32])),
        ];
        for (first, mut later) in pairs {
            assert_eq!((later.fragment, later.payload, later.header), (Fragment::LATER, 0, 0));
            assert_eq!(later.datagram_key(), first.datagram_key());
            later.attribute(&first.datagram());
            assert_eq!(later.key, first.key);
            assert!(later.key.one_host() || later.from_b == first.from_b);
        }
    }

    #[test]
    fn datagrams_are_told_apart_by_direction_protocol_version_and_identification() {
        let later = later_v4(1, 2, UDP);
        let v6 = parse(&ethernet(0x86dd, &ipv6(1, 2, 44, &join(&[&fragment_header(UDP, 4, true), &[1; 32]])))).unwrap();
        let others = [later_v4(2, 1, UDP), later_v4(1, 2, 6), Packet { datagram: 8, ..later }, v6];
        for other in others {
            assert_ne!(other.datagram_key(), later.datagram_key(), "{other:?}");
        }
    }

    #[test]
    fn fragments_of_another_protocol_belong_to_the_flow_of_protocol_0() {
        const ICMP: u8 = 1;
        let first = parse(&ethernet(0x0800, &ipv4(1, 2, ICMP, MORE, &[8, 0, 0, 0, 0, 0, 0, 0]))).unwrap();
        assert_eq!(five_tuple(&first), (1, 0, 2, 0, 0));
        let mut later = later_v4(1, 2, ICMP);
        assert_eq!(later.datagram_key(), first.datagram_key());
        later.attribute(&first.datagram());
        assert_eq!(later.key, first.key);
    }

    #[test]
    fn a_later_fragment_is_counted_in_its_direction_and_changes_nothing_else() {
        let first = first_v4(1, 2, 1000, 53);
        let mut state = flow(&first, 1_000_000);
        let mut expected = state;
        let mut later = later_v4(1, 2, UDP);
        later.attribute(&first.datagram());
        assert_eq!(state.fragment(&later, 90_000_000), Ok(()));
        assert_eq!(state.fragment(&later, 121_000_000), Ok(()), "a packet at exactly 120 s still belongs");
        expected.forward.fragments = 2;
        assert_eq!(state, expected);
        let mut answer = later_v4(2, 1, UDP);
        answer.attribute(&first_v4(2, 1, 53, 1000).datagram());
        assert_eq!(state.fragment(&answer, 1_000_000), Ok(()));
        expected.backward.fragments = 1;
        assert_eq!(state, expected);
    }

    #[test]
    fn a_later_fragment_neither_opens_nor_ends_a_flow() {
        let first = first_v4(1, 2, 1000, 53);
        let mut state = flow(&first, 0);
        assert_eq!(state.fragment(&first, 120_000_001), Err(Skip::AfterEnd));
        state.life = Life::Emitted as u8;
        assert_eq!(state.fragment(&first, 1), Err(Skip::AfterEnd));
        state.vacate();
        assert_eq!(state.fragment(&first, 1), Err(Skip::FragmentOrphan));
        assert_eq!(state.forward.fragments + state.backward.fragments, 0);
    }

    #[test]
    fn a_datagram_in_one_ipv6_fragment_is_whole() {
        let packet =
            parse(&ethernet(0x86dd, &ipv6(1, 2, 44, &join(&[&fragment_header(UDP, 0, false), &udp(1, 2, &[1; 9])]))));
        let packet = packet.unwrap();
        assert_eq!((packet.fragment, packet.payload), (Fragment::NONE, 9));
    }
}
