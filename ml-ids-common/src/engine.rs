//! The flow engine: what a packet does to a flow (`docs/feature-spec.md` sections 3 to 6).
//!
//! It works in two steps so that the kernel can reserve ring buffer space between them without holding the lock:
//! [`FlowState::plan`] decides, [`FlowState::apply`] acts. Offline replay calls both in a row. Nothing here calls a
//! function out of line, divides, or can panic.

use crate::{
    ACTIVITY_LIMIT_US, Direction, EndReason, FLOW_LIMIT_US, FlowState, Life, Packet, Profile, SUBFLOW_GAP_US, Spans,
    TcpFlags,
    direction::{extend, flag_pair, square},
};

const TCP: u8 = 6;
const UDP: u8 = 17;
/// Teardown of a flow that both sides have ended.
pub(crate) const ENDED: u8 = 3;

/// What a packet is going to do to the flow that its key found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing is there: open a flow whose source is end point b if `source_is_b`.
    Open {
        /// Orientation of the new flow.
        source_is_b: bool,
    },
    /// Count the packet into the flow.
    Add,
    /// Count the packet into the flow, which ends with it and is to be emitted (2017: a FIN closes at once).
    AddAndEnd,
    /// The flow has ended and is to be emitted; then the packet opens the next one.
    EndAndOpen {
        /// Orientation of the new flow.
        source_is_b: bool,
        /// Count the new flow's first packet as forward whichever way it went (2017 continuations).
        forward: bool,
    },
    /// As [`Plan::EndAndOpen`], but there is nothing to emit: it has been already, or is too short for the profile.
    Reopen {
        /// Orientation of the new flow.
        source_is_b: bool,
        /// Count the new flow's first packet as forward whichever way it went (2017 continuations).
        forward: bool,
    },
    /// The flow has ended and was emitted; the packet is counted as late and changes nothing.
    Late,
}

impl Plan {
    /// True when the current state must be emitted (before [`Plan::EndAndOpen`] or after [`Plan::AddAndEnd`] applies).
    #[inline(always)]
    #[must_use]
    pub const fn emits(self) -> bool {
        matches!(self, Self::AddAndEnd | Self::EndAndOpen { .. })
    }
}

impl FlowState {
    /// Decides what `packet` at `now_us` does. `now_us` has the same epoch as the flow's start.
    #[inline(always)]
    #[must_use]
    pub fn plan(&self, packet: &Packet, now_us: u64, profile: Profile) -> Plan {
        let flags = packet.flags;
        if self.life == Life::Vacant as u8 {
            let answered = matches!(profile, Profile::Fixed) && flags.all(TcpFlags::SYN | TcpFlags::ACK);
            return Plan::Open { source_is_b: packet.from_b != answered };
        }
        let age = now_us.wrapping_sub(self.start_us).cast_signed();
        let over = age > FLOW_LIMIT_US;
        let emitted = self.life != Life::Open as u8;
        let reuse = !matches!(profile, Profile::Cic2017) && self.teardown == ENDED && flags.any(TcpFlags::SYN);
        if over || reuse {
            let (source_is_b, forward) = self.next_source(packet, age, reuse, profile);
            let short = self.packets() < profile.min_packets();
            return if emitted || short {
                Plan::Reopen { source_is_b, forward }
            } else {
                Plan::EndAndOpen { source_is_b, forward }
            };
        }
        if emitted {
            return Plan::Late;
        }
        if matches!(profile, Profile::Cic2017) && flags.any(TcpFlags::FIN) {
            return Plan::AddAndEnd;
        }
        Plan::Add
    }

