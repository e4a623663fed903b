//! A flow as the formulas see it: the record's integers read the way a profile reads them, derived once per flow.

use ml_ids_common::{Direction, FlowRecord, FlowState, Profile, Spans, TcpFlags};

use super::FlowId;

const TCP: u8 = 6;
const UDP: u8 = 17;
/// What the 2017 tool counts as the header of a UDP packet: that of a TCP packet seen before, mostly 20 bytes.
const UDP_HEADER_2017: u32 = 20;
const MICROSECONDS: f64 = 1e6;

/// Count, sum, sum of squares and range of some quantity.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moments {
    count: i128,
    total: i128,
    square_total: i128,
    /// Sum.
    pub sum: f64,
    /// Least value, 0 if there is none.
    pub min: f64,
    /// Largest value, 0 if there is none.
    pub max: f64,
}

impl Moments {
    fn new(count: u32, sum: i128, square_sum: u128, min: f64, max: f64) -> Self {
        if count == 0 {
            return Self::default();
        }
        let square_total = i128::try_from(square_sum).unwrap_or(i128::MAX);
        Self { count: i128::from(count), total: sum, square_total, sum: sum as f64, min, max }
    }

    fn lengths(direction: &Direction, padded: bool) -> Self {
        let d = direction;
        if padded {
            let (min, max) = (f64::from(d.padded_min), f64::from(d.padded_max));
            return Self::new(d.packets, d.padded_sum.into(), d.padded_square_sum.into(), min, max);
        }
        let (min, max) = (f64::from(d.length_min), f64::from(d.length_max));
        Self::new(d.packets, d.length_sum.into(), d.length_square_sum.into(), min, max)
    }

    fn gaps(packets: u32, sum: i64, square_sum: u64, min: i32, max: i32) -> Self {
        let count = packets.saturating_sub(1);
        Self::new(count, sum.into(), square_sum.into(), f64::from(min), f64::from(max))
    }

    fn spans(spans: &Spans) -> Self {
        let &Spans { square_sum, sum, max, min, count, .. } = spans;
        Self::new(count, sum.into(), square_sum.into(), f64::from(min), f64::from(max))
    }

    /// Both together.
    fn join(&self, other: &Self) -> Self {
        if self.count == 0 {
            return *other;
        }
        if other.count == 0 {
            return *self;
        }
        let total = self.total.wrapping_add(other.total);
        Self {
            count: self.count.wrapping_add(other.count),
            total,
            square_total: self.square_total.wrapping_add(other.square_total),
            sum: total as f64,
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }

    /// True when there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Mean, 0 if there is no value.
    #[must_use]
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / self.count as f64 }
    }

    /// Sample variance, 0 for fewer than two values. Exact up to the last step, as sums are integers. A sum of squares
    /// that has overflowed in a hostile capture can make it too small, but never negative.
    #[must_use]
    pub fn variance(&self) -> f64 {
        let &Self { count, total, square_total, .. } = self;
        if count < 2 {
            return 0.0;
        }
        let numerator = count.wrapping_mul(square_total).wrapping_sub(total.wrapping_mul(total));
        numerator.max(0) as f64 / count.wrapping_mul(count.wrapping_sub(1)) as f64
    }

    /// Sample standard deviation.
    #[must_use]
    pub fn std(&self) -> f64 {
        self.variance().sqrt()
    }
}

/// One direction of a flow. All numbers are as the profile defines them.
#[derive(Clone, Copy, Debug)]
pub struct Side {
    /// Packets.
    pub packets: f64,
    /// Payload in bytes.
    pub lengths: Moments,
    /// Gaps between consecutive packets in microseconds.
    pub gaps: Moments,
    /// Packets with PSH.
    pub psh: f64,
    /// Packets with URG.
    pub urg: f64,
    /// Layer 4 header bytes.
    pub header_sum: f64,
    /// Least layer 4 header in bytes.
    pub header_min: f64,
    /// Payload bytes of a bulk.
    pub bulk_bytes: f64,
    /// Packets of a bulk.
    pub bulk_packets: f64,
    /// Payload bytes per second of bulk.
    pub bulk_rate: f64,
}

