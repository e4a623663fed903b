//! What may never be blocked, and why: special ranges, the host's own addresses, its gateways and resolvers, and the
//! allow-list. Whatever overlaps with one of them is refused.

use std::fmt;

use ipnet::IpNet;

use crate::sensor::prefix::{short, v4, v6};

/// Why a prefix is protected. The number is what the kernel's map of protected prefixes holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Protection {
    /// An address of this host.
    OwnAddress = 1,
    /// The next hop of a route.
    Gateway = 2,
    /// A name server of this host.
    Resolver = 3,
    /// The user says so.
    AllowList = 4,
    /// The host itself.
    Loopback = 5,
    /// Neighbours that no router leads to: address resolution, router advertisements, metadata services.
    LinkLocal = 6,
    /// Groups, which are no source.
    Multicast = 7,
    /// Everybody on the network, which is no source.
    Broadcast = 8,
    /// No address yet: DHCP, duplicate address detection.
    Unspecified = 9,
}

impl Protection {
    /// All reasons.
    pub const ALL: [Self; 9] = [
        Self::OwnAddress,
        Self::Gateway,
        Self::Resolver,
        Self::AllowList,
        Self::Loopback,
        Self::LinkLocal,
        Self::Multicast,
        Self::Broadcast,
        Self::Unspecified,
    ];

    /// The name used in events and `/health`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::OwnAddress => "own_address",
            Self::Gateway => "gateway",
            Self::Resolver => "resolver",
            Self::AllowList => "allow_list",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link_local",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
            Self::Unspecified => "unspecified",
        }
    }

    const fn in_words(self) -> &'static str {
        match self {
            Self::OwnAddress => "an address of this host",
            Self::Gateway => "a gateway of this host",
            Self::Resolver => "a name server of this host",
            Self::AllowList => "on the allow-list",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link-local",
            Self::Multicast => "multicast",
            Self::Broadcast => "the broadcast address",
            Self::Unspecified => "unspecified",
        }
    }

    /// The reason of a number.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|protection| *protection as u64 == number)
    }
}

/// Ranges that no host may block.
const SPECIAL: [(IpNet, Protection); 9] = [
    (v4([127, 0, 0, 0], 8), Protection::Loopback),
    (v4([169, 254, 0, 0], 16), Protection::LinkLocal),
    (v4([224, 0, 0, 0], 4), Protection::Multicast),
    (v4([255, 255, 255, 255], 32), Protection::Broadcast),
    (v4([0, 0, 0, 0], 8), Protection::Unspecified),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), Protection::Loopback),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), Protection::LinkLocal),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), Protection::Multicast),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), Protection::Unspecified),
];

/// A refusal: what was to be blocked, and what stands against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    wanted: IpNet,
    protected: IpNet,
    /// Why that is protected.
    pub why: Protection,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted, protected, why } = self;
        let (wanted_text, protected_text, why) = (short(wanted), short(protected), why.in_words());
        if wanted == protected {
            write!(formatter, "{wanted_text} is {why}")
        } else if protected.contains(wanted) {
            write!(formatter, "{wanted_text} is in {protected_text}, which is {why}")
        } else {
            write!(formatter, "{wanted_text} holds {protected_text}, which is {why}")
        }
    }
}

/// All that is protected at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    protected: Vec<(IpNet, Protection)>,
}

impl Guard {
    /// A guard of the special ranges and of what else is protected now. Of several reasons the first is told.
    #[must_use]
    pub fn new(host: impl IntoIterator<Item = (IpNet, Protection)>, allow: &[IpNet]) -> Self {
        let allowed = allow.iter().map(|net| (*net, Protection::AllowList));
        let mut protected: Vec<(IpNet, Protection)> = Vec::new();
        for (net, why) in host.into_iter().chain(allowed).chain(SPECIAL) {
            if !protected.iter().any(|(known, _)| *known == net) {
                protected.push((net, why));
            }
        }
        Self { protected }
    }

    /// A guard of what another one has written down.
    #[must_use]
    pub fn restored(protected: Vec<(IpNet, Protection)>) -> Self {
        Self { protected }
    }

