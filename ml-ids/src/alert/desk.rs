//! Where alerts of a live sensor are made and handed on: to the sinks, the store, and those who ask.

use std::{io, sync::Arc};

use log::{info, warn};
use serde_json::Value;

use super::{
    board::Board,
    engine::{AlertSettings, Alerts},
    record::{AlertChange, ChangeKind},
    sighting::Sighting,
    store::{Store, StoreOptions},
};
use crate::{
    detect::Verdict,
    model::Model,
    sensor::clock::{boot_to_unix_us, monotonic_us},
    sink::{Event, EventKind, Hub},
};

/// The log target of alert lines.
const TARGET: &str = "alert";

/// The alerts of a sensor. The scoring thread owns it.
pub struct Desk {
    alerts: Alerts,
    store: Option<Store>,
    board: Arc<Board>,
    hub: Arc<Hub>,
    /// From the clock that flows are timed by to Unix time. Measured once, so that a clock that is set moves no alert.
    offset_us: i64,
    changes: Vec<AlertChange>,
}

impl Desk {
    /// Begins without alerts, beyond the numbers of those in the store.
    ///
    /// # Errors
    /// When the store's thread cannot be started.
    pub fn open(settings: AlertSettings, store: Option<StoreOptions>, hub: Arc<Hub>) -> io::Result<Self> {
        let offset_us = boot_to_unix_us();
        let path = store.as_ref().map(|options| options.path.clone());
        let store = store.map(|options| Store::start(options, now_us(offset_us))).transpose()?;
        let watch = path.zip(store.as_ref().map(Store::watch));
        let mut alerts = Alerts::new(settings);
        alerts.number_from(store.as_ref().map_or(0, Store::last_number));
        Ok(Self {
            alerts,
            store,
            board: Arc::new(Board::new(watch, hub.feed().clone())),
            hub,
            offset_us,
            changes: Vec::new(),
        })
    }

    /// What others read.
    #[must_use]
    pub fn board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }

    /// Takes a verdict that is an alert. `evidence` is its event.
    pub fn observe(&mut self, verdict: &Verdict, model: &Model, evidence: impl FnOnce() -> Value) {
        let now_us = now_us(self.offset_us);
        self.alerts.observe(&Sighting::of(verdict, model), now_us, evidence, &mut self.changes);
    }

    /// Lets time pass, and hands on what has happened since the last time.
    pub fn tick(&mut self) {
        let looked = self.alerts.tick(now_us(self.offset_us), &mut self.changes);
        self.hand_on();
        if looked {
            let board = &self.board;
            self.alerts.show_growth(|alert| board.remember(alert));
        }
    }

    /// Closes all alerts and the store.
    pub fn finish(mut self) {
        self.alerts.finish(now_us(self.offset_us), &mut self.changes);
        self.hand_on();
        if let Some(store) = self.store.take() {
            store.finish();
        }
    }

    fn hand_on(&mut self) {
        for change in self.changes.drain(..) {
            let alert = &change.alert;
            self.board.remember(alert);
            if let Some(store) = &self.store {
                store.keep(alert);
            }
            if alert.held_back {
                continue;
            }
            say(&change);
            if self.hub.wants(EventKind::Alert) {
                self.hub.emit(&Event::new(EventKind::Alert, &change.event()).numbered(alert.seq));
            }
        }
        self.board.set_counts(self.alerts.counts());
    }
}

/// One line a change, for people.
fn say(change: &AlertChange) {
    let AlertChange { kind, alert, .. } = change;
    let (severity, title, count) = (alert.severity, alert.title(), alert.count);
    match kind {
        ChangeKind::Opened => warn!(target: TARGET, "opened, {severity}: {title}"),
        ChangeKind::Grown => warn!(target: TARGET, "grown, {severity}: {title}, {count} flows"),
        ChangeKind::Closed => {
            let why = alert.ending.map_or("", |ending| ending.name());
            info!(target: TARGET, "closed ({why}), {severity}: {title}, {count} flows");
        }
    }
}

fn now_us(offset_us: i64) -> u64 {
    monotonic_us().saturating_add_signed(offset_us)
}
