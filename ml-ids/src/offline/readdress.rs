//! Other strangers in each round of a capture that is played over and over: whoever attacks again from another address is
//! another alert, as it would be on a real network. Addresses of the network itself stay.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ml_ids_common::{Address, FlowKey, IpVersion, Packet};

/// How far a stranger's last byte moves in a round. No divisor of 254, so that all hosts of a /24 have their turn.
const STEP: u32 = 7;
/// Hosts of a /24.
const HOSTS: u32 = 254;

/// Moves the strangers of a packet; in round 0 it stays as it is. Different addresses stay different.
pub(super) fn readdress(packet: &mut Packet, round: u32) {
    if round == 0 {
        return;
    }
    let FlowKey { addr_a, addr_b, port_a, port_b, protocol, version, .. } = packet.key;
    let moved = |address: Address| moved(address, version, round);
    if packet.one_host {
        (packet.key.addr_a, packet.key.addr_b) = (moved(addr_a), moved(addr_b));
        return;
    }
    let (a, b) = ((moved(addr_a), port_a), (moved(addr_b), port_b));
    let (from, to) = if packet.from_b { (b, a) } else { (a, b) };
    let version = if version == IpVersion::V4 as u8 { IpVersion::V4 } else { IpVersion::V6 };
    (packet.key, packet.from_b) = FlowKey::canonical(version, protocol, from, to, false);
}

fn moved(address: Address, version: u8, round: u32) -> Address {
    match address.to_ip(version) {
        IpAddr::V4(ip) if is_stranger(ip) => {
            let [a, b, c, host] = ip.octets();
            let place = (u32::from(host) - 1 + STEP * (round % HOSTS)) % HOSTS + 1;
            // At most 254.
            Address::v4(u32::from_ne_bytes([a, b, c, place as u8]))
        }
        IpAddr::V6(ip) if is_stranger_v6(ip) => {
            let Address([a, b, c, word]) = address;
            let [d, e, f, host] = word.to_ne_bytes();
            let place = host.wrapping_add((STEP * (round % 256)) as u8);
            Address([a, b, c, u32::from_ne_bytes([d, e, f, place])])
        }
        _ => address,
    }
}

fn is_stranger(ip: Ipv4Addr) -> bool {
    let [first, .., host] = ip.octets();
    let own = ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_multicast() || first == 0;
    !own && (1..=254).contains(&host)
}

/// Global unicast.
fn is_stranger_v6(ip: Ipv6Addr) -> bool {
    ip.segments()[0] & 0xe000 == 0x2000
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn v4(text: &str) -> Address {
        Address::v4(u32::from_ne_bytes(text.parse::<Ipv4Addr>().unwrap().octets()))
    }

    #[test]
    fn strangers_move_and_stay_apart_and_the_network_stays() {
        for own in ["10.1.0.10", "192.168.1.1", "127.0.0.1", "224.0.0.251", "203.0.113.255", "203.0.113.0"] {
            assert_eq!(moved(v4(own), 4, 3), v4(own), "{own}");
        }
        assert_eq!(moved(v4("203.0.113.9"), 4, 1).to_ip(4).to_string(), "203.0.113.16");
        for round in [1, 253, 254, 255, u32::MAX] {
            let hosts: BTreeSet<_> =
                (1..=254).map(|host| moved(v4(&format!("203.0.113.{host}")), 4, round).to_ip(4)).collect();
            assert_eq!(hosts.len(), 254, "round {round}");
        }
        let rounds: BTreeSet<_> = (0..254).map(|round| moved(v4("203.0.113.9"), 4, round).to_ip(4)).collect();
        assert_eq!(rounds.len(), 254);
    }

    #[test]
    fn both_directions_of_a_conversation_keep_one_key() {
        let ends = ((v4("203.0.113.250"), 4000), (v4("203.0.113.251"), 80));
        let packet = |from, to| {
            let (key, from_b) = FlowKey::canonical(IpVersion::V4, 6, from, to, false);
            let mut packet = Packet { key, from_b, ..ml_ids_common_packet() };
            readdress(&mut packet, 1);
            packet
        };
        let (there, back) = (packet(ends.0, ends.1), packet(ends.1, ends.0));
        assert_eq!(there.key, back.key);
        assert_ne!(there.from_b, back.from_b);
        let source =
            if there.from_b { (there.key.addr_b, there.key.port_b) } else { (there.key.addr_a, there.key.port_a) };
        assert_eq!((source.0.to_ip(4).to_string().as_str(), source.1), ("203.0.113.3", 4000));
    }

    /// Any packet.
    fn ml_ids_common_packet() -> Packet {
        use ml_ids_common::{Decap, Profile, SliceReader, parse_network};
        let mut bytes = [0; 40];
        (bytes[0], bytes[3], bytes[9], bytes[32]) = (0x45, 40, 6, 0x50);
        parse_network(&SliceReader(&bytes), 0x0800, 0, 40, Profile::Fixed, Decap::NONE).unwrap()
    }
}