    /// Orientation of the flow that follows this one: is its source end point b, and is its first packet forward
    /// regardless. A new conversation takes it from the packet, a continuation keeps the old one.
    #[inline(always)]
    fn next_source(&self, packet: &Packet, age: i64, reuse: bool, profile: Profile) -> (bool, bool) {
        let flags = packet.flags;
        let protocol = packet.key.protocol;
        let kept = self.source_is_b != 0;
        match profile {
            Profile::Fixed => {
                let silent = age.wrapping_sub(i64::from(self.last)) > FLOW_LIMIT_US;
                let new = reuse || (protocol == UDP && silent) || (protocol != TCP && protocol != UDP);
                let answered = flags.all(TcpFlags::SYN | TcpFlags::ACK);
                (if new { packet.from_b != answered } else { kept }, false)
            }
            Profile::Cns2022 => {
                let new = (reuse && !flags.any(TcpFlags::ACK)) || protocol != TCP;
                (if new { packet.from_b } else { kept }, false)
            }
            Profile::Cic2017 => (kept, true),
        }
    }

    /// Carries out a plan made for this very state. After [`Plan::AddAndEnd`] the state is the finished flow: copy it
    /// out, then call [`FlowState::vacate`]. Before [`Plan::EndAndOpen`] call [`FlowState::finish`] and copy it out.
    #[inline(always)]
    pub fn apply(&mut self, plan: Plan, packet: &Packet, now_us: u64, interface: u32, profile: Profile) {
        match plan {
            Plan::Open { source_is_b } => self.open(packet, now_us, interface, source_is_b, false, profile),
            Plan::EndAndOpen { source_is_b, forward } | Plan::Reopen { source_is_b, forward } => {
                self.open(packet, now_us, interface, source_is_b, forward, profile);
            }
            Plan::Add => self.add(packet, now_us, false, profile),
            Plan::AddAndEnd => {
                self.add(packet, now_us, true, profile);
                self.reason = EndReason::Fin as u8;
            }
            Plan::Late => {}
        }
    }

    /// Marks why the flow ended, unless its teardown has already said so.
    #[inline(always)]
    pub fn finish(&mut self, reason: EndReason) {
        if self.reason == EndReason::None as u8 {
            self.reason = reason as u8;
        }
    }

    /// Leaves an entry without a flow, ready to be opened again.
    #[inline(always)]
    pub fn vacate(&mut self) {
        self.life = Life::Vacant as u8;
    }

    #[inline(always)]
    fn open(
        &mut self,
        packet: &Packet,
        now_us: u64,
        interface: u32,
        source_is_b: bool,
        forward: bool,
        profile: Profile,
    ) {
        self.clear();
        self.key = packet.key;
        self.start_us = now_us;
        self.life = Life::Open as u8;
        self.source_is_b = u8::from(source_is_b);
        self.interface = interface;
        self.forward.bulk_start = Direction::UNSET;
        self.forward.bulk_last = Direction::UNSET;
        self.backward.bulk_start = Direction::UNSET;
        self.backward.bulk_last = Direction::UNSET;
        let is_forward = forward || packet.from_b == source_is_b || packet.one_host;
        self.first_backward = u8::from(!is_forward);
        self.first_length = packet.payload;
        self.first_padded = packet.padded_payload;
        self.first_window = packet.window;
        self.first_flags = packet.flags.0;
        self.count_flags(packet.flags, packet.copies);
        let direction = if is_forward { &mut self.forward } else { &mut self.backward };
        direction.first_packet(packet, 0);
        direction.header_min = u32::from(packet.header);
        // The 2022 fork did not count a FIN on a flow's first packet towards termination.
        if matches!(profile, Profile::Fixed) {
            direction.fin = u32::from(packet.flags.any(TcpFlags::FIN));
        }
        direction.bulk(0, packet.payload, packet.copies);
        if !is_forward {
            self.backward_window_first = packet.window;
            self.backward_window_last = packet.window;
        }
    }

