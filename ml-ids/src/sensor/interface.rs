//! Network interfaces: which one by default, and what decides how to attach to it.

use std::{ffi::CString, fs, io};

use super::{links::LinkInfo, pattern::InterfacePattern};

/// Why an interface cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// No such interface.
    #[error("no interface named {name}; there are: {available}; --wait-for-interface waits for one that comes later")]
    NotFound {
        /// The name asked for.
        name: String,
        /// The names that exist.
        available: String,
    },
    /// The interface carries neither Ethernet frames nor bare IP packets.
    #[error(
        "interface {name} carries neither Ethernet frames nor IP packets (ARPHRD type {kind}); attach to one that does"
    )]
    NotReadable {
        /// The interface.
        name: String,
        /// Its hardware type as in `/sys/class/net/NAME/type`.
        kind: u16,
    },
    /// No default route to take the interface from.
    #[error("no default route, so no default interface; name one with --interface")]
    NoDefault,
}

/// What a packet of an interface begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layer {
    /// An Ethernet header.
    Ethernet,
    /// The IP header: tun, WireGuard, PPP, IP in IP, GRE, cellular modems.
    Network,
}

/// The kernel's number of an interface of this process's namespace.
pub(super) fn index_of(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: a valid C string.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => None,
        index => Some(index),
    }
}

/// An existing interface that can be watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) index: u32,
    pub(super) layer: Layer,
    pub(super) loopback: bool,
    /// Receives other hosts' frames without taking part: promiscuous without addresses, or a bridge port.
    pub(super) mirror: bool,
}

/// Hardware types (include/uapi/linux/if_arp.h) whose packets begin with the IP header.
const NETWORK_LAYER: [u16; 8] = [
    512,   // PPP
    519,   // RAWIP, cellular modems
    768,   // TUNNEL, IP in IPv4
    769,   // TUNNEL6, IP in IPv6
    776,   // SIT, IPv6 in IPv4
    778,   // IPGRE
    823,   // IP6GRE
    65534, // NONE: tun, WireGuard
];

impl Interface {
    /// Decides how packets of an interface are read.
    pub(super) fn of(link: &LinkInfo) -> Result<Self, InterfaceError> {
        let layer = match link.hardware {
            libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => Layer::Ethernet,
            kind if NETWORK_LAYER.contains(&kind) => Layer::Network,
            kind => return Err(InterfaceError::NotReadable { name: link.name.clone(), kind }),
        };
        Ok(Self {
            name: link.name.clone(),
            index: link.index,
            layer,
            loopback: link.hardware == libc::ARPHRD_LOOPBACK,
            mirror: link.bridge_port || (link.promiscuity > 0 && !has_address(&link.name)),
        })
    }
}

/// The interface of the default route (IPv4, else IPv6).
///
/// # Errors
/// When there is none.
pub fn default_interface() -> Result<InterfacePattern, InterfaceError> {
    let name = default_route().ok_or(InterfaceError::NoDefault)?;
    name.parse().map_err(|_| InterfaceError::NoDefault)
}

fn default_route() -> Option<String> {
    let v4 = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let from_v4 = v4.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (name, destination) = (fields.next()?, fields.next()?);
        (destination == "00000000").then(|| name.to_owned())
    });
    if from_v4.is_some() {
        return from_v4;
    }
    let v6 = fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    v6.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (destination, length, name) = (fields.first()?, fields.get(1)?, fields.last()?);
        (destination.bytes().all(|byte| byte == b'0') && *length == "00" && *name != "lo").then(|| (*name).to_owned())
    })
}

/// True when the interface has an IPv4 address or an IPv6 one that is not link-local.
fn has_address(name: &str) -> bool {
    v4_address(name).unwrap_or(true)
        || fs::read_to_string("/proc/net/if_inet6").is_ok_and(|table| {
            table.lines().any(|line| line.split_ascii_whitespace().last() == Some(name) && !line.starts_with("fe80"))
        })
}

fn v4_address(name: &str) -> io::Result<bool> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: `list` is valid for writing.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = false;
    let mut next = list;
    while !next.is_null() {
        // SAFETY: a node of the list that getifaddrs returned, which is freed below.
        let entry = unsafe { &*next };
        // SAFETY: ifa_name is a C string, ifa_addr null or a valid address.
        let (entry_name, family) = unsafe {
            let family = entry.ifa_addr.as_ref().map(|address| i32::from(address.sa_family));
            (std::ffi::CStr::from_ptr(entry.ifa_name), family)
        };
        found |= entry_name.to_bytes() == name.as_bytes() && family == Some(libc::AF_INET);
        next = entry.ifa_next;
    }
    // SAFETY: the list of the successful call above.
    unsafe { libc::freeifaddrs(list) };
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ethernet_loopback_and_bare_ip_are_read_and_nothing_else() {
        let link = |hardware| LinkInfo { name: "x0".to_owned(), index: 3, hardware, ..LinkInfo::default() };
        let ethernet = Interface::of(&link(1)).unwrap();
        assert_eq!((ethernet.layer, ethernet.loopback, ethernet.mirror), (Layer::Ethernet, false, false));
        assert!(Interface::of(&link(772)).unwrap().loopback);
        for kind in NETWORK_LAYER {
            assert_eq!(Interface::of(&link(kind)).unwrap().layer, Layer::Network, "{kind}");
        }
        // InfiniBand, CAN, 802.11 in monitor mode.
        for kind in [32, 280, 803] {
            let error = Interface::of(&link(kind)).unwrap_err().to_string();
            assert!(error.contains("x0") && error.contains(&kind.to_string()), "{error}");
        }
    }

    #[test]
    fn a_bridge_port_and_a_promiscuous_interface_without_addresses_are_mirrors() {
        let link = LinkInfo { name: "x0".to_owned(), index: 3, hardware: 1, ..LinkInfo::default() };
        assert!(Interface::of(&LinkInfo { bridge_port: true, ..link.clone() }).unwrap().mirror);
        assert!(Interface::of(&LinkInfo { promiscuity: 1, ..link }).unwrap().mirror);
    }
}
