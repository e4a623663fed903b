//! Network interfaces: which one by default, and what decides how to attach to it.

use std::{ffi::CString, fs, io, path::Path};

/// Why an interface cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// No such interface.
    #[error("no interface named {name}; there are: {available}")]
    NotFound {
        /// The name asked for.
        name: String,
        /// The names that exist.
        available: String,
    },
    /// The interface does not carry Ethernet frames.
    #[error(
        "interface {name} does not carry Ethernet frames (ARPHRD type {kind}); this version reads Ethernet only, \
         attach to the underlying interface"
    )]
    NotEthernet {
        /// The interface.
        name: String,
        /// Its hardware type as in `/sys/class/net/NAME/type`.
        kind: u32,
    },
    /// No default route to take the interface from.
    #[error("no default route, so no default interface; name one with --interface")]
    NoDefault,
}

/// An existing Ethernet-like interface.
#[derive(Clone, Debug)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) index: u32,
    pub(super) loopback: bool,
    /// Receives other hosts' frames without taking part: promiscuous without addresses, or a bridge port.
    pub(super) mirror: bool,
}

const ARPHRD_ETHER: u32 = 1;
const ARPHRD_LOOPBACK: u32 = 772;
const IFF_PROMISC: u32 = 0x100;

impl Interface {
    /// Looks the interface up.
    pub(super) fn find(name: &str) -> Result<Self, InterfaceError> {
        let missing = || InterfaceError::NotFound { name: name.to_owned(), available: names().join(", ") };
        let c_name = CString::new(name).map_err(|_| missing())?;
        // SAFETY: `c_name` is a valid C string.
        let index = unsafe { libc::if_nametoindex(c_name.as_ptr()) };
        if index == 0 {
            return Err(missing());
        }
        let kind = read_number(name, "type").unwrap_or(ARPHRD_ETHER);
        if kind != ARPHRD_ETHER && kind != ARPHRD_LOOPBACK {
            return Err(InterfaceError::NotEthernet { name: name.to_owned(), kind });
        }
        let promiscuous = read_number(name, "flags").unwrap_or(0) & IFF_PROMISC != 0;
        let bridge_port = Path::new("/sys/class/net").join(name).join("brport").exists();
        Ok(Self {
            name: name.to_owned(),
            index,
            loopback: kind == ARPHRD_LOOPBACK,
            mirror: bridge_port || (promiscuous && !has_address(name)),
        })
    }
}

/// The interface of the default route (IPv4, else IPv6).
///
/// # Errors
/// When there is none.
pub fn default_interface() -> Result<String, InterfaceError> {
    let v4 = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let from_v4 = v4.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (name, destination) = (fields.next()?, fields.next()?);
        (destination == "00000000").then(|| name.to_owned())
    });
    if let Some(name) = from_v4 {
        return Ok(name);
    }
    let v6 = fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    v6.lines()
        .find_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let (destination, length, name) = (fields.first()?, fields.get(1)?, fields.last()?);
            (destination.bytes().all(|byte| byte == b'0') && *length == "00" && *name != "lo")
                .then(|| (*name).to_owned())
        })
        .ok_or(InterfaceError::NoDefault)
}

fn names() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// A decimal or `0x` number in sysfs.
fn read_number(interface: &str, file: &str) -> Option<u32> {
    let text = fs::read_to_string(Path::new("/sys/class/net").join(interface).join(file)).ok()?;
    let text = text.trim();
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// True when the interface has an IPv4 address or an IPv6 one that is not link-local.
fn has_address(name: &str) -> bool {
    v4_address(name).unwrap_or(true)
        || fs::read_to_string("/proc/net/if_inet6")
            .is_ok_and(|table| table.lines().any(|line| line.ends_with(name) && !line.starts_with("fe80")))
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
