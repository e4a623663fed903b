//! Many flows, few alerts: joins flows to open alerts, folds alerts that tell one story, closes those that are over.
//!
//! Flows of one class from one source to one target are one alert. When a source would have [`FOLD_AT`] of them on different
//! targets, they become one on many hosts (a sweep); the same for many sources on one target (a distributed flood);
//! and [`FOLD_FOLDS`] of such at once become one of the whole class (the weather of an open network).
//!
//! There is no clock in here: whoever calls says what time it is, so that a replay of a capture gives what the live sensor
//! would have given.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;

use super::{
    class::Severities,
    counts::AlertCounts,
    open::{Group, Key, Open},
    rate::{Budget, MINUTE_US, Overload},
    record::{Alert, AlertChange, ChangeKind, Ending, RATE_LABEL, next_number},
    sighting::Sighting,
};
use crate::sensor::clock::micros;

/// Alerts of one class with a source, or a target, in common from which on they are one.
pub const FOLD_AT: usize = 4;
/// Alerts of one class on many hosts, or from many, from which on they are one.
pub const FOLD_FOLDS: usize = 32;
/// Longest life of an alert.
pub const LONGEST: Duration = Duration::from_secs(3600);
/// Least time between two looks for alerts that are over.
const LOOK_US: u64 = 1_000_000;
/// Class names that are remembered; models have far fewer, but they may be replaced again and again.
const MOST_LABELS: usize = 256;

/// How alerts are made.
#[derive(Clone, Debug)]
pub struct AlertSettings {
    /// An alert is over when no flow has joined it for so long.
    pub window: Duration,
    /// Most open alerts.
    pub max_open: usize,
    /// Most alerts told in a minute; 0 is no limit.
    pub rate: u32,
    /// How grave each class is.
    pub severities: Severities,
}

impl Default for AlertSettings {
    fn default() -> Self {
        Self { window: Duration::from_secs(300), max_open: 1024, rate: 60, severities: Severities::default() }
    }
}

/// The open alerts.
#[derive(Debug)]
pub struct Alerts {
    window_us: u64,
    max_age_us: u64,
    max_open: usize,
    severities: Severities,
    open: HashMap<u64, (Key, Open)>,
    ids: HashMap<Key, u64>,
    /// Those that may become one.
    groups: HashMap<Group, Vec<u64>>,
    /// Those that have been quiet for longest come first.
    quiet: BTreeSet<(u64, u64)>,
    labels: Vec<Arc<str>>,
    budget: Budget,
    overload: Option<Overload>,
    last_number: u64,
    look_us: u64,
    counts: AlertCounts,
}

impl Alerts {
    /// No alerts yet.
    #[must_use]
    pub fn new(settings: AlertSettings) -> Self {
        let AlertSettings { window, max_open, rate, severities } = settings;
        Self {
            window_us: micros(window),
            max_age_us: micros(LONGEST),
            max_open: max_open.max(FOLD_AT),
            severities,
            open: HashMap::new(),
            ids: HashMap::new(),
            groups: HashMap::new(),
            quiet: BTreeSet::new(),
            labels: Vec::new(),
            budget: Budget::new(rate),
            overload: None,
            last_number: 0,
            look_us: 0,
            counts: AlertCounts::default(),
        }
    }

    /// What has been done so far.
    #[must_use]
    pub const fn counts(&self) -> &AlertCounts {
        &self.counts
    }

    /// Numbers alerts beyond those that exist already.
    pub fn number_from(&mut self, last: u64) {
        self.last_number = self.last_number.max(last);
    }

    /// Takes a flow that is an alert; what there is to tell is added to `changes`. `evidence` is the flow's event, asked for
    /// only when it opens an alert.
    pub fn observe(
        &mut self,
        sighting: &Sighting,
        now_us: u64,
        evidence: impl FnOnce() -> Value,
        changes: &mut Vec<AlertChange>,
    ) {
        self.roll(now_us, changes);
        self.counts.flows += 1;
        let label = self.label(&sighting.label);
        while let Some(id) = self.find(&label, sighting) {
            if !self.close_if_over(id, now_us, changes) {
                self.join(id, sighting, now_us, false, changes);
                return;
            }
        }
        match self.fold_for(&label, sighting, now_us, changes) {
            Some(id) => self.join(id, sighting, now_us, true, changes),
            None => self.open(label, sighting, now_us, evidence(), changes),
        }
    }