impl Side {
    /// `first_flags` are those of the flow's first packet if it went this way, otherwise 0.
    fn new(direction: &Direction, first_flags: u8, protocol: u8, profile: Profile) -> Self {
        let d = direction;
        let old = matches!(profile, Profile::Cic2017);
        let (header_sum, header_min) = if old && protocol == UDP {
            let min = if d.header_min == 0 { 0 } else { UDP_HEADER_2017 };
            (f64::from(d.packets) * f64::from(UDP_HEADER_2017), f64::from(min))
        } else {
            (d.header_sum as f64, f64::from(d.header_min))
        };
        // 2017: of the flow's first packet alone.
        let flagged = |all: u32, bit: u8| if old { u32::from(first_flags & bit != 0) } else { all };
        let bulks = f64::from(d.bulks);
        let seconds = d.bulk_duration as f64 / MICROSECONDS;
        let bulk = |total: f64, by: f64| match profile {
            Profile::Fixed if by != 0.0 => total / by,
            Profile::Cns2022 if by != 0.0 => (total / by).trunc(),
            _ => 0.0,
        };
        Self {
            packets: f64::from(d.packets),
            lengths: Moments::lengths(d, old),
            gaps: Moments::gaps(
                d.packets,
                i64::from(d.last).wrapping_sub(i64::from(d.first)),
                d.gap_square_sum,
                d.gap_min,
                d.gap_max,
            ),
            psh: f64::from(flagged(d.psh, TcpFlags::PSH)),
            urg: f64::from(flagged(d.urg, TcpFlags::URG)),
            header_sum,
            header_min,
            bulk_bytes: bulk(d.bulk_bytes as f64, bulks),
            bulk_packets: bulk(f64::from(d.bulk_packets), bulks),
            bulk_rate: bulk(d.bulk_bytes as f64, seconds),
        }
    }
}

/// A finished flow in the terms of a profile.
#[derive(Clone, Copy, Debug)]
pub struct FlowView<'a> {
    state: &'a FlowState,
    profile: Profile,
    /// Port of the flow's destination.
    pub destination_port: f64,
    /// Microseconds from the first packet to the last; negative if packets were out of order.
    pub duration: f64,
    /// Packets of the flow's source.
    pub forward: Side,
    /// Packets of the flow's destination.
    pub backward: Side,
    /// Payload of all packets in bytes.
    pub lengths: Moments,
    /// Gaps between consecutive packets of the flow in microseconds.
    pub gaps: Moments,
    /// Active stretches in microseconds.
    pub active: Moments,
    /// Idle gaps in microseconds.
    pub idle: Moments,
}

impl<'a> FlowView<'a> {
    /// Reads a record the way `profile` does.
    #[must_use]
    pub fn new(record: &'a FlowRecord, profile: Profile) -> Self {
        let state = record.state();
        let protocol = state.key.protocol;
        let (forward_flags, backward_flags) =
            if state.first_backward == 0 { (state.first_flags, 0) } else { (0, state.first_flags) };
        let forward = Side::new(&state.forward, forward_flags, protocol, profile);
        let backward = Side::new(&state.backward, backward_flags, protocol, profile);
        let mut lengths = forward.lengths.join(&backward.lengths);
        if matches!(profile, Profile::Cic2017) {
            let first = f64::from(state.first_padded);
            let length = i128::from(state.first_padded);
            let square = u128::from(state.first_padded) * u128::from(state.first_padded);
            lengths = lengths.join(&Moments::new(1, length, square, first, first));
        }
        let &FlowState { last, gap_min, gap_max, gap_square_sum, .. } = state;
        Self {
            state,
            profile,
            destination_port: f64::from(FlowId::of(record).destination_port),
            duration: f64::from(last),
            forward,
            backward,
            lengths,
            gaps: Moments::gaps(state.packets(), i64::from(last), gap_square_sum, gap_min, gap_max),
            active: Moments::spans(&state.active),
            idle: Moments::spans(&state.idle),
        }
    }

