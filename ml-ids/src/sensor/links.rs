//! The kernel's list of interfaces and its changes, over rtnetlink: two sockets and the few attributes that matter here.
//!
//! Notifications only say that something has changed; what there is now is always read as a whole, so that nothing is
//! missed when they come faster than they are read.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

/// Bytes of a message that the kernel is offered at once; a dump is cut to it, a link alone takes about 1.5 KiB.
const BUFFER: usize = 64 << 10;
/// Dumps that changed while they were made, before the last one is taken as it is.
const ATTEMPTS: u32 = 4;
/// How long an answer of the kernel is waited for.
static ANSWER: libc::timeval = libc::timeval { tv_sec: 5, tv_usec: 0 };

const NLMSG_HEADER: usize = 16;
const IFINFO: usize = 16;
/// `struct ifinfomsg`: family, pad, type (u16), index (i32), flags (u32), change (u32).
const IFINFO_TYPE: usize = 2;
const IFINFO_INDEX: usize = 4;
const IFINFO_FLAGS: usize = 8;
/// The list has changed while it was made (include/uapi/linux/netlink.h).
const NLM_F_DUMP_INTR: u16 = 0x10;
/// The type without the flags for nesting and byte order.
const ATTRIBUTE_TYPE: u16 = 0x3fff;

/// An interface as the kernel describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LinkInfo {
    pub(super) name: String,
    /// Further names (`ip link property add … altname …`).
    pub(super) alternatives: Vec<String>,
    pub(super) index: u32,
    /// Hardware type, `ARPHRD_…`.
    pub(super) hardware: u16,
    /// `IFF_…`.
    pub(super) flags: u32,
    /// How many ask for foreign frames.
    pub(super) promiscuity: u32,
    pub(super) bridge_port: bool,
    /// Packets by the interface's own count.
    pub(super) received: u64,
    pub(super) sent: u64,
}

/// Tells that interfaces have changed, and which there are.
pub(super) struct Links {
    changes: OwnedFd,
    requests: OwnedFd,
    buffer: Vec<u8>,
}

impl Links {
    /// Opens both sockets in this process's network namespace.
    pub(super) fn open() -> io::Result<Self> {
        let changes = socket(libc::SOCK_NONBLOCK, libc::RTMGRP_LINK as u32)?;
        let requests = socket(0, 0)?;
        let length = size_of::<libc::timeval>() as libc::socklen_t;
        // SAFETY: a descriptor of this process and a valid option value of the given length.
        let set = unsafe {
            libc::setsockopt(
                requests.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const ANSWER).cast(),
                length,
            )
        };
        if set != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { changes, requests, buffer: vec![0; BUFFER] })
    }

    /// Becomes readable when an interface has changed.
    pub(super) fn changes(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd as _;
        self.changes.as_fd()
    }

    /// Takes the notifications that have come. What they say is in the next list; so is what an overflow swallowed.
    pub(super) fn clear_changes(&mut self) {
        loop {
            match receive(&self.changes, &mut self.buffer) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(_) => break,
            }
        }
    }

    /// All interfaces that there are now.
    pub(super) fn list(&mut self) -> io::Result<Vec<LinkInfo>> {
        let mut attempt = 1;
        loop {
            let (links, interrupted) = self.dump()?;
            if !interrupted || attempt == ATTEMPTS {
                return Ok(links);
            }
            attempt += 1;
        }
    }

    /// One dump, and whether the list changed meanwhile.
    fn dump(&mut self) -> io::Result<(Vec<LinkInfo>, bool)> {
        let mut request = [0u8; NLMSG_HEADER + IFINFO];
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
        request[0..4].copy_from_slice(&((NLMSG_HEADER + IFINFO) as u32).to_ne_bytes());
        request[4..6].copy_from_slice(&libc::RTM_GETLINK.to_ne_bytes());
        request[6..8].copy_from_slice(&flags.to_ne_bytes());
        // SAFETY: a descriptor of this process and a readable buffer of the given length.
        let sent = unsafe { libc::send(self.requests.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        let (mut links, mut interrupted) = (Vec::new(), false);
        loop {
            let length = receive(&self.requests, &mut self.buffer)?;
            let received =
                self.buffer.get(..length).ok_or_else(|| io::Error::other("a netlink message was cut off"))?;
            for message in Messages(received) {
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                match i32::from(message.kind) {
                    libc::NLMSG_DONE => return Ok((links, interrupted)),
                    libc::NLMSG_ERROR => {
                        let code = u32_at(message.body, 0).unwrap_or(0) as i32;
                        return Err(io::Error::from_raw_os_error(code.saturating_neg()));
                    }
                    _ if message.kind == libc::RTM_NEWLINK => links.extend(link(message.body)),
                    _ => {}
                }
            }
        }
    }
}

fn socket(flags: i32, groups: u32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers involved.
    let fd =
        unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC | flags, libc::NETLINK_ROUTE) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just created and has no other owner.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: all bytes zero is a valid address.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    address.nl_groups = groups;
    let length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
    // SAFETY: a valid address of the given length.
    if unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

/// The whole length of one datagram, which may be more than fits.
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        // SAFETY: a writable buffer of the given length.
        let length =
            unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_TRUNC) };
        if let Ok(length) = usize::try_from(length) {
            return Ok(length);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    body: &'a [u8],
}

