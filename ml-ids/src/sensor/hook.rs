//! A hook of one interface: where programs can be attached, in which order that is tried, and the link that holds one.

use aya::programs::{tc::SchedClassifierLink, xdp::XdpLink};
use ml_ids_common::Hook;

use super::{
    interface::{Interface, Layer},
    pin::PinnedLink,
};

/// How received packets are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IngressHook {
    /// In the driver, before a socket buffer exists.
    NativeXdp,
    /// In the stack, on the socket buffer: slower, works on every driver.
    GenericXdp,
    /// TCX link: behind XDP, merged packets are counted as their segments (Linux 6.6 and later).
    Tcx,
    /// Filter on a clsact qdisc: the same on older kernels.
    Clsact,
}

/// How sent packets are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EgressHook {
    /// TCX link (Linux 6.6 and later).
    Tcx,
    /// Filter on a clsact qdisc.
    Clsact,
}

impl IngressHook {
    /// The name used in logs and `/health`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NativeXdp => "xdp-native",
            Self::GenericXdp => "xdp-generic",
            Self::Tcx => "tcx-ingress",
            Self::Clsact => "clsact-ingress",
        }
    }
}

impl EgressHook {
    /// The name used in logs and `/health`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// Where a program can be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    DriverXdp,
    GenericXdp,
    Tcx(Order),
    Clsact(Order),
}

/// Before or behind the programs of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    First,
    Last,
}

/// Received frames: as early as possible.
const INGRESS: &[Place] = &[Place::DriverXdp, Place::GenericXdp, Place::Tcx(Order::First), Place::Clsact(Order::First)];
/// Received packets that XDP cannot read (no Ethernet header), or would have to copy into one piece each (loopback's,
/// of up to 64 KiB, which it drops when it finds no memory for that).
const INGRESS_SOCKET_BUFFER: &[Place] = &[Place::Tcx(Order::First), Place::Clsact(Order::First)];
/// Sent packets: behind the programs of others, which may still drop or change them, unless these end the chain.
const EGRESS: &[Place] =
    &[Place::Tcx(Order::Last), Place::Tcx(Order::First), Place::Clsact(Order::Last), Place::Clsact(Order::First)];

impl Place {
    /// The places at which a direction of an interface can be watched, best first.
    pub(super) const fn chain(interface: &Interface, direction: Hook) -> &'static [Self] {
        match (direction, interface.layer) {
            (Hook::Egress, _) => EGRESS,
            (Hook::Ingress, Layer::Ethernet) if !interface.loopback => INGRESS,
            (Hook::Ingress, _) => INGRESS_SOCKET_BUFFER,
        }
    }

    /// Those whose attachment is a link that can be pinned.
    pub(super) const PINNABLE: &[Self] =
        &[Self::DriverXdp, Self::GenericXdp, Self::Tcx(Order::First), Self::Tcx(Order::Last)];

    /// The name in the file name of a pin.
    pub(super) const fn slug(self) -> &'static str {
        match self {
            Self::DriverXdp => "xdp-native",
            Self::GenericXdp => "xdp-generic",
            Self::Tcx(Order::First) => "tcx-first",
            Self::Tcx(Order::Last) => "tcx-last",
            Self::Clsact(Order::First) => "clsact-first",
            Self::Clsact(Order::Last) => "clsact-last",
        }
    }

    /// What it is called, given the direction.
    pub(super) const fn name(self, direction: Hook) -> &'static str {
        match direction {
            Hook::Ingress => self.ingress().name(),
            Hook::Egress => self.egress().name(),
        }
    }

    pub(super) const fn is_clsact(self) -> bool {
        matches!(self, Self::Clsact(_))
    }

    pub(super) const fn is_xdp(self) -> bool {
        matches!(self, Self::DriverXdp | Self::GenericXdp)
    }

    const fn ingress(self) -> IngressHook {
        match self {
            Self::DriverXdp => IngressHook::NativeXdp,
            Self::GenericXdp => IngressHook::GenericXdp,
            Self::Tcx(_) => IngressHook::Tcx,
            Self::Clsact(_) => IngressHook::Clsact,
        }
    }

    const fn egress(self) -> EgressHook {
        match self {
            Self::Clsact(_) => EgressHook::Clsact,
            _ => EgressHook::Tcx,
        }
    }
}

/// The program of a place, direction and layer.
pub(super) const fn program(place: Place, direction: Hook, layer: Layer) -> &'static str {
    match (place, direction, layer) {
        (Place::DriverXdp | Place::GenericXdp, _, _) => "ingress",
        (_, Hook::Ingress, Layer::Ethernet) => "ingress_tc",
        (_, Hook::Ingress, Layer::Network) => "ingress_l3",
        (_, Hook::Egress, Layer::Ethernet) => "egress",
        (_, Hook::Egress, Layer::Network) => "egress_l3",
    }
}

/// What keeps a program attached. Dropping it detaches, unless it is pinned.
#[derive(Debug)]
pub(super) enum HookLink {
    Xdp(XdpLink),
    Classifier(SchedClassifierLink),
    Pinned(PinnedLink),
}

/// A program attached to one direction of one interface, for as long as the value lives, and longer if it is pinned.
#[derive(Debug)]
pub(super) struct AttachedHook {
    /// Index of the interface.
    pub(super) interface: u32,
    pub(super) direction: Hook,
    pub(super) place: Place,
    pub(super) link: HookLink,
}

impl AttachedHook {
    /// Detaches at once, pinned or not.
    pub(super) fn detach(self) {
        if let HookLink::Pinned(link) = self.link {
            link.detach();
        }
    }

    /// How received packets are seen by it.
    pub(super) const fn ingress(&self) -> IngressHook {
        self.place.ingress()
    }

    /// How sent packets are seen by it.
    pub(super) const fn egress(&self) -> EgressHook {
        self.place.egress()
    }

    /// The name used in logs and `/health`.
    pub(super) const fn name(&self) -> &'static str {
        self.place.name(self.direction)
    }
}
