//! What time does to a flow without another packet: when it is due, what a look at it decides, and what it costs to give
//! it up when the table is full.
//!
//! The kernel keeps one word a slot, the time at which the slot needs a look ([`FlowState::next_look_us`]). It is never
//! later than what [`FlowState::sweep`] acts on; a look that comes too early moves it.

use crate::{ACTIVITY_LIMIT_US, EndReason, FLOW_LIMIT_US, FlowState, Life, Profile, engine::ENDED};

/// What a look at a slot is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SweepAction {
    /// Nothing yet.
    Keep,
    /// Emit the flow for this reason; the entry stays as [`Life::Emitted`].
    Emit(EndReason),
    /// The flow is over, but the profile does not emit one so short.
    Discard,
    /// Nothing is left to remember: free the slot.
    Free,
    /// The table is nearly full: end the flow early and free the slot.
    Evict,
}

/// How long the sweep waits for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Patience {
    /// As the profile says.
    Normal = 0,
    /// The table is nearly full: ended entries are freed at once, flows that nobody answers and flows that are quiet end
    /// early.
    Pressed = 1,
    /// Free everything, whatever it is: the table is about to be given up.
    None = 2,
}

/// Slots of one [`SweepFrame`]; a power of two.
pub const SWEEP_SLOTS: usize = 512;

/// What the agent hands to the kernel's sweep, as the bytes of a test frame: the slots to look at, one a run.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct SweepFrame {
    /// Index of the next slot. Each run moves it on.
    pub position: u32,
    /// [`Patience`] as its number.
    pub patience: u32,
    /// The slots.
    pub slots: [u32; SWEEP_SLOTS],
}

/// A flow that nobody answers is given up this long after its start when the table is nearly full, in microseconds.
pub const PRESSED_UNANSWERED_US: i64 = 2_000_000;
/// A flow that has been quiet this long is given up when the table is nearly full, in microseconds.
pub const PRESSED_QUIET_US: i64 = 15_000_000;

/// What is lost with a flow, in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Cost {
    /// The flow has been emitted already; the entry only remembers it.
    Nothing = 0,
    /// One packet that nobody has answered.
    Probe = 1,
    /// Up to three packets that nobody has answered.
    Unanswered = 2,
    /// A conversation, or a stream. Never given up for a new flow. Also what is no flow at all.
    Established = 3,
}

/// Most packets of a flow that counts as [`Cost::Unanswered`].
const UNANSWERED_PACKETS: u32 = 3;

