//! Community ID, version 1: one name for a flow, whichever tool saw it and in whichever direction.
//!
//! `1:` and the Base64 of the SHA-1 of seed, addresses, protocol, a zero byte and ports, the lesser end point first.
//! <https://github.com/corelight/community-id-spec>

use std::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha1::{Digest as _, Sha1};

const ICMP: u8 = 1;
const ICMP_V6: u8 = 58;

/// Messages of ICMP that answer each other: their types stand for ports.
const ICMP_PAIRS: [(u16, u16); 5] = [(8, 0), (13, 14), (15, 16), (10, 9), (17, 18)];
/// The same of `ICMPv6`.
const ICMP_V6_PAIRS: [(u16, u16); 6] = [(128, 129), (133, 134), (135, 136), (130, 131), (139, 140), (144, 145)];

/// Both ends of a flow, in either order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// IP protocol number.
    pub protocol: u8,
    /// Who sent the packet.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// Ports of source and destination; of ICMP type and code; `None` for protocols that have neither.
    pub ports: Option<(u16, u16)>,
}

/// The flow's name. Sensors whose events are to be joined have the same seed, 0 unless told otherwise.
#[must_use]
pub fn community_id(seed: u16, endpoints: &Endpoints) -> String {
    let Endpoints { protocol, source, destination, ports } = *endpoints;
    let (ports, one_way) = match (protocol, ports) {
        (ICMP, Some((kind, code))) => icmp_ports(&ICMP_PAIRS, kind, code),
        (ICMP_V6, Some((kind, code))) => icmp_ports(&ICMP_V6_PAIRS, kind, code),
        _ => (ports, false),
    };
    let (from, to) = ports.unwrap_or_default();
    let in_order = one_way || (source, from) < (destination, to);
    let [(first, first_port), (second, second_port)] =
        if in_order { [(source, from), (destination, to)] } else { [(destination, to), (source, from)] };
    let mut hash = Sha1::new();
    hash.update(seed.to_be_bytes());
    for address in [first, second] {
        match address {
            IpAddr::V4(address) => hash.update(address.octets()),
            IpAddr::V6(address) => hash.update(address.octets()),
        }
    }
    hash.update([protocol, 0]);
    if ports.is_some() {
        hash.update(first_port.to_be_bytes());
        hash.update(second_port.to_be_bytes());
    }
    format!("1:{}", STANDARD.encode(hash.finalize()))
}

