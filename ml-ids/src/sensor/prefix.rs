//! Prefixes of addresses as people write them, and as the kernel's maps of prefixes have them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aya::maps::lpm_trie::Key;
use ipnet::IpNet;
use ml_ids_common::{Address, IpVersion, PrefixData};

/// Bits before the IPv4 address in `::ffff:10.0.0.1`.
const MAPPED_BITS: u8 = 96;

/// Reads `10.0.0.0/8`, `fd00::/8`, `10.0.0.1` or `fd00::1`. Bits behind the prefix are dropped, and an IPv4 address in
/// IPv6 notation is the IPv4 address.
///
/// # Errors
/// What is expected instead.
pub fn parse_prefix(text: &str) -> Result<IpNet, String> {
    let prefix = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text
            .parse::<IpNet>()
            .map_err(|_| format!("{text} is no address or prefix; write 10.0.0.1, 10.0.0.0/8 or fd00::/8"))?,
    };
    Ok(canonical(prefix))
}

fn canonical(prefix: IpNet) -> IpNet {
    if let IpNet::V6(v6) = prefix
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && let Some(length) = prefix.prefix_len().checked_sub(MAPPED_BITS)
        && let Ok(v4) = IpNet::new(v4.into(), length)
    {
        return v4.trunc();
    }
    prefix.trunc()
}

/// The prefix without its length if it is a single address.
#[must_use]
pub(crate) fn short(prefix: &IpNet) -> String {
    if prefix.prefix_len() == prefix.max_prefix_len() { prefix.addr().to_string() } else { prefix.to_string() }
}

/// The key of a prefix.
pub(crate) fn key(prefix: &IpNet) -> Key<PrefixData> {
    let (version, address) = match prefix.addr() {
        IpAddr::V4(v4) => (IpVersion::V4, Address::v4(u32::from_ne_bytes(v4.octets()))),
        IpAddr::V6(v6) => (IpVersion::V6, Address(words(v6))),
    };
    Key::new(PrefixData::bits(version, prefix.prefix_len()), PrefixData::new(version as u8, address))
}

/// The prefix of a key. `None` for a key that is none of ours.
pub(crate) fn prefix(key: &Key<PrefixData>) -> Option<IpNet> {
    let data = key.data();
    let version = if data.is_v4() { IpVersion::V4 } else { IpVersion::V6 };
    IpNet::new(data.address.to_ip(version as u8), data.length(key.prefix_len())).ok()
}

fn words(address: Ipv6Addr) -> [u32; 4] {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(address.octets().as_chunks::<4>().0) {
        *word = u32::from_ne_bytes(*bytes);
    }
    words
}

/// An IPv4 prefix, for tables.
#[must_use]
pub(crate) const fn v4(octets: [u8; 4], length: u8) -> IpNet {
    let [a, b, c, d] = octets;
    IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), length)
}

/// An IPv6 prefix, for tables.
#[must_use]
pub(crate) const fn v6(groups: [u16; 8], length: u8) -> IpNet {
    let [a, b, c, d, e, f, g, h] = groups;
    IpNet::new_assert(IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)), length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_read_as_people_write_them() {
        for (text, expected) in [
            ("10.0.0.1", "10.0.0.1/32"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("::1", "::1/128"),
            ("fd00::5/8", "fd00::/8"),
            ("::ffff:10.0.0.1", "10.0.0.1/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::/0", "::/0"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(parse_prefix(text).unwrap().to_string(), expected, "{text}");
        }
        for text in ["", "10.0.0", "10.0.0.0/33", "host", "10.0.0.0/-1", "fe80::1%eth0"] {
            assert!(parse_prefix(text).unwrap_err().contains("10.0.0.0/8"), "{text}");
        }
    }

    #[test]
    fn a_key_holds_the_bytes_as_they_stand_in_a_packet_behind_version_and_padding() {
        let bytes = |text: &str| {
            let key = key(&parse_prefix(text).unwrap());
            // SAFETY: a packed struct of 28 bytes without padding.
            let bytes: [u8; 28] = unsafe { std::mem::transmute(key) };
            (u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]), bytes[4..].to_vec())
        };
        let (bits, v4) = bytes("10.1.0.0/16");
        assert_eq!((bits, &v4[..4], &v4[20..]), (64 + 96 + 16, [0, 0, 0, 4].as_slice(), [10, 1, 0, 0].as_slice()));
        let (bits, v6) = bytes("fd00:1::/32");
        assert_eq!((bits, &v6[..4], &v6[8..12]), (64 + 32, [0, 0, 0, 6].as_slice(), [0xfd, 0, 0, 1].as_slice()));
    }

    #[test]
    fn a_key_leads_back_to_its_prefix() {
        for text in ["10.0.0.1/32", "0.0.0.0/0", "172.16.0.0/12", "::/0", "fd00:1:2:3::4/128", "fe80::/10"] {
            assert_eq!(prefix(&key(&parse_prefix(text).unwrap())).unwrap().to_string(), text);
        }
        assert_eq!(short(&parse_prefix("10.0.0.1").unwrap()), "10.0.0.1");
        assert_eq!(short(&parse_prefix("10.0.0.0/8").unwrap()), "10.0.0.0/8");
    }
}
