//! Interfaces as `/health` shows them: how they stand, and by which hooks their packets are seen.

use serde::Serialize;

/// One interface.
#[derive(Clone, Debug, Serialize)]
pub struct InterfaceHealth {
    /// Name, `eth0`.
    pub name: String,
    /// The kernel's number of it; `null` if it has not been there yet.
    pub index: Option<u32>,
    /// How it stands.
    pub state: InterfaceState,
    /// In which role it is watched.
    pub attach: Attach,
    /// Hook for received packets.
    pub ingress: Option<Ingress>,
    /// Hook for sent packets; `null` on a mirror port and on loopback, where everything is received.
    pub egress: Option<Egress>,
    /// What is wrong with it, in words; empty if nothing is.
    pub problems: Vec<String>,
}

/// How it stands with an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum InterfaceState {
    /// Every packet is counted.
    Attached,
    /// Attached, but switched off or without a carrier.
    Down,
    /// It has disappeared.
    Gone,
    /// It has not been there yet.
    Waiting,
    /// A program could not be attached.
    Failed,
}

/// The role of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attach {
    /// The host's own traffic, both directions.
    Host,
    /// A copy of other hosts' traffic, received only.
    Mirror,
}

/// How received packets are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ingress {
    /// XDP in the driver.
    XdpNative,
    /// XDP in the stack: works everywhere, costs more.
    XdpGeneric,
    /// TCX, kernel 6.6 and later.
    TcxIngress,
    /// A clsact filter.
    ClsactIngress,
    /// No interface: a capture is replayed.
    Replay,
}

/// How sent packets are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Egress {
    /// TCX, kernel 6.6 and later.
    Tcx,
    /// A clsact filter.
    Clsact,
}
