//! Totals of a sensor at one moment, and what has come in between two of them.

use std::collections::BTreeMap;

use crate::{
    api::health::{HookPackets, PacketBooks, SensorSnapshot},
    model::BENIGN,
};

/// Running totals of a sensor. All but [`Self::open_flows`] only ever grow, as long as it is the same sensor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets that came by the hooks.
    pub packets: u64,
    /// Their bytes on the wire.
    pub bytes: u64,
    /// Packets of these that are in no flow.
    pub skipped: u64,
    /// Flows judged.
    pub flows: u64,
    /// Flows that are open now.
    pub open_flows: u64,
    /// Alerts opened.
    pub alerts: u64,
    /// Flows of these whose verdict did not pass its threshold.
    pub benign: u64,
    /// Flows whose verdict did, by class.
    pub classes: BTreeMap<String, u64>,
}

/// What a stretch of time has brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Growth {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) skipped: u64,
    pub(super) flows: u64,
    /// Open at its end.
    pub(super) open_flows: u64,
    pub(super) alerts: u64,
    /// Verdicts by class; only those that there were.
    pub(super) verdicts: Vec<(String, u64)>,
}

impl Totals {
    /// The totals in a snapshot.
    #[must_use]
    pub fn of(sensor: &SensorSnapshot) -> Self {
        let SensorSnapshot { packets: PacketBooks { ingress, egress }, flows, verdicts, measures, .. } = sensor;
        let sum = |of: fn(&HookPackets) -> u64| of(ingress).saturating_add(of(egress));
        Self {
            packets: sum(|hook| hook.seen),
            bytes: sum(|hook| hook.seen_bytes),
            skipped: sum(|hook| hook.skipped.values().sum()),
            flows: verdicts.scored,
            open_flows: flows.live,
            alerts: measures.alerts.iter().map(|kind| kind.opened).sum(),
            benign: verdicts.scored.saturating_sub(verdicts.alerts).saturating_sub(verdicts.allowed),
            classes: measures.alert_classes.clone(),
        }
    }

    /// What has come since then; `None` if a total has gone back, so that it is another sensor's or counts from anew.
    pub(super) fn since(&self, before: &Self) -> Option<Growth> {
        let Self { packets, bytes, skipped, flows, open_flows, alerts, benign, classes } = self;
        let mut verdicts = Vec::new();
        let known = before.classes.iter().all(|(class, _)| classes.contains_key(class));
        if !known {
            return None;
        }
        // The number of benign verdicts is a difference of counters that are not read at once: it may step back by a few.
        let benign = benign.saturating_sub(before.benign);
        if benign > 0 {
            verdicts.push((BENIGN.to_owned(), benign));
        }
        for (class, count) in classes {
            let count = count.checked_sub(before.classes.get(class).copied().unwrap_or(0))?;
            if count > 0 {
                verdicts.push((class.clone(), count));
            }
        }
        Some(Growth {
            packets: packets.checked_sub(before.packets)?,
            bytes: bytes.checked_sub(before.bytes)?,
            skipped: skipped.checked_sub(before.skipped)?,
            flows: flows.checked_sub(before.flows)?,
            open_flows: *open_flows,
            alerts: alerts.checked_sub(before.alerts)?,
            verdicts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{OpenedAlerts, VerdictCounts};

    fn classes(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
        counts.iter().map(|(class, count)| ((*class).to_owned(), *count)).collect()
    }

    #[test]
    fn a_snapshot_of_both_hooks_is_summed() {
        let hook = |seen, skipped| HookPackets {
            seen,
            seen_bytes: seen * 100,
            in_flow: seen - skipped,
            skipped: BTreeMap::from([("not_ip", skipped), ("race", 0)]),
        };
        let mut sensor = SensorSnapshot {
            packets: PacketBooks { ingress: hook(10, 2), egress: hook(5, 1) },
            verdicts: VerdictCounts { scored: 9, alerts: 3, allowed: 1, dropped: 0 },
            ..SensorSnapshot::default()
        };
        sensor.flows.live = 4;
        sensor.measures.alert_classes = classes(&[("Bot", 3)]);
        sensor.measures.alerts = vec![OpenedAlerts { class: "Bot".to_owned(), severity: "high", opened: 2 }];
        let expected = Totals {
            packets: 15,
            bytes: 1500,
            skipped: 3,
            flows: 9,
            open_flows: 4,
            alerts: 2,
            benign: 5,
            classes: classes(&[("Bot", 3)]),
        };
        assert_eq!(Totals::of(&sensor), expected);
    }

    #[test]
    fn growth_is_what_came_in_between_and_names_only_classes_that_occurred() {
        let before =
            Totals { packets: 10, benign: 4, classes: classes(&[("Bot", 1), ("DoS", 1)]), ..Totals::default() };
        let classes = classes(&[("Bot", 1), ("DoS", 3), ("Web", 1)]);
        let after = Totals { packets: 15, benign: 6, open_flows: 7, classes, ..Totals::default() };
        let grown = after.since(&before).unwrap();
        assert_eq!((grown.packets, grown.open_flows), (5, 7));
        let verdicts = [("BENIGN", 2), ("DoS", 2), ("Web", 1)].map(|(class, count)| (class.to_owned(), count));
        assert_eq!(grown.verdicts, verdicts);
        assert_eq!(after.since(&after).unwrap().verdicts, []);
    }

    #[test]
    fn totals_that_have_gone_back_are_those_of_another_sensor() {
        let full = Totals { packets: 9, bytes: 9, skipped: 9, flows: 9, open_flows: 9, alerts: 9, ..Totals::default() };
        let full = Totals { classes: classes(&[("Bot", 9)]), ..full };
        let anew: [fn(&mut Totals); 7] = [
            |totals| totals.packets = 0,
            |totals| totals.bytes = 8,
            |totals| totals.skipped = 8,
            |totals| totals.flows = 8,
            |totals| totals.alerts = 8,
            |totals| totals.classes = classes(&[("Bot", 8)]),
            |totals| totals.classes = classes(&[]),
        ];
        for change in anew {
            let mut totals = full.clone();
            change(&mut totals);
            assert_eq!(totals.since(&full), None, "{totals:?}");
        }
        let fewer_open = Totals { open_flows: 0, ..full.clone() };
        assert!(fewer_open.since(&full).is_some());
    }
}
