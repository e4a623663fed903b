//! Whether a hook sees what its interface counts, and what to do when it does not.
//!
//! An attachment that succeeded is no proof: programs of others may end the chain before ours, and drivers and kernels have
//! been seen to report success and never run the program. So the hook's own count is held against the interface's. This
//! is the judgement alone; `watch` reads the counters and moves the hooks.

use super::hook::{Order, Place};

/// Packets of the interface that make a window. Fewer prove nothing: some are counted that no hook is shown.
const WINDOW_PACKETS: u64 = 16;
/// Windows in a row in which the hook saw nothing. One would not do: cards that report their counters late add the end of a
/// burst to a window in which the hook rightly saw nothing.
const SILENT_WINDOWS: u8 = 2;

/// Packets so far, by the interface's own count and by the hook's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) interface: u64,
    pub(super) hook: u64,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing.
    Stay,
    /// The hook is blind: attach at this place of the chain instead.
    Move(usize),
    /// The hook is blind and the chain at its end. Said once.
    GiveUp,
    /// A hook that was blind, or the one that replaced it, sees packets.
    Recovered,
}

/// The judgement of one direction of one interface.
#[derive(Clone, Debug)]
pub(super) struct Trust {
    chain: &'static [Place],
    at: usize,
    /// Where the current window began.
    window: Option<Totals>,
    silent: u8,
    /// Has seen packets since it was attached at this place.
    proven: bool,
    blind: bool,
    given_up: bool,
}

impl Trust {
    /// Of a hook that was just attached at a place of its chain.
    pub(super) const fn new(chain: &'static [Place], at: usize) -> Self {
        Self { chain, at, window: None, silent: 0, proven: false, blind: false, given_up: false }
    }

    /// Whether packets pass that the hook does not see.
    pub(super) const fn is_blind(&self) -> bool {
        self.blind
    }

    /// The place of the chain at which the hook is attached.
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// The hook was attached anew. It stays under suspicion until it sees a packet.
    pub(super) const fn moved(&mut self, at: usize) {
        let Self { chain: _, at: place, window, silent, proven, blind: _, given_up } = self;
        (*place, *window, *silent, *proven, *given_up) = (at, None, 0, false, false);
    }

    /// Nothing further down the chain can be attached.
    pub(super) fn exhaust(&mut self) {
        self.chain = self.chain.get(..=self.at).unwrap_or(self.chain);
    }

    /// Judges the counters of now.
    pub(super) fn observe(&mut self, now: Totals) -> Decision {
        let Some(begun) = self.window else {
            self.window = Some(now);
            return Decision::Stay;
        };
        // A driver that was reset counts from 0 again.
        let passed = now.interface.checked_sub(begun.interface);
        if now.hook != begun.hook {
            (self.window, self.silent, self.proven, self.given_up) = (Some(now), 0, true, false);
            return if std::mem::take(&mut self.blind) { Decision::Recovered } else { Decision::Stay };
        }
        match passed {
            Some(packets) if packets < WINDOW_PACKETS => Decision::Stay,
            None => {
                (self.window, self.silent) = (Some(now), 0);
                Decision::Stay
            }
            Some(_) => {
                (self.window, self.silent) = (Some(now), self.silent + 1);
                if self.silent < SILENT_WINDOWS {
                    return Decision::Stay;
                }
                self.silent = 0;
                self.blind = true;
                match self.next() {
                    Some(place) => Decision::Move(place),
                    None if std::mem::replace(&mut self.given_up, true) => Decision::Stay,
                    None => Decision::GiveUp,
                }
            }
        }
    }