/// What stands for the ports of an ICMP message, and whether it is one that nobody answers: such a flow has one direction.
fn icmp_ports(pairs: &[(u16, u16)], kind: u16, code: u16) -> (Option<(u16, u16)>, bool) {
    let mut answers = pairs.iter().flat_map(|&(ask, tell)| [(ask, tell), (tell, ask)]);
    let answer = answers.find_map(|(from, to)| (from == kind).then_some(to));
    (Some((kind, answer.unwrap_or(code))), answer.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A published vector: protocol, source, destination, ports, and the names with seed 0 and 1.
    type Vector = (u8, &'static str, &'static str, Option<(u16, u16)>, &'static str, &'static str);

    /// `baseline/baseline_deflt.json` and `baseline/baseline_seed1.json` of the specification.
    const PUBLISHED: [Vector; 23] = [
        (
            58,
            "fe80::200:86ff:fe05:80da",
            "fe80::260:97ff:fe07:69ea",
            Some((135, 136)),
            "1:dGHyGvjMfljg6Bppwm3bg0LO8TY=",
            "1:kHa1FhMYIT6Ym2Vm2AOtoOARDzY=",
        ),
        (
            58,
            "fe80::260:97ff:fe07:69ea",
            "fe80::200:86ff:fe05:80da",
            Some((136, 135)),
            "1:dGHyGvjMfljg6Bppwm3bg0LO8TY=",
            "1:kHa1FhMYIT6Ym2Vm2AOtoOARDzY=",
        ),
        (
            58,
            "fe80::260:97ff:fe07:69ea",
            "fe80::200:86ff:fe05:80da",
            Some((135, 136)),
            "1:zavyT/cezQr1fmImYCwYnMXbgck=",
            "1:2hSqmsDZ2kdcY9kbiUzOEBic0iM=",
        ),
        (
            58,
            "fe80::200:86ff:fe05:80da",
            "fe80::260:97ff:fe07:69ea",
            Some((136, 135)),
            "1:zavyT/cezQr1fmImYCwYnMXbgck=",
            "1:2hSqmsDZ2kdcY9kbiUzOEBic0iM=",
        ),
        (
            58,
            "3ffe:501:1800:2345::2",
            "3ffe:507:0:1:200:86ff:fe05:80da",
            Some((3, 0)),
            "1:2ObVBgIn28oZvibYZhZMBgh7WdQ=",
            "1:lVEtCZpYu84Xqaa++3lXFyuu2n4=",
        ),
        (
            58,
            "3ffe:501:410:0:2c0:dfff:fe47:33e",
            "3ffe:507:0:1:200:86ff:fe05:80da",
            Some((1, 4)),
            "1:hLZd0XGWojozrvxqE0dWB1iM6R0=",
            "1:W8MHwXpWzpoSTD+cGcaJr4u0ys8=",
        ),
        (
            58,
            "3ffe:507:0:1:200:86ff:fe05:80da",
            "3ffe:501:0:1001::2",
            Some((128, 129)),
            "1:+TW+HtLHvV1xnGhV1lv7XoJrqQg=",
            "1:GfZxjAkDk2MkegpBYHV6tadtFXQ=",
        ),
        (
            58,
            "3ffe:501:0:1001::2",
            "3ffe:507:0:1:200:86ff:fe05:80da",
            Some((129, 128)),
            "1:+TW+HtLHvV1xnGhV1lv7XoJrqQg=",
            "1:GfZxjAkDk2MkegpBYHV6tadtFXQ=",
        ),
        (
            58,
            "fe80::200:86ff:fe05:80da",
            "ff02::2",
            Some((133, 134)),
            "1:hO+sN4H+MG5MY/8hIrXPqc4ZQz0=",
            "1:L7Ka0ZMYu+J3bL4ulW2PrqyXNo8=",
        ),
        (
            58,
            "fe80::260:97ff:fe07:69ea",
            "ff02::1",
            Some((134, 133)),
            "1:pkvHqCL88/tg1k4cPigmZXUtL00=",
            "1:K/ee5UCqAMAQXDorP5nSa2CGLjc=",
        ),
        (
            1,
            "192.168.0.89",
            "192.168.0.1",
            Some((8, 0)),
            "1:X0snYXpgwiv9TZtqg64sgzUn6Dk=",
            "1:03g6IloqVBdcZlPyX8r0hgoE7kA=",
        ),
        (
            1,
            "192.168.0.1",
            "192.168.0.89",
            Some((0, 8)),
            "1:X0snYXpgwiv9TZtqg64sgzUn6Dk=",
            "1:03g6IloqVBdcZlPyX8r0hgoE7kA=",
        ),
        (1, "10.0.0.1", "10.0.0.2", Some((11, 0)), "1:YHxtAirCG//0OzkcVAukqKQN9xM=", "1:XjUibYHaafLQ3pxQeiMI8g25q20="),
        (
            6,
            "2001:470:e5bf:dead:4957:2174:e82c:4887",
            "2607:f8b0:400c:c03::1a",
            Some((63943, 25)),
            "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=",
            "1:eJYTW6AOzFLlSUoESovMjnu7rMw=",
        ),
        (
            6,
            "2607:f8b0:400c:c03::1a",
            "2001:470:e5bf:dead:4957:2174:e82c:4887",
            Some((25, 63943)),
            "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4=",
            "1:eJYTW6AOzFLlSUoESovMjnu7rMw=",
        ),
        (
            132,
            "192.168.170.8",
            "192.168.170.56",
            Some((7, 7)),
            "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs=",
            "1:5w3ZRjeKBzqT3zsaEECDGjUbYeg=",
        ),
        (
            132,
            "192.168.170.56",
            "192.168.170.8",
            Some((7, 7)),
            "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs=",
            "1:5w3ZRjeKBzqT3zsaEECDGjUbYeg=",
        ),
        (
            6,
            "128.232.110.120",
            "66.35.250.204",
            Some((34855, 80)),
            "1:LQU9qZlK+B5F3KDmev6m5PMibrg=",
            "1:3V71V58M3Ksw/yuFALMcW0LAHvc=",
        ),
        (
            6,
            "66.35.250.204",
            "128.232.110.120",
            Some((80, 34855)),
            "1:LQU9qZlK+B5F3KDmev6m5PMibrg=",
            "1:3V71V58M3Ksw/yuFALMcW0LAHvc=",
        ),
        (
            17,
            "192.168.1.52",
            "8.8.8.8",
            Some((54585, 53)),
            "1:d/FP5EW3wiY1vCndhwleRRKHowQ=",
            "1:Q9We8WO3piVF8yEQBNJF4uiSVrI=",
        ),
        (
            17,
            "8.8.8.8",
            "192.168.1.52",
            Some((53, 54585)),
            "1:d/FP5EW3wiY1vCndhwleRRKHowQ=",
            "1:Q9We8WO3piVF8yEQBNJF4uiSVrI=",
        ),
        (46, "10.1.12.1", "10.1.12.2", None, "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw=", "1:rYir8gphR31noO9iDRQmF/BteEI="),
        (46, "10.1.12.2", "10.1.12.1", None, "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw=", "1:rYir8gphR31noO9iDRQmF/BteEI="),
    ];

    #[test]
    fn the_published_vectors_come_out_with_either_seed() {
        for (protocol, source, destination, ports, unseeded, seeded) in PUBLISHED {
            let [source, destination] = [source, destination].map(|address| address.parse().unwrap());
            let endpoints = Endpoints { protocol, source, destination, ports };
            assert_eq!(community_id(0, &endpoints), unseeded, "{endpoints:?}");
            assert_eq!(community_id(1, &endpoints), seeded, "{endpoints:?}");
        }
    }

    #[test]
    fn ports_decide_the_order_between_one_host_and_itself() {
        let host = "127.0.0.1".parse().unwrap();
        let name = |from, to| {
            let endpoints = Endpoints { protocol: 6, source: host, destination: host, ports: Some((from, to)) };
            community_id(0, &endpoints)
        };
        assert_eq!(name(40_000, 80), name(80, 40_000));
        assert_ne!(name(40_000, 80), name(40_000, 81));
    }
}
