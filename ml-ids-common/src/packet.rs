//! One parsed packet, and the reasons for which a frame is not one.

use crate::{FlowKey, Fragment};

/// The TCP flag bits as they stand in byte 13 of the header (RFC 9293, RFC 3168).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// Finish.
    pub const FIN: u8 = 0x01;
    /// Synchronise.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// Acknowledgement.
    pub const ACK: u8 = 0x10;
    /// Urgent.
    pub const URG: u8 = 0x20;
    /// ECN echo.
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced.
    pub const CWR: u8 = 0x80;

    /// True when at least one of the given bits is set.
    #[inline(always)]
    #[must_use]
    pub const fn any(self, bits: u8) -> bool {
        self.0 & bits != 0
    }

    /// True when all given bits are set.
    #[inline(always)]
    #[must_use]
    pub const fn all(self, bits: u8) -> bool {
        self.0 & bits == bits
    }
}

/// What the flow engine needs to know of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The flow table key.
    pub key: FlowKey,
    /// The packet's source is end point b of the key.
    pub from_b: bool,
    /// [`FlowKey::one_host`] of the key: known once, and not to be looked for under a lock.
    pub one_host: bool,
    /// Layer 4 header bytes: TCP data offset * 4, UDP 8, otherwise 0.
    pub header: u8,
    /// TCP flags, 0 for other protocols.
    pub flags: TcpFlags,
    /// TCP window field as sent (no scaling), 0 for other protocols.
    pub window: u16,
    /// Layer 4 payload bytes by the IP length field.
    pub payload: u32,
    /// Layer 4 payload bytes up to the end of the frame: `payload` plus Ethernet padding.
    pub padded_payload: u32,
    /// How many packets like this one, at least 1, pass at one and the same time: the middle of a super-packet.
    pub copies: u32,
    /// The packet's place in its datagram. A later fragment has no ports until it is given those of its flow.
    pub fragment: Fragment,
    /// Identification of the datagram; of meaning in fragments only.
    pub datagram: u32,
}

/// Why a frame did not become a counted packet of a flow. The discriminant is the counter's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Skip {
    /// The frame carries neither IPv4 nor IPv6 (ARP, LLDP, MPLS, PPPoE, 802.3, …).
    NotIp = 0,
    /// The frame ends inside a header.
    Truncated = 1,
    /// An IP header contradicts itself (version, header length).
    Malformed = 2,
    /// More VLAN tags than [`crate::MAX_VLAN_TAGS`].
    VlanDepth = 3,
    /// More IPv6 extension headers than [`crate::MAX_EXTENSION_HEADERS`].
    ExtensionDepth = 4,
    /// The flow table is full and the packet would have opened a flow.
    TableFull = 5,
    /// The packet came after its flow had ended and had been emitted, and does not open a new one.
    AfterEnd = 6,
    /// The packet lost a race with the removal of its table entry too often.
    Race = 7,
    /// The capture's link type is not supported (offline only).
    LinkType = 8,
    /// A fragment other than the first, of a datagram whose first one was not seen, or whose flow is not there.
    FragmentOrphan = 9,
    /// The packet is from, to or on what the sensor was told to ignore.
    Ignored = 10,
    /// The packet's source is blocked: it was dropped.
    Blocked = 11,
}

impl Skip {
    /// Number of reasons.
    pub const COUNT: usize = 12;
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::NotIp,
        Self::Truncated,
        Self::Malformed,
        Self::VlanDepth,
        Self::ExtensionDepth,
        Self::TableFull,
        Self::AfterEnd,
        Self::Race,
        Self::LinkType,
        Self::FragmentOrphan,
        Self::Ignored,
        Self::Blocked,
    ];

    /// The name used in logs, `/health` and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotIp => "not_ip",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::VlanDepth => "vlan_depth",
            Self::ExtensionDepth => "extension_depth",
            Self::TableFull => "table_full",
            Self::AfterEnd => "after_end",
            Self::Race => "race",
            Self::LinkType => "link_type",
            Self::FragmentOrphan => "fragment_orphan",
            Self::Ignored => "ignored",
            Self::Blocked => "blocked",
        }
    }
}