    fn next(&self) -> Option<usize> {
        // Somebody has put himself before ours: to the front again.
        if self.proven && self.chain.get(self.at) == Some(&Place::Tcx(Order::First)) {
            return Some(self.at);
        }
        let next = self.at + 1;
        (next < self.chain.len()).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAIN: &[Place] = &[Place::Tcx(Order::Last), Place::Tcx(Order::First), Place::Clsact(Order::First)];

    /// Feeds increments of (interface, hook) and returns every decision; moves are carried out.
    fn decisions(trust: &mut Trust, steps: &[(u64, u64)]) -> Vec<Decision> {
        let mut totals = Totals { interface: 1_000, hook: 500 };
        let mut made = vec![trust.observe(totals)];
        for (interface, hook) in steps {
            totals = Totals { interface: totals.interface + interface, hook: totals.hook + hook };
            let decision = trust.observe(totals);
            made.push(decision);
            if let Decision::Move(place) = decision {
                trust.moved(place);
                trust.observe(totals);
            }
        }
        made.split_off(1)
    }

    #[test]
    fn observations_lead_to_decisions() {
        use Decision::{GiveUp, Move, Recovered, Stay};
        type Case = (&'static str, usize, &'static [(u64, u64)], &'static [Decision], bool);
        let cases: &[Case] = &[
            ("nothing passes", 0, &[(0, 0), (0, 0), (0, 0)], &[Stay, Stay, Stay], false),
            ("the hook sees what passes", 0, &[(100, 100), (100, 90)], &[Stay, Stay], false),
            ("segments make the hook count more", 0, &[(10, 440), (10, 440)], &[Stay, Stay], false),
            ("a late interface counter", 0, &[(0, 100), (100, 0), (0, 0), (0, 0)], &[Stay, Stay, Stay, Stay], false),
            ("two windows of silence", 0, &[(16, 0), (16, 0)], &[Stay, Move(1)], true),
            (
                "a window is 16 packets, however long",
                0,
                &[(8, 0), (8, 0), (15, 0), (1, 0)],
                &[Stay, Stay, Stay, Move(1)],
                true,
            ),
            ("few packets prove nothing", 0, &[(15, 0), (0, 0), (16, 0)], &[Stay, Stay, Stay], false),
            ("a packet in between is enough", 0, &[(50, 0), (50, 1), (50, 0)], &[Stay, Stay, Stay], false),
            (
                "the next place sees",
                0,
                &[(50, 0), (50, 0), (50, 50), (50, 50)],
                &[Stay, Move(1), Recovered, Stay],
                false,
            ),
            (
                "the next place is blind, too",
                0,
                &[(50, 0), (50, 0), (50, 0), (50, 0)],
                &[Stay, Move(1), Stay, Move(2)],
                true,
            ),
            ("the end of the chain", 2, &[(50, 0), (50, 0), (50, 0), (50, 0)], &[Stay, GiveUp, Stay, Stay], true),
            ("sight comes back at the end", 2, &[(50, 0), (50, 0), (50, 1)], &[Stay, GiveUp, Recovered], false),
            (
                "overtaken at the front",
                1,
                &[(50, 50), (50, 0), (50, 0), (50, 9)],
                &[Stay, Stay, Move(1), Recovered],
                false,
            ),
            (
                "the front is no better",
                1,
                &[(50, 50), (50, 0), (50, 0), (50, 0), (50, 0)],
                &[Stay, Stay, Move(1), Stay, Move(2)],
                true,
            ),
        ];
        for (name, at, steps, expected, blind) in cases {
            let mut trust = Trust::new(CHAIN, *at);
            assert_eq!(decisions(&mut trust, steps), *expected, "{name}");
            assert_eq!(trust.is_blind(), *blind, "{name}");
        }
    }

    #[test]
    fn a_chain_that_cannot_be_attached_further_down_ends_where_it_is() {
        let mut trust = Trust::new(CHAIN, 0);
        trust.exhaust();
        let steps = [(50, 0), (50, 0), (50, 0), (50, 0)];
        let expected = [Decision::Stay, Decision::GiveUp, Decision::Stay, Decision::Stay];
        assert_eq!(decisions(&mut trust, &steps), expected);
    }

    #[test]
    fn an_interface_that_counts_from_0_again_begins_a_new_window() {
        let mut trust = Trust::new(CHAIN, 0);
        for interface in [1_000, 1_020, 5, 15, 20] {
            assert_eq!(trust.observe(Totals { interface, hook: 7 }), Decision::Stay, "{interface}");
        }
        assert!(!trust.is_blind());
    }
}