    /// Packets of both directions.
    pub fn packets(&self) -> f64 {
        self.forward.packets + self.backward.packets
    }

    /// Payload of both directions in bytes.
    pub fn bytes(&self) -> f64 {
        self.forward.lengths.sum + self.backward.lengths.sum
    }

    /// `amount` per second of the flow. Without duration `fixed` says -1, the others divide by zero as Java does.
    pub fn rate(&self, amount: f64) -> f64 {
        if self.duration == 0.0 && matches!(self.profile, Profile::Fixed) {
            return -1.0;
        }
        amount / (self.duration / MICROSECONDS)
    }

    /// `packets` of one direction per second of the flow; 0 without duration.
    pub fn side_rate(&self, packets: f64) -> f64 {
        if self.duration > 0.0 { packets / (self.duration / MICROSECONDS) } else { 0.0 }
    }

    /// A statistic of the flow's gaps, which `cns2022` leaves undefined for one packet.
    pub fn flow_gap(&self, value: f64) -> f64 {
        if self.gaps.is_empty() && matches!(self.profile, Profile::Cns2022) { f64::NAN } else { value }
    }

    /// Packets with the flag `bit`. The 2017 tool looks at the first packet alone and had its labels mixed up: it
    /// tests `bit_2017`.
    pub fn flags(&self, bit: u8, bit_2017: u8) -> f64 {
        if matches!(self.profile, Profile::Cic2017) {
            return f64::from(u8::from(self.state.first_flags & bit_2017 != 0));
        }
        let index = bit.trailing_zeros() as usize;
        f64::from(self.state.flag_counts.get(index).copied().unwrap_or(0))
    }

    /// Backward packets over forward packets.
    pub fn down_up(&self) -> f64 {
        if self.forward.packets == 0.0 {
            return 0.0;
        }
        let ratio = self.backward.packets / self.forward.packets;
        if matches!(self.profile, Profile::Cic2017) { ratio.floor() } else { ratio }
    }

    /// `amount` of one direction per subflow, which each tool counts in its own way (`docs/feature-spec.md` section 6).
    pub fn per_subflow(&self, amount: f64) -> f64 {
        match self.profile {
            Profile::Fixed if self.state.long_gaps == 0 => 0.0,
            Profile::Fixed => amount / f64::from(self.state.long_gaps),
            Profile::Cns2022 => (amount / self.packets()).floor(),
            Profile::Cic2017 => amount,
        }
    }

    /// Initial window of the forward direction: the field of the flow's first packet.
    pub fn forward_window(&self) -> f64 {
        if self.state.first_backward != 0 || self.state.key.protocol != TCP {
            return self.no_window();
        }
        f64::from(self.state.first_window)
    }

    /// Initial window of the backward direction.
    pub fn backward_window(&self) -> f64 {
        if self.state.backward.packets == 0 || self.state.key.protocol != TCP {
            return self.no_window();
        }
        match self.profile {
            Profile::Fixed => f64::from(self.state.backward_window_first),
            Profile::Cns2022 | Profile::Cic2017 => f64::from(self.state.backward_window_last),
        }
    }

    fn no_window(&self) -> f64 {
        if matches!(self.profile, Profile::Cic2017) { -1.0 } else { 0.0 }
    }

    /// Forward packets with payload. Only `fixed` counts the flow's first packet.
    pub fn forward_data_packets(&self) -> f64 {
        let &FlowState { ref forward, first_length, first_padded, first_backward, .. } = self.state;
        let first = |length: u32| u32::from(first_backward == 0 && length != 0);
        f64::from(match self.profile {
            Profile::Fixed => forward.data_packets,
            Profile::Cns2022 => forward.data_packets.saturating_sub(first(first_length)),
            Profile::Cic2017 => forward.padded_data_packets.saturating_sub(first(first_padded)),
        })
    }
}