impl FlowState {
    /// What is due at `now_us` without another packet: a terminated flow that has been quiet for `linger_us`, a flow
    /// that has reached its limit, an entry whose memory is no longer needed.
    #[inline(always)]
    #[must_use]
    pub fn sweep(&self, now_us: u64, linger_us: u64, profile: Profile) -> SweepAction {
        let (age, quiet) = self.age(now_us);
        let over = age > FLOW_LIMIT_US;
        if self.life == Life::Vacant as u8 {
            return SweepAction::Free;
        }
        if self.life == Life::Emitted as u8 {
            return if over && quiet > FLOW_LIMIT_US { SweepAction::Free } else { SweepAction::Keep };
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

    /// The same with less patience.
    #[inline(always)]
    #[must_use]
    pub fn sweep_with(&self, patience: Patience, now_us: u64, linger_us: u64, profile: Profile) -> SweepAction {
        let action = self.sweep(now_us, linger_us, profile);
        match patience {
            Patience::Normal => action,
            Patience::None => SweepAction::Free,
            Patience::Pressed if !matches!(action, SweepAction::Keep) => action,
            Patience::Pressed if self.life == Life::Emitted as u8 => SweepAction::Free,
            Patience::Pressed => {
                let (age, quiet) = self.age(now_us);
                let unanswered = self.cost() < Cost::Established as u8 && age > PRESSED_UNANSWERED_US;
                if unanswered || quiet > PRESSED_QUIET_US { SweepAction::Evict } else { SweepAction::Keep }
            }
        }
    }

    /// When the next look is due, in microseconds. Never 0 for a live entry, which stands for "no look needed".
    #[inline(always)]
    #[must_use]
    pub fn next_look_us(&self, linger_us: u64) -> u64 {
        let limit = self.start_us.wrapping_add(FLOW_LIMIT_US.cast_unsigned());
        let last = self.start_us.wrapping_add_signed(i64::from(self.last));
        let due = if self.life == Life::Emitted as u8 {
            let forgotten = last.wrapping_add(FLOW_LIMIT_US.cast_unsigned());
            if self.last > 0 { forgotten } else { limit }
        } else {
            let lingered = last.wrapping_add(linger_us);
            if self.teardown == ENDED && lingered < limit { lingered } else { limit }
        };
        due.wrapping_add(1)
    }

    /// The [`Cost`] of giving this entry up, as its number.
    #[inline(always)]
    #[must_use]
    pub fn cost(&self) -> u8 {
        if self.life == Life::Emitted as u8 {
            return Cost::Nothing as u8;
        }
        let answered = self.forward.packets != 0 && self.backward.packets != 0;
        if self.life != Life::Open as u8 || answered || self.packets() > UNANSWERED_PACKETS {
            return Cost::Established as u8;
        }
        if self.packets() == 1 { Cost::Probe as u8 } else { Cost::Unanswered as u8 }
    }

    /// Microseconds since the first and since the last packet.
    #[inline(always)]
    fn age(&self, now_us: u64) -> (i64, i64) {
        let age = now_us.wrapping_sub(self.start_us).cast_signed();
        (age, age.wrapping_sub(i64::from(self.last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: u64 = 1_000_000;
    const START: u64 = 5_000_000_000;

    fn flow(life: Life, last: i32, teardown: u8) -> FlowState {
        let mut state = FlowState { start_us: START, life: life as u8, last, teardown, ..FlowState::default() };
        state.forward.packets = 2;
        state.backward.packets = 1;
        state
    }

    #[test]
    fn a_look_is_due_exactly_when_it_has_something_to_do() {
        let states = [
            flow(Life::Open, 0, 0),
            flow(Life::Open, 119_000_000, 0),
            flow(Life::Open, 3_000_000, ENDED),
            flow(Life::Open, 119_900_000, ENDED),
            flow(Life::Open, -5, 0),
            flow(Life::Emitted, 0, ENDED),
            flow(Life::Emitted, 7_000_000, ENDED),
            flow(Life::Emitted, -9, 0),
        ];
        for state in states {
            let due = state.next_look_us(LINGER);
            assert_ne!(state.sweep(due, LINGER, Profile::Fixed), SweepAction::Keep, "{state:?}");
            assert_eq!(state.sweep(due - 10, LINGER, Profile::Fixed), SweepAction::Keep, "{state:?}");
        }
    }

    #[test]
    fn conversations_are_the_dearest_and_what_is_remembered_costs_nothing() {
        let mut state = flow(Life::Open, 0, 0);
        assert_eq!(state.cost(), Cost::Established as u8);
        state.backward.packets = 0;
        assert_eq!(state.cost(), Cost::Unanswered as u8);
        state.forward.packets = 4;
        assert_eq!(state.cost(), Cost::Established as u8, "a stream in one direction");
        state.forward.packets = 1;
        assert_eq!(state.cost(), Cost::Probe as u8);
        state.life = Life::Emitted as u8;
        assert_eq!(state.cost(), Cost::Nothing as u8);
    }

    #[test]
    fn under_pressure_probes_and_quiet_flows_go_and_busy_conversations_stay() {
        let look =
            |state: &FlowState, after: u64| state.sweep_with(Patience::Pressed, START + after, LINGER, Profile::Fixed);
        let busy = flow(Life::Open, 20_000_000, 0);
        assert_eq!(look(&busy, 30_000_000), SweepAction::Keep);
        assert_eq!(look(&busy, 36_000_000), SweepAction::Evict, "quiet for 16 s");
        let mut probe = flow(Life::Open, 0, 0);
        (probe.forward.packets, probe.backward.packets) = (1, 0);
        assert_eq!(look(&probe, 1_000_000), SweepAction::Keep, "an answer may still come");
        assert_eq!(look(&probe, 2_000_001), SweepAction::Evict);
        assert_eq!(look(&flow(Life::Emitted, 0, ENDED), 5), SweepAction::Free);
        assert_eq!(look(&flow(Life::Open, 0, ENDED), 1_000_001), SweepAction::Emit(EndReason::Timeout));
    }
}
