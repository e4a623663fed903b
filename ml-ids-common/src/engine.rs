//! The flow engine: what a packet does to a flow (`docs/feature-spec.md` sections 3 to 6).
//!
//! It works in two steps so that the kernel can reserve ring buffer space between them without holding the lock:
//! [`FlowState::plan`] decides, [`FlowState::apply`] acts. Offline replay calls both in a row. Nothing here calls a
//! function out of line, divides, or can panic.

use crate::{
    ACTIVITY_LIMIT_US, BULK_GAP_US, Direction, EndReason, FLOW_LIMIT_US, FlowState, Life, Packet, Profile,
    SUBFLOW_GAP_US, Spans, TcpFlags,
};

const TCP: u8 = 6;
const UDP: u8 = 17;
/// Packets that make a bulk.
const BULK_PACKETS: u32 = 4;
const ENDED: u8 = 3;

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

/// What a sweep is to do with a table entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SweepAction {
    /// Nothing yet.
    Keep,
    /// Emit the flow for this reason; the entry stays as [`Life::Emitted`].
    Emit(EndReason),
    /// The flow is over, but the profile does not emit one so short.
    Discard,
    /// Mark the entry [`Life::Dead`] and delete it.
    Delete,
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

    /// What is due at `now_us` without another packet: a terminated flow that has been quiet for `linger_us`, a flow
    /// that has reached its limit, an emitted entry whose memory is no longer needed.
    #[inline(always)]
    #[must_use]
    pub fn sweep(&self, now_us: u64, linger_us: u64, profile: Profile) -> SweepAction {
        let age = now_us.wrapping_sub(self.start_us).cast_signed();
        let quiet = age.wrapping_sub(i64::from(self.last));
        let over = age > FLOW_LIMIT_US;
        if self.life == Life::Vacant as u8 {
            return SweepAction::Delete;
        }
        if self.life == Life::Emitted as u8 {
            return if over && quiet > FLOW_LIMIT_US { SweepAction::Delete } else { SweepAction::Keep };
        }
        if self.life != Life::Open as u8 {
            return SweepAction::Keep;
        }
        let lingered = self.teardown == ENDED && quiet > linger_us.cast_signed();
        if !over && !lingered {
            return SweepAction::Keep;
        }
        if self.packets() < profile.min_packets() {
            return SweepAction::Discard;
        }
        let idle = quiet > i64::from(ACTIVITY_LIMIT_US);
        SweepAction::Emit(if idle { EndReason::Idle } else { EndReason::Timeout })
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
        let is_forward = forward || packet.from_b == source_is_b || packet.key.one_host();
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
        let is_forward = packet.key.one_host() || packet.from_b == (self.source_is_b != 0);
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
        let [fin, syn, rst, psh, ack, urg, ece, cwr] = &mut self.flag_counts;
        let (low, high) = (flag_lanes(flags.0, copies), flag_lanes(flags.0 >> 4, copies));
        *fin = fin.wrapping_add(lane(low, 0));
        *syn = syn.wrapping_add(lane(low, 1));
        *rst = rst.wrapping_add(lane(low, 2));
        *psh = psh.wrapping_add(lane(low, 3));
        *ack = ack.wrapping_add(lane(high, 0));
        *urg = urg.wrapping_add(lane(high, 1));
        *ece = ece.wrapping_add(lane(high, 2));
        *cwr = cwr.wrapping_add(lane(high, 3));
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

impl Direction {
    #[inline(always)]
    fn first_packet(&mut self, packet: &Packet, now: i32) {
        self.first = now;
        self.last = now;
        self.length_min = packet.payload;
        self.length_max = packet.payload;
        self.padded_min = packet.padded_payload;
        self.padded_max = packet.padded_payload;
        self.count(packet);
    }

    #[inline(always)]
    fn next_packet(&mut self, packet: &Packet, now: i32) {
        let gap = now.wrapping_sub(self.last);
        extend(&mut self.gap_min, &mut self.gap_max, gap, self.packets == 1, packet.copies);
        self.gap_square_sum = self.gap_square_sum.wrapping_add(square(gap));
        self.last = now;
        self.length_min = lesser(self.length_min, packet.payload);
        self.length_max = greater(self.length_max, packet.payload);
        self.padded_min = lesser(self.padded_min, packet.padded_payload);
        self.padded_max = greater(self.padded_max, packet.padded_payload);
        self.header_min = lesser(self.header_min, u32::from(packet.header));
        self.count(packet);
    }

    #[inline(always)]
    fn count(&mut self, packet: &Packet) {
        let length = u64::from(packet.payload);
        let padded = u64::from(packet.padded_payload);
        let copies = packet.copies;
        let times = u64::from(copies);
        let all_length = length.wrapping_mul(times);
        let all_padded = padded.wrapping_mul(times);
        self.packets = self.packets.wrapping_add(copies);
        self.length_sum = self.length_sum.wrapping_add(all_length);
        self.length_square_sum = self.length_square_sum.wrapping_add(length.wrapping_mul(all_length));
        self.padded_sum = self.padded_sum.wrapping_add(all_padded);
        self.padded_square_sum = self.padded_square_sum.wrapping_add(padded.wrapping_mul(all_padded));
        self.header_sum = self.header_sum.wrapping_add(u64::from(packet.header).wrapping_mul(times));
        self.psh = self.psh.wrapping_add(lane(flag_lanes(packet.flags.0, copies), 3));
        self.urg = self.urg.wrapping_add(lane(flag_lanes(packet.flags.0 >> 4, copies), 1));
        self.data_packets = self.data_packets.wrapping_add(if length != 0 { copies } else { 0 });
        self.padded_data_packets = self.padded_data_packets.wrapping_add(if padded != 0 { copies } else { 0 });
    }

    /// Feeds the bulk machine of section 6, after the caller has broken a run that the other side interrupted. Copies
    /// follow one another without a gap, so they lengthen a run at once.
    #[inline(always)]
    fn bulk(&mut self, now: i32, payload: u32, copies: u32) {
        if payload == 0 {
            return;
        }
        if self.bulk_start == Self::UNSET || now.wrapping_sub(self.bulk_last) > BULK_GAP_US {
            self.bulk_start = now;
            self.bulk_run_packets = 0;
            self.bulk_run_bytes = 0;
        }
        let before = self.bulk_run_packets;
        let after = before.wrapping_add(copies);
        let bytes = u64::from(payload).wrapping_mul(u64::from(copies));
        if after < BULK_PACKETS {
            self.bulk_run_bytes = self.bulk_run_bytes.wrapping_add(bytes as u32);
        } else if before < BULK_PACKETS {
            self.bulks = self.bulks.wrapping_add(1);
            self.bulk_packets = self.bulk_packets.wrapping_add(after);
            self.bulk_bytes = self.bulk_bytes.wrapping_add(u64::from(self.bulk_run_bytes)).wrapping_add(bytes);
            self.bulk_run_bytes = 0;
            self.bulk_duration = self.bulk_duration.wrapping_add(i64::from(now.wrapping_sub(self.bulk_start)));
        } else {
            self.bulk_packets = self.bulk_packets.wrapping_add(copies);
            self.bulk_bytes = self.bulk_bytes.wrapping_add(bytes);
            self.bulk_duration = self.bulk_duration.wrapping_add(i64::from(now.wrapping_sub(self.bulk_last)));
        }
        self.bulk_run_packets = after;
        self.bulk_last = now;
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

/// The four low flag bits, each times `copies`, in four 16-bit lanes. Bit by bit the compiler makes masks of them, and
/// the verifier follows both values of each: 256 paths through everything that comes after.
#[inline(always)]
fn flag_lanes(flags: u8, copies: u32) -> u64 {
    const SPREAD: u64 = 1 | 1 << 15 | 1 << 30 | 1 << 45;
    const LOWEST: u64 = 1 | 1 << 16 | 1 << 32 | 1 << 48;
    (u64::from(flags & 0xf).wrapping_mul(SPREAD) & LOWEST).wrapping_mul(u64::from(copies))
}

#[inline(always)]
const fn lane(lanes: u64, index: u32) -> u32 {
    (lanes >> (16 * index)) as u32 & 0xffff
}

/// Takes a gap into its least and largest, and the zero gaps between copies.
#[inline(always)]
fn extend(least: &mut i32, largest: &mut i32, gap: i32, first: bool, copies: u32) {
    if first || gap < *least {
        *least = gap;
    }
    if first || gap > *largest {
        *largest = gap;
    }
    if copies > 1 {
        if *least > 0 {
            *least = 0;
        }
        if *largest < 0 {
            *largest = 0;
        }
    }
}

#[inline(always)]
fn square(gap: i32) -> u64 {
    let gap = i64::from(gap);
    gap.wrapping_mul(gap).cast_unsigned()
}

#[inline(always)]
const fn lesser(left: u32, right: u32) -> u32 {
    if right < left { right } else { left }
}

#[inline(always)]
const fn greater(left: u32, right: u32) -> u32 {
    if right > left { right } else { left }
}