/// The messages of a datagram; ends at the first that is not whole.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let length = u32_at(self.0, 0)? as usize;
        let (kind, flags) = (u16_at(self.0, 4)?, u16_at(self.0, 6)?);
        let body = self.0.get(NLMSG_HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, flags, body })
    }
}

/// The attributes of a message or of another attribute; ends at the first that is not whole.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & ATTRIBUTE_TYPE;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// Reads the body of an `RTM_NEWLINK`. `None` if it has no name.
fn link(body: &[u8]) -> Option<LinkInfo> {
    let mut link = LinkInfo {
        hardware: u16_at(body, IFINFO_TYPE)?,
        index: u32_at(body, IFINFO_INDEX)?,
        flags: u32_at(body, IFINFO_FLAGS)?,
        ..LinkInfo::default()
    };
    for (kind, value) in Attributes(body.get(IFINFO..)?) {
        match kind {
            libc::IFLA_IFNAME => link.name = text(value),
            libc::IFLA_PROMISCUITY => link.promiscuity = u32_at(value, 0)?,
            // `struct rtnl_link_stats64` begins with the packets received and sent.
            libc::IFLA_STATS64 => (link.received, link.sent) = (u64_at(value, 0)?, u64_at(value, 8)?),
            libc::IFLA_LINKINFO => {
                link.bridge_port = Attributes(value)
                    .any(|(kind, value)| kind == libc::IFLA_INFO_SLAVE_KIND && text(value) == "bridge");
            }
            libc::IFLA_PROP_LIST => {
                let names = Attributes(value).filter(|(kind, _)| *kind == libc::IFLA_ALT_IFNAME);
                link.alternatives = names.map(|(_, value)| text(value)).collect();
            }
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..)?.first_chunk().copied().map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = 4 + value.len();
        let mut bytes = [(length as u16).to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes.resize(length.next_multiple_of(4), 0);
        bytes
    }

    fn body(attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![0; IFINFO];
        body[IFINFO_TYPE..IFINFO_TYPE + 2].copy_from_slice(&1u16.to_ne_bytes());
        body[IFINFO_INDEX..IFINFO_INDEX + 4].copy_from_slice(&7u32.to_ne_bytes());
        body[IFINFO_FLAGS..IFINFO_FLAGS + 4].copy_from_slice(&0x1_0043u32.to_ne_bytes());
        body.extend(attributes.concat());
        body
    }

    #[test]
    fn the_attributes_that_matter_are_read_and_others_passed_over() {
        let slave = attribute(libc::IFLA_INFO_SLAVE_KIND, b"bridge\0");
        let other = attribute(1, b"veth\0");
        let counters: Vec<u8> = [5u64, 6, 700, 800].iter().flat_map(|value| value.to_ne_bytes()).collect();
        let body = body(&[
            attribute(libc::IFLA_IFNAME, b"eth0\0"),
            attribute(200, b"unknown"),
            attribute(libc::IFLA_PROMISCUITY, &2u32.to_ne_bytes()),
            attribute(libc::IFLA_STATS64, &counters),
            attribute(libc::IFLA_LINKINFO | 0x8000, &[other, slave].concat()),
            attribute(libc::IFLA_PROP_LIST | 0x8000, &attribute(libc::IFLA_ALT_IFNAME, b"uplink\0")),
        ]);
        let expected = LinkInfo {
            name: "eth0".to_owned(),
            alternatives: vec!["uplink".to_owned()],
            index: 7,
            hardware: 1,
            flags: 0x1_0043,
            promiscuity: 2,
            bridge_port: true,
            received: 5,
            sent: 6,
        };
        assert_eq!(link(&body), Some(expected));
    }

    #[test]
    fn a_message_that_is_cut_anywhere_is_never_read_beyond_its_end() {
        let body = body(&[attribute(libc::IFLA_IFNAME, b"eth0\0"), attribute(libc::IFLA_STATS64, &[1; 16])]);
        for length in 0..body.len() {
            if let Some(found) = link(&body[..length]) {
                assert!(found.name == "eth0" || found.name.is_empty(), "{length}: {found:?}");
            }
            assert!(Messages(&body[..length]).count() <= length / NLMSG_HEADER);
        }
        // A length of 0 must not be walked for ever.
        assert_eq!(Attributes(&[0; 64]).count(), 0);
        assert_eq!(Messages(&[0; 64]).count(), 0);
    }

    #[test]
    fn the_kernel_lists_loopback() {
        let mut links = Links::open().unwrap();
        let found = links.list().unwrap();
        let loopback = found.iter().find(|link| link.name == "lo").expect("no loopback");
        assert_eq!((loopback.hardware, loopback.index), (libc::ARPHRD_LOOPBACK, 1), "{loopback:?}");
        links.clear_changes();
    }
}