    /// Lets time pass: closes what is over and tells what has grown. To be called every second or so, and whenever it suits;
    /// it looks at most once a second, and returns whether it did.
    pub fn tick(&mut self, now_us: u64, changes: &mut Vec<AlertChange>) -> bool {
        self.roll(now_us, changes);
        // A clock that was set back is no reason to wait.
        if now_us < self.look_us && self.look_us - now_us <= LOOK_US {
            return false;
        }
        self.look_us = now_us.saturating_add(LOOK_US);
        let mut ids: Vec<u64> = self.open.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            if !self.close_if_over(id, now_us, changes) {
                self.tell_growth(id, now_us, false, changes);
            }
        }
        true
    }

    /// Shows the alerts that have grown without being told, as they are now: for those who ask. Sinks need not know every
    /// flow, but whoever looks wants to see the last one.
    pub fn show_growth(&mut self, mut show: impl FnMut(&Arc<Alert>)) {
        for (key, open) in self.open.values_mut().filter(|(_, open)| open.unseen) {
            open.unseen = false;
            show(&Arc::new(open.snapshot(&key.label, open.seq)));
        }
    }

    /// Closes everything, because nothing more will come.
    pub fn finish(&mut self, now_us: u64, changes: &mut Vec<AlertChange>) {
        let mut ids: Vec<u64> = self.open.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            self.close(id, Ending::Stopped, None, now_us, changes);
        }
        if let Some(overload) = self.overload.take() {
            let seq = self.number(now_us);
            changes.push(overload.change(seq, now_us, ChangeKind::Closed, Some(Ending::Stopped)));
        }
    }

    fn find(&self, label: &Arc<str>, sighting: &Sighting) -> Option<u64> {
        let (source, target) = (Some(sighting.source), Some(sighting.target));
        [(source, target), (source, None), (None, target), (None, None)]
            .into_iter()
            .find_map(|(source, target)| self.ids.get(&Key { label: Arc::clone(label), source, target }).copied())
    }

    fn open(
        &mut self,
        label: Arc<str>,
        sighting: &Sighting,
        now_us: u64,
        evidence: Value,
        changes: &mut Vec<AlertChange>,
    ) {
        if self.open.len() >= self.max_open
            && let Some(&(_, id)) = self.quiet.first()
        {
            self.counts.evicted += 1;
            self.close(id, Ending::Room, None, now_us, changes);
        }
        let (id, severity) = (self.number(now_us), self.severities.of(&label));
        let mut open = Open::new(id, severity, sighting, now_us, evidence);
        open.held_back = !self.budget.open(severity);
        let held_back = open.held_back.then(|| Arc::clone(&open.evidence));
        self.counts.opened(&label, severity);
        changes.push(AlertChange {
            kind: ChangeKind::Opened,
            at_us: now_us,
            alert: Arc::new(open.snapshot(&label, id)),
        });
        let key = Key { label: Arc::clone(&label), source: Some(sighting.source), target: Some(sighting.target) };
        self.insert(key, open);
        if let Some(evidence) = held_back {
            self.hold_back(&label, now_us, evidence, changes);
        }
    }

    fn hold_back(&mut self, label: &str, now_us: u64, evidence: Arc<Value>, changes: &mut Vec<AlertChange>) {
        self.counts.held_back += 1;
        if let Some(overload) = &mut self.overload {
            overload.count(label, now_us);
            return;
        }
        let (seq, severity) = (self.number(now_us), self.severities.of(RATE_LABEL));
        let mut overload = Overload::new(seq, severity, now_us, evidence);
        overload.count(label, now_us);
        changes.push(overload.change(seq, now_us, ChangeKind::Opened, None));
        self.overload = Some(overload);
    }

    fn join(&mut self, id: u64, sighting: &Sighting, now_us: u64, folded: bool, changes: &mut Vec<AlertChange>) {
        let Some((_, open)) = self.open.get_mut(&id) else { return };
        if open.touched_us != now_us {
            self.quiet.remove(&(open.touched_us, id));
            self.quiet.insert((now_us, id));
        }
        open.join(sighting, now_us);
        // A fold is another story, which is told at once.
        self.tell_growth(id, now_us, folded, changes);
    }

    /// Tells how an alert has grown if it is time, or in any case.
    fn tell_growth(&mut self, id: u64, now_us: u64, in_any_case: bool, changes: &mut Vec<AlertChange>) {
        let Some((key, open)) = self.open.get_mut(&id) else { return };
        let due = in_any_case || open.passed_a_power() || now_us.saturating_sub(open.told_us) >= MINUTE_US;
        if !(open.grown && due) {
            return;
        }
        let mut kind = ChangeKind::Grown;
        if open.held_back {
            // There may be room for it by now. If not, only the store hears of it.
            if self.budget.open(open.severity) {
                open.held_back = false;
                self.counts.told_late += 1;
                kind = ChangeKind::Opened;
            }
        } else if !self.budget.grow() {
            // Told in a later minute, with what has come by then.
            return;
        }
        self.last_number = next_number(self.last_number, now_us);
        open.told(now_us, self.last_number);
        let alert = Arc::new(open.snapshot(&key.label, self.last_number));
        self.counts.grown += u64::from(kind == ChangeKind::Grown && !alert.held_back);
        changes.push(AlertChange { kind, at_us: now_us, alert });
    }

    /// The alert that this flow makes of several, if it is one too many.
    fn fold_for(
        &mut self,
        label: &Arc<str>,
        sighting: &Sighting,
        now_us: u64,
        changes: &mut Vec<AlertChange>,
    ) -> Option<u64> {
        let (source, target) = (sighting.source, sighting.target);
        let sides = [
            (Group::Source(Arc::clone(label), source), Some(source), None),
            (Group::Target(Arc::clone(label), target), None, Some(target)),
        ];
        for (group, source, target) in sides {
            let members = self.living(&group, now_us, changes);
            if members.len() + 1 >= FOLD_AT {
                let id = self.fold(&members, Key { label: Arc::clone(label), source, target }, now_us, changes)?;
                let folds = self.living(&Group::Folds(Arc::clone(label)), now_us, changes);
                if folds.len() < FOLD_FOLDS {
                    return Some(id);
                }
                let all = Key { label: Arc::clone(label), source: None, target: None };
                return self.fold(&folds, all, now_us, changes);
            }
        }
        None
    }

    /// Makes one alert of several: the oldest that was told takes in the others. Its number.
    fn fold(&mut self, members: &[u64], key: Key, now_us: u64, changes: &mut Vec<AlertChange>) -> Option<u64> {
        let held_back = |id: &u64| self.open.get(id).is_none_or(|(_, open)| open.held_back);
        let into = members.iter().copied().min_by_key(|id| (held_back(id), *id))?;
        let (_, mut whole) = self.remove(into)?;
        for id in members.iter().copied().filter(|id| *id != into) {
            if let Some((_, part)) = self.open.get(&id) {
                whole.absorb(part);
            }
            self.close(id, Ending::Merged, Some(into), now_us, changes);
        }
        self.insert(key, whole);
        Some(into)
    }

    /// The open alerts of a group; those that are over are closed.
    fn living(&mut self, group: &Group, now_us: u64, changes: &mut Vec<AlertChange>) -> Vec<u64> {
        let mut members = self.groups.get(group).cloned().unwrap_or_default();
        members.retain(|id| !self.close_if_over(*id, now_us, changes));
        members
    }

    fn close_if_over(&mut self, id: u64, now_us: u64, changes: &mut Vec<AlertChange>) -> bool {
        let Some((_, open)) = self.open.get(&id) else { return true };
        let ending = if now_us.saturating_sub(open.touched_us) >= self.window_us {
            Ending::Quiet
        } else if now_us.saturating_sub(open.opened_us) >= self.max_age_us {
            Ending::Age
        } else {
            return false;
        };
        self.close(id, ending, None, now_us, changes);
        true
    }

    fn close(&mut self, id: u64, ending: Ending, into: Option<u64>, now_us: u64, changes: &mut Vec<AlertChange>) {
        let Some((key, open)) = self.remove(id) else { return };
        let seq = self.number(now_us);
        match ending {
            Ending::Merged => self.counts.merged += 1,
            _ => self.counts.closed += 1,
        }
        let alert = Arc::new(open.ended(&key.label, seq, ending, into));
        changes.push(AlertChange { kind: ChangeKind::Closed, at_us: now_us, alert });
    }

    fn insert(&mut self, key: Key, open: Open) {
        let id = open.id;
        for group in key.groups() {
            self.groups.entry(group).or_default().push(id);
        }
        self.quiet.insert((open.touched_us, id));
        self.ids.insert(key.clone(), id);
        self.open.insert(id, (key, open));
        self.counts.open = self.open.len();
    }

    fn remove(&mut self, id: u64) -> Option<(Key, Open)> {
        let (key, open) = self.open.remove(&id)?;
        self.quiet.remove(&(open.touched_us, id));
        self.ids.remove(&key);
        for group in key.groups() {
            if let Some(members) = self.groups.get_mut(&group) {
                members.retain(|member| *member != id);
                if members.is_empty() {
                    self.groups.remove(&group);
                }
            }
        }
        self.counts.open = self.open.len();
        Some((key, open))
    }

    /// Begins another minute of the budget if it is time, and tells what was held back in the one before.
    fn roll(&mut self, now_us: u64, changes: &mut Vec<AlertChange>) {
        if !self.budget.roll(now_us) {
            return;
        }
        let Some(mut overload) = self.overload.take() else { return };
        let (kind, ending) = overload.minute(now_us, self.max_age_us);
        let seq = self.number(now_us);
        changes.push(overload.change(seq, now_us, kind, ending));
        if ending.is_none() {
            self.overload = Some(overload);
        }
    }

    fn label(&mut self, name: &str) -> Arc<str> {
        if let Some(label) = self.labels.iter().find(|label| ***label == *name) {
            return Arc::clone(label);
        }
        if self.labels.len() >= MOST_LABELS {
            self.labels.clear();
        }
        let label: Arc<str> = name.into();
        self.labels.push(Arc::clone(&label));
        label
    }

    fn number(&mut self, now_us: u64) -> u64 {
        self.last_number = next_number(self.last_number, now_us);
        self.last_number
    }
}
