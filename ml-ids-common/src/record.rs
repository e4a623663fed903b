//! A finished flow: its final state and why it ended.

use core::net::IpAddr;

use crate::FlowState;

/// Why a flow left the sensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EndReason {
    /// Not ended. Never in a record.
    None = 0,
    /// Both FINs acknowledged (2017: the first FIN).
    Fin = 1,
    /// RST.
    Rst = 2,
    /// The 120 s limit, with packets up to the end.
    Timeout = 3,
    /// The 120 s limit, after more than 5 s of silence.
    Idle = 4,
    /// The sensor stopped.
    Shutdown = 5,
    /// The capture ended (offline).
    EndOfCapture = 6,
    /// The flow table was full, or nearly: given up early to make room.
    Evicted = 7,
}

impl EndReason {
    /// All reasons a record can have.
    pub const ALL: [Self; 7] =
        [Self::Fin, Self::Rst, Self::Timeout, Self::Idle, Self::Shutdown, Self::EndOfCapture, Self::Evicted];

    /// The name used in logs, `/health` and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Fin => "fin",
            Self::Rst => "rst",
            Self::Timeout => "timeout",
            Self::Idle => "idle",
            Self::Shutdown => "shutdown",
            Self::EndOfCapture => "end_of_capture",
            Self::Evicted => "evicted",
        }
    }

    /// The reason of a number; [`EndReason::None`] for unknown ones.
    #[must_use]
    pub const fn from_u8(value: u8) -> Self {
        match value {
            1 => Self::Fin,
            2 => Self::Rst,
            3 => Self::Timeout,
            4 => Self::Idle,
            5 => Self::Shutdown,
            6 => Self::EndOfCapture,
            7 => Self::Evicted,
            _ => Self::None,
        }
    }
}

/// A finished flow. It can only be made from a state together with a reason, so holding one means that the flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct FlowRecord(FlowState);

impl FlowRecord {
    /// Ends a flow. A reason that its teardown has already set (FIN, RST) wins over `reason`.
    #[must_use]
    pub fn finish(mut state: FlowState, reason: EndReason) -> Self {
        state.finish(reason);
        Self(state)
    }

    /// From the bytes that the kernel sent. `None` when the length is not that of a record or it carries no reason.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != size_of::<FlowState>() {
            return None;
        }
        // SAFETY: the length is right, any bit pattern is a valid FlowState (integers only), the read is unaligned.
        let state = unsafe { bytes.as_ptr().cast::<FlowState>().read_unaligned() };
        (EndReason::from_u8(state.reason) != EndReason::None).then_some(Self(state))
    }

    /// The same record with its start moved by `offset_us`: from time since boot to Unix time.
    #[must_use]
    pub const fn rebased(mut self, offset_us: i64) -> Self {
        self.0.start_us = self.0.start_us.wrapping_add_signed(offset_us);
        self
    }

    /// The flow's final state.
    #[must_use]
    pub const fn state(&self) -> &FlowState {
        &self.0
    }

    /// Address and port of the flow's source (its first packet's, apart from the profiles' exceptions).
    #[must_use]
    pub fn source(&self) -> (IpAddr, u16) {
        self.end_point(self.0.source_is_b != 0)
    }

    /// Address and port of the flow's destination.
    #[must_use]
    pub fn destination(&self) -> (IpAddr, u16) {
        self.end_point(self.0.source_is_b == 0)
    }

    fn end_point(&self, b: bool) -> (IpAddr, u16) {
        let key = &self.0.key;
        let (address, port) = if b { (key.addr_b, key.port_b) } else { (key.addr_a, key.port_a) };
        (address.to_ip(key.version), port)
    }

    /// IP protocol number: 6, 17, or 0 for everything else.
    #[must_use]
    pub const fn protocol(&self) -> u8 {
        self.0.key.protocol
    }

    /// Time from the first to the last packet in microseconds; negative only when a capture runs backwards.
    #[must_use]
    pub const fn duration_us(&self) -> i64 {
        self.0.last as i64
    }

    /// Why the flow ended.
    #[must_use]
    pub const fn reason(&self) -> EndReason {
        EndReason::from_u8(self.0.reason)
    }
}
