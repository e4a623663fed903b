//! The three dialects of "CIC feature" and the time limits that they share.
//!
//! A profile is fixed when the sensor loads and belongs to the model: a model trained on one dialect is never served
//! with another. Sources: `docs/feature-spec.md` sections 1 and 3.

/// The exact semantics that a feature vector follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Profile {
    /// The corrected definitions (Engelen/Liu fork of CICFlowMeter, June 2024).
    Fixed = 0,
    /// The fork of July 2022, which made the "improved" CIC-IDS2017 and CSE-CIC-IDS2018 CSVs.
    Cns2022 = 1,
    /// The original `MachineLearningCVE` CSVs of 2017, known faults included.
    Cic2017 = 2,
}

impl Profile {
    /// All profiles, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Fixed, Self::Cns2022, Self::Cic2017];

    /// The name used in flags, model contracts and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Cns2022 => "cns2022",
            Self::Cic2017 => "cic2017",
        }
    }

    /// The profile of a number; unknown numbers are `None`.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Fixed),
            1 => Some(Self::Cns2022),
            2 => Some(Self::Cic2017),
            _ => None,
        }
    }

    /// Fewest packets of a flow that is emitted. The 2017 tool never wrote a one-packet flow.
    #[must_use]
    pub const fn min_packets(self) -> u32 {
        match self {
            Self::Fixed | Self::Cns2022 => 1,
            Self::Cic2017 => 2,
        }
    }
}

/// Longest flow, measured from its first packet, in microseconds. A packet at exactly this offset still belongs.
pub const FLOW_LIMIT_US: i64 = 120_000_000;
/// A gap above this ends an active stretch and is idle time, in microseconds.
pub const ACTIVITY_LIMIT_US: i32 = 5_000_000;
/// A gap above this starts a new subflow, in microseconds.
pub const SUBFLOW_GAP_US: i32 = 1_000_000;
/// A gap above this starts a new bulk, in microseconds.
pub const BULK_GAP_US: i32 = 1_000_000;
/// Default time that a terminated flow (both FINs acknowledged, or RST) waits for late packets, in microseconds.
pub const LINGER_US: u64 = 1_000_000;