    /// All prefixes with their reasons.
    #[must_use]
    pub fn protected(&self) -> &[(IpNet, Protection)] {
        &self.protected
    }

    /// Whether a prefix may be blocked.
    ///
    /// # Errors
    /// What stands against it.
    pub fn check(&self, wanted: IpNet) -> Result<(), Refusal> {
        let overlaps = |net: &IpNet| net.contains(&wanted) || wanted.contains(net);
        match self.protected.iter().find(|(net, _)| overlaps(net)) {
            Some(&(protected, why)) => Err(Refusal { wanted, protected, why }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::parse_prefix;

    fn net(text: &str) -> IpNet {
        parse_prefix(text).unwrap()
    }

    fn guard() -> Guard {
        let host = [
            (net("10.77.0.2"), Protection::OwnAddress),
            (net("fd77::2"), Protection::OwnAddress),
            (net("10.77.0.254"), Protection::Gateway),
            (net("192.0.2.53"), Protection::Resolver),
        ];
        Guard::new(host, &[net("198.51.100.0/24"), net("2001:db8::/32"), net("10.77.0.254")])
    }

    #[test]
    fn what_may_never_be_blocked_is_refused_with_its_reason() {
        for (wanted, why, words) in [
            ("10.77.0.2", Protection::OwnAddress, "10.77.0.2 is an address of this host"),
            ("fd77::2", Protection::OwnAddress, "fd77::2 is an address of this host"),
            ("10.77.0.0/24", Protection::OwnAddress, "10.77.0.0/24 holds 10.77.0.2, which is an address of this host"),
            ("0.0.0.0/0", Protection::OwnAddress, "holds 10.77.0.2"),
            ("::/0", Protection::OwnAddress, "holds fd77::2"),
            // Allow-listed, too: the first reason is told.
            ("10.77.0.254", Protection::Gateway, "is a gateway of this host"),
            ("192.0.2.53", Protection::Resolver, "is a name server of this host"),
            ("198.51.100.7", Protection::AllowList, "is in 198.51.100.0/24, which is on the allow-list"),
            ("198.51.100.0/24", Protection::AllowList, "198.51.100.0/24 is on the allow-list"),
            ("198.51.0.0/16", Protection::AllowList, "holds 198.51.100.0/24"),
            ("2001:db8:1::1", Protection::AllowList, "is in 2001:db8::/32"),
            ("127.0.0.1", Protection::Loopback, "is in 127.0.0.0/8, which is loopback"),
            ("::1", Protection::Loopback, "::1 is loopback"),
            ("169.254.169.254", Protection::LinkLocal, "link-local"),
            ("fe80::1", Protection::LinkLocal, "link-local"),
            ("224.0.0.251", Protection::Multicast, "multicast"),
            ("239.1.2.3", Protection::Multicast, "multicast"),
            ("ff02::1", Protection::Multicast, "multicast"),
            ("255.255.255.255", Protection::Broadcast, "broadcast"),
            ("0.0.0.0", Protection::Unspecified, "unspecified"),
            ("::", Protection::Unspecified, "unspecified"),
            // An IPv4 address in IPv6 notation is the IPv4 address.
            ("::ffff:127.0.0.1", Protection::Loopback, "loopback"),
        ] {
            let refusal = guard().check(net(wanted)).expect_err(wanted);
            assert_eq!(refusal.why, why, "{wanted}");
            assert!(refusal.to_string().contains(words), "{wanted}: {refusal}");
        }
    }

    #[test]
    fn everything_else_may_be_blocked() {
        for wanted in ["10.77.0.1", "10.77.0.3", "192.0.2.54", "198.51.101.0/24", "fd77::1", "2001:db9::/32", "8.8.8.8"]
        {
            assert_eq!(guard().check(net(wanted)), Ok(()), "{wanted}");
        }
    }

    #[test]
    fn reasons_survive_the_way_through_a_number() {
        for protection in Protection::ALL {
            assert_eq!(Protection::from_number(protection as u64), Some(protection));
        }
        assert_eq!(Protection::from_number(0), None);
    }
}
