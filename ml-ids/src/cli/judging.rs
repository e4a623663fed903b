//! What stands behind a capture, live or replayed: sinks, the scoring thread, alerts, and what the API shows of them.

use std::{
    sync::{Arc, mpsc::SyncSender},
    time::Duration,
};

use anyhow::{Context as _, Result};
use log::{error, info};
use ml_ids_common::{Counters, FlowCounters, FlowRecord};
use tokio::task::JoinHandle;

use super::{
    events::EventArgs,
    keep::Models,
    wiring::{Front, SensorView},
};
use crate::{
    alert::{AlertSettings, Board, Desk, store::StoreOptions},
    api::AppState,
    detect::{Judge, Pipeline, Stats, StatsSnapshot, Watchers, drift::DriftWatch},
    kubernetes::Pods,
    respond::Responder,
    sensor::DrainReport,
    sink::{Hub, InterfaceNames, Sinks},
};

/// How flows are judged and told of.
pub(super) struct Setup<'a> {
    /// Names of interfaces by their indices.
    pub(super) names: InterfaceNames,
    /// How events look.
    pub(super) events: &'a EventArgs,
    /// Whose addresses are whose, for events.
    pub(super) pods: Option<Arc<Pods>>,
    /// What one alert is.
    pub(super) alerts: AlertSettings,
    /// Where alerts are kept, if they are.
    pub(super) store: Option<StoreOptions>,
    /// Who judges.
    pub(super) models: &'a Models,
    /// How long terminated flows wait for late packets.
    pub(super) linger: Duration,
}

/// Everything that runs behind a capture.
pub(super) struct Judging {
    pipeline: Pipeline,
    pub(super) hub: Arc<Hub>,
    pub(super) stats: Arc<Stats>,
    pub(super) responder: Arc<Responder>,
    pub(super) board: Arc<Board>,
    pods: Option<Arc<Pods>>,
    /// Sends stats events.
    stats_events: Option<JoinHandle<()>>,
}

impl Judging {
    /// Starts the threads. Returns where finished flows go.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(super) fn start(
        setup: Setup<'_>,
        hub: Arc<Hub>,
        responder: Arc<Responder>,
        state: &AppState,
    ) -> Result<(Self, SyncSender<Vec<FlowRecord>>)> {
        let Setup { names, events, pods, alerts, store, models, linger } = setup;
        let stats = Arc::new(Stats::new(linger));
        let sinks = Sinks::new(Arc::clone(&hub), names, events.origin(alerts.severities.clone(), pods.clone()));
        let drift = Arc::new(DriftWatch::default());
        let desk = Desk::open(alerts, store, Arc::clone(&hub)).context("cannot start the thread of the alert store")?;
        let board = desk.board();
        let (pipeline, batches) = Pipeline::start(
            Judge::new(models.handle()),
            Arc::clone(&responder),
            sinks,
            desk,
            Watchers { stats: Arc::clone(&stats), drift: Arc::clone(&drift), shadow: models.shadow() },
        )
        .context("cannot start the scoring thread")?;
        state.set_model_watch(drift);
        Ok((Self { pipeline, hub, stats, responder, board, pods, stats_events: None }, batches))
    }

    /// Lets the API show what is in front of it, and `stats` events tell of it. Needs a runtime.
    pub(super) fn show(&mut self, front: Arc<dyn Front>, events: &EventArgs, state: &AppState) {
        let view = Arc::new(SensorView {
            front,
            stats: Arc::clone(&self.stats),
            responder: Arc::clone(&self.responder),
            hub: Arc::clone(&self.hub),
            board: Arc::clone(&self.board),
            pods: self.pods.clone(),
        });
        state.set_alerts(Arc::clone(&self.board));
        self.stats_events = events.report_stats(Arc::clone(&view));
        state.set_sensor(view);
    }

    /// Ends the capture by `stop`, judges what it hands over at its end and delivers what is still to be told. Returns what
    /// `stop` does, and the books of the verdicts.
    ///
    /// # Errors
    /// When a thread of the runtime failed.
    pub(super) async fn finish(
        self,
        stop: impl FnOnce() -> DrainReport + Send + 'static,
    ) -> Result<(DrainReport, StatsSnapshot)> {
        let Self { pipeline, hub, stats, responder, board: _, pods: _, stats_events } = self;
        stats_events.inspect(JoinHandle::abort);
        let report = tokio::task::spawn_blocking(move || {
            // First, so that verdicts on what is still open block nobody.
            responder.stop();
            let report = stop();
            pipeline.finish();
            hub.stop();
            report
        })
        .await
        .context("the sensor could not be stopped")?;
        Ok((report, stats.snapshot()))
    }
}

/// Every packet is in a flow or skipped for a reason, every flow judged, discarded, evicted or lost: says so, or what is
/// missing. Where flows stay in a pinned table, other agents may have read records before this one, and the kernel goes on:
/// then what this agent has read must have been judged.
pub(super) fn close_books(counters: &Counters, report: &DrainReport, verdicts: &StatsSnapshot) {
    let FlowCounters { opened, emitted, .. } = counters.flows;
    let DrainReport { taken, inherited, flushed, discarded, pinned } = *report;
    let ended = counters.flows.ended() + flushed + discarded;
    let arrived = taken + inherited + flushed;
    let judged = verdicts.scored + verdicts.other_protocol + verdicts.failed;
    let whole = pinned || (opened == ended && emitted == taken);
    if counters.ingress.balanced() && counters.egress.balanced() && whole && arrived == judged {
        info!("the books balance");
    } else {
        error!(
            "the books do not balance: {opened} flows opened and {ended} ended, {emitted} left the kernel, {arrived} \
             arrived and {judged} were judged; ingress {:?}, egress {:?}; please report this",
            counters.ingress, counters.egress
        );
    }
}