    /// `closing`: the packet is the FIN that closes a 2017 flow, which skips the activity update.
    #[inline(always)]
    fn add(&mut self, packet: &Packet, now_us: u64, closing: bool, profile: Profile) {
        let now = self.offset(now_us);
        let gap = now.wrapping_sub(self.last);
        if !closing {
            self.activity(now, gap);
        }
        let is_forward = packet.one_host || packet.from_b == (self.source_is_b != 0);
        self.count_flags(packet.flags, packet.copies);
        self.gap(gap, packet.copies);
        if !is_forward {
            self.backward_window_last = packet.window;
            if self.backward_window_first == 0 {
                self.backward_window_first = packet.window;
            }
        }
        let other_bulk_last = if is_forward { self.backward.bulk_last } else { self.forward.bulk_last };
        let direction = if is_forward { &mut self.forward } else { &mut self.backward };
        if other_bulk_last > direction.bulk_start {
            direction.bulk_start = Direction::UNSET;
        }
        direction.bulk(now, packet.payload, packet.copies);
        if direction.packets == 0 {
            direction.first_packet(packet, now);
        } else {
            direction.next_packet(packet, now);
        }
        direction.fin = direction.fin.wrapping_add(u32::from(packet.flags.any(TcpFlags::FIN)));
        self.last = now;
        if !matches!(profile, Profile::Cic2017) {
            self.teardown(packet.flags);
        }
    }

    /// Microseconds since the flow's start. At most [`FLOW_LIMIT_US`] by the plan; a packet from before the start is
    /// taken as at most that much earlier, so that no sum can overflow.
    #[inline(always)]
    fn offset(&self, now_us: u64) -> i32 {
        let age = now_us.wrapping_sub(self.start_us).cast_signed();
        if age < -FLOW_LIMIT_US { -(FLOW_LIMIT_US as i32) } else { age as i32 }
    }

    #[inline(always)]
    fn count_flags(&mut self, flags: TcpFlags, copies: u32) {
        // Two counters a word: half the loads and stores. A low one would have to pass 2^32 packets to reach its neighbour.
        let pairs: *mut [u64; 4] = (&raw mut self.flag_counts).cast();
        // SAFETY: eight `u32` are four `u64`, the field is aligned to eight bytes (asserted below), and it is ours.
        let pairs = unsafe { &mut *pairs };
        for (index, pair) in (0u8..).step_by(2).zip(pairs) {
            *pair = pair.wrapping_add(flag_pair(flags.0 >> index, copies));
        }
    }

    #[inline(always)]
    fn gap(&mut self, gap: i32, copies: u32) {
        let first = self.packets() == 1;
        extend(&mut self.gap_min, &mut self.gap_max, gap, first, copies);
        self.gap_square_sum = self.gap_square_sum.wrapping_add(square(gap));
        self.long_gaps = self.long_gaps.wrapping_add(u32::from(gap > SUBFLOW_GAP_US));
        self.disordered = self.disordered.wrapping_add(u32::from(gap < 0));
    }

    #[inline(always)]
    fn activity(&mut self, now: i32, gap: i32) {
        if gap > ACTIVITY_LIMIT_US {
            let active = self.last.wrapping_sub(self.active_start);
            if active > 0 {
                self.active.add(active.cast_unsigned());
            }
            self.idle.add(gap.cast_unsigned());
            self.active_start = now;
        }
    }

    #[inline(always)]
    fn teardown(&mut self, flags: TcpFlags) {
        if flags.any(TcpFlags::FIN) {
            if self.teardown == 0 {
                self.teardown = 1;
            } else if self.teardown == 1 && self.forward.fin != 0 && self.backward.fin != 0 {
                self.teardown = 2;
            }
        } else if flags.any(TcpFlags::RST) {
            self.teardown = ENDED;
            self.finish(EndReason::Rst);
        } else if flags.any(TcpFlags::ACK) && self.teardown == 2 {
            self.teardown = ENDED;
            self.finish(EndReason::Fin);
        }
    }
}

impl Spans {
    #[inline(always)]
    fn add(&mut self, span: u32) {
        if self.count == 0 || span < self.min {
            self.min = span;
        }
        if span > self.max {
            self.max = span;
        }
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(u64::from(span));
        self.square_sum = self.square_sum.wrapping_add(u64::from(span).wrapping_mul(u64::from(span)));
    }
}
