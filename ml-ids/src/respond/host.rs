//! What this host cannot do without: its own addresses, the next hops of its routes, its name servers.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

use super::guard::Protection;

/// All of it as it is now. What cannot be read is left out; the addresses are the one part that always can be.
///
/// # Errors
/// When the kernel does not tell the host's addresses.
pub(super) fn essentials() -> io::Result<Vec<(IpNet, Protection)>> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let mut gateways = v4_gateways(&read("/proc/net/route"));
    gateways.extend(v6_gateways(&read("/proc/net/ipv6_route")));
    let resolvers = resolvers(&read("/etc/resolv.conf"));
    let as_nets = |addresses: Vec<IpAddr>, why| addresses.into_iter().map(move |address| (IpNet::from(address), why));
    Ok(as_nets(own_addresses()?, Protection::OwnAddress)
        .chain(as_nets(gateways, Protection::Gateway))
        .chain(as_nets(resolvers, Protection::Resolver))
        .collect())
}

/// Next hops in the format of `/proc/net/route`: hexadecimal words as they lie in memory.
fn v4_gateways(table: &str) -> Vec<IpAddr> {
    let next_hops = table.lines().skip(1).filter_map(|line| {
        let gateway = u32::from_str_radix(line.split_ascii_whitespace().nth(2)?, 16).ok()?;
        (gateway != 0).then(|| IpAddr::V4(Ipv4Addr::from(gateway.to_ne_bytes())))
    });
    next_hops.collect()
}

/// Next hops in the format of `/proc/net/ipv6_route`.
fn v6_gateways(table: &str) -> Vec<IpAddr> {
    let next_hops = table.lines().filter_map(|line| {
        let gateway = u128::from_str_radix(line.split_ascii_whitespace().nth(4)?, 16).ok()?;
        (gateway != 0).then(|| IpAddr::V6(Ipv6Addr::from(gateway)))
    });
    next_hops.collect()
}

/// Name servers of a `resolv.conf`.
fn resolvers(text: &str) -> Vec<IpAddr> {
    let servers = text.lines().filter_map(|line| {
        let address = line.trim().strip_prefix("nameserver")?.split_ascii_whitespace().next()?;
        // An interface may be named behind a link-local address.
        address.split('%').next()?.parse().ok()
    });
    servers.collect()
}

/// The addresses of all interfaces.
fn own_addresses() -> io::Result<Vec<IpAddr>> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: `list` is valid for writing.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut next = list;
    while !next.is_null() {
        // SAFETY: a node of the list that getifaddrs returned, which is freed below.
        let entry = unsafe { &*next };
        // SAFETY: the address is null or valid.
        found.extend(unsafe { address(entry.ifa_addr) });
        next = entry.ifa_next;
    }
    // SAFETY: the list of the successful call above.
    unsafe { libc::freeifaddrs(list) };
    Ok(found)
}

/// # Safety
/// Null, or an address of the family that it names.
unsafe fn address(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: by contract.
    let family = unsafe { address.as_ref() }?.sa_family;
    match i32::from(family) {
        libc::AF_INET => {
            // SAFETY: by contract. A read of bytes, whatever the alignment.
            let inet: libc::sockaddr_in = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(IpAddr::V4(Ipv4Addr::from(inet.sin_addr.s_addr.to_ne_bytes())))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let inet: libc::sockaddr_in6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(IpAddr::V6(Ipv6Addr::from(inet.sin6_addr.s6_addr)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_are_read_from_the_kernels_tables() {
        let v4 = "Iface\tDestination\tGateway\tFlags\n\
                  eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\n\
                  eth0\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\n\
                  eth1\t0000A8C0\tFE00000A\t0003\n\
                  broken\n";
        assert_eq!(v4_gateways(v4), ["10.0.0.1", "10.0.0.254"].map(|text| text.parse::<IpAddr>().unwrap()));
        let zeros = "00000000000000000000000000000000";
        let v6 = format!(
            "{zeros} 00 {zeros} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth0\n\
             fd770000000000000000000000000000 40 {zeros} 00 {zeros} 00000100 00000001 00000000 00000001 eth0\n\
             broken\n"
        );
        assert_eq!(v6_gateways(&v6), ["fe80::1".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn name_servers_are_read_from_resolv_conf() {
        let text =
            "# local\nsearch example.org\nnameserver 192.0.2.53\n nameserver\tfe80::1%eth0 # router\nnameserver x\n";
        assert_eq!(resolvers(text), ["192.0.2.53", "fe80::1"].map(|text| text.parse::<IpAddr>().unwrap()));
    }

    #[test]
    fn loopback_is_among_this_hosts_addresses() {
        assert!(own_addresses().unwrap().contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
}
