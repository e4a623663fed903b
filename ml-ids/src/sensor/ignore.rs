//! What is not to be counted: prefixes, ports, interfaces; and the ignored interfaces kept up to date by name.

use std::{
    str::FromStr,
    time::{Duration, Instant},
};

use aya::maps::{HashMap, MapData};
use ipnet::IpNet;
use log::{info, warn};

use super::{interface::index_of, prefix::parse_prefix};

/// Longest interface name (`IFNAMSIZ` without the final zero).
const LONGEST_NAME: usize = 15;
/// How often the names of ignored interfaces are looked up again.
const REFRESH: Duration = Duration::from_secs(1);

/// One rule. A packet that matches any of them passes uncounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IgnoreRule {
    /// From or to an address of this prefix.
    Prefix(IpNet),
    /// From or to this port, of TCP, of UDP, or of both.
    Port {
        /// Of TCP.
        tcp: bool,
        /// Of UDP.
        udp: bool,
        /// The port.
        port: u16,
    },
    /// Seen on the interface of this name.
    Interface(String),
}

impl FromStr for IgnoreRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |tcp, udp, port: &str| match port.parse() {
            Ok(port) => Ok(Self::Port { tcp, udp, port }),
            Err(_) => Err(format!("{text}: a port is a number from 0 to 65535")),
        };
        match text.split_once(':') {
            Some(("port", number)) => port(true, true, number),
            Some(("tcp", number)) => port(true, false, number),
            Some(("udp", number)) => port(false, true, number),
            Some(("interface", name)) => {
                let usable = !name.is_empty() && name.len() <= LONGEST_NAME && !name.contains(['/', '\0']);
                if usable { Ok(Self::Interface(name.to_owned())) } else { Err(format!("{text}: no interface's name")) }
            }
            _ => parse_prefix(text).map(Self::Prefix).map_err(|_| {
                format!("{text} is no rule; write a prefix (10.0.0.0/8), port:53, tcp:22, udp:53 or interface:docker0")
            }),
        }
    }
}

/// The map of ignored interfaces, which follows the names as interfaces come and go.
pub(super) struct IgnoredInterfaces {
    map: HashMap<MapData, u32, u32>,
    names: Vec<(String, Option<u32>)>,
    next: Instant,
}

impl IgnoredInterfaces {
    /// Enters the interfaces that exist.
    pub(super) fn new(map: HashMap<MapData, u32, u32>, rules: &[IgnoreRule]) -> Self {
        let names = rules.iter().filter_map(|rule| match rule {
            IgnoreRule::Interface(name) => Some((name.clone(), None)),
            _ => None,
        });
        let mut ignored = Self { map, names: names.collect(), next: Instant::now() };
        ignored.refresh();
        ignored
    }

    /// Looks the names up again, if it is time to.
    pub(super) fn refresh(&mut self) {
        let now = Instant::now();
        if self.names.is_empty() || now < self.next {
            return;
        }
        self.next = now + REFRESH;
        for (name, known) in &mut self.names {
            let found = index_of(name);
            if found == *known {
                continue;
            }
            // The index of an interface that is gone may be another's by now.
            let removed = known.map_or(Ok(()), |old| self.map.remove(&old));
            let entered = found.map_or(Ok(()), |new| self.map.insert(new, 1, 0));
            match removed.and(entered) {
                Ok(()) => {
                    info!("packets of interface {name} are {}ignored", if found.is_some() { "" } else { "no longer " });
                }
                Err(error) => warn!("cannot change whether packets of interface {name} are ignored: {error}"),
            }
            *known = found;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_in_every_form() {
        let port = |tcp, udp, port| IgnoreRule::Port { tcp, udp, port };
        for (text, expected) in [
            ("port:53", port(true, true, 53)),
            ("tcp:22", port(true, false, 22)),
            ("udp:65535", port(false, true, 65_535)),
            ("interface:docker0", IgnoreRule::Interface("docker0".to_owned())),
            ("10.0.0.0/8", IgnoreRule::Prefix("10.0.0.0/8".parse().unwrap())),
            ("192.0.2.1", IgnoreRule::Prefix("192.0.2.1/32".parse().unwrap())),
            ("fd00::/8", IgnoreRule::Prefix("fd00::/8".parse().unwrap())),
            ("::1", IgnoreRule::Prefix("::1/128".parse().unwrap())),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_rule_that_is_none_is_refused_with_what_would_be_one() {
        for (text, expected) in [
            ("port:65536", "0 to 65535"),
            ("udp:dns", "0 to 65535"),
            ("tcp:", "0 to 65535"),
            ("interface:", "interface's name"),
            ("interface:a-name-of-17-chr", "interface's name"),
            ("sctp:5", "interface:docker0"),
            ("eth0", "interface:docker0"),
            ("", "interface:docker0"),
        ] {
            let error = text.parse::<IgnoreRule>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
