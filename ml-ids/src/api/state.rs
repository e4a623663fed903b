//! What requests share: the model, the sensor's view of itself, the limits and the places to work in.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::{
    access::Access,
    alerts::Alerting,
    body::BodyBudget,
    error::ApiError,
    flows::{self, FlowSource},
    health::{QueueHealth, SensorHealth},
    limits::{BULK_WORKERS, Limits},
    places::Connections,
    predictor::{ModelSource, ModelWatch, Predictor},
    privileges::{PrivilegeHealth, Privileges},
    requests::Requests,
    timeline::Timeline,
    units::TimeUnit,
};
use crate::{alert::Board, detect::drift::DriftReport};

/// Everything behind the endpoints. One for a process, shared by all connections.
pub struct AppState {
    pub(crate) limits: Limits,
    pub(crate) unit: TimeUnit,
    pub(crate) started: Instant,
    pub(crate) budget: BodyBudget,
    pub(crate) quick: Lane,
    pub(crate) bulk: Lane,
    /// Places of streams of lines. Each works by itself: its batches ask the two lanes for a worker.
    pub(crate) streams: Lane,
    pub(crate) connections: Connections,
    pub(crate) requests: Requests,
    draining: watch::Sender<bool>,
    pub(crate) access: Access,
    pub(super) flows: flows::Cache,
    pub(super) timeline: Mutex<Timeline>,
    pub(super) privileges: Privileges,
    model: RwLock<Slot>,
    capture_asked: bool,
    sensor: RwLock<Option<Arc<dyn SensorHealth>>>,
    flow_source: RwLock<Option<Arc<dyn FlowSource>>>,
    watch: RwLock<Option<Arc<dyn ModelWatch>>>,
    source: RwLock<Option<Arc<dyn ModelSource>>>,
    alerts: RwLock<Option<Arc<Alerting>>>,
}

/// Where the model is on its way.
#[derive(Clone)]
pub(crate) enum Slot {
    Loading,
    Failed(String),
    Loaded(Arc<dyn Predictor>),
}

impl AppState {
    /// A state without a model. `capture_asked` says whether a sensor will come: without it, `serve` is complete with a
    /// model alone.
    #[must_use]
    pub fn new(limits: Limits, unit: TimeUnit, capture_asked: bool) -> Self {
        Self {
            unit,
            started: Instant::now(),
            budget: BodyBudget::new(limits.body_bytes_total),
            quick: Lane::new(limits.quick_in_flight, limits.quick_workers),
            bulk: Lane::new(limits.bulk_in_flight, BULK_WORKERS),
            streams: Lane::new(limits.streams, limits.streams),
            draining: watch::Sender::new(false),
            connections: Connections::new(&limits),
            access: Access::default(),
            requests: Requests::new(),
            limits,
            flows: flows::Cache::default(),
            timeline: Mutex::default(),
            privileges: Privileges::default(),
            flow_source: RwLock::new(None),
            model: RwLock::new(Slot::Loading),
            capture_asked,
            sensor: RwLock::new(None),
            watch: RwLock::new(None),
            source: RwLock::new(None),
            alerts: RwLock::new(None),
        }
    }

    /// The same, open to those only who have a token, or over TLS.
    #[must_use]
    pub fn with_access(self, access: Access) -> Self {
        Self { access, ..self }
    }

    /// Reads tokens, certificate and key again. Reads files: call it from a thread that may wait.
    pub fn reload_access(&self) {
        self.access.reload();
    }

    /// Puts a model to work. Requests that have begun finish with the one before.
    pub fn set_predictor(&self, predictor: Arc<dyn Predictor>) {
        self.set_slot(Slot::Loaded(predictor));
    }

    /// Notes that no model could be loaded, for `GET /health`. A model that works already stays.
    pub fn set_model_failure(&self, reason: String) {
        if self.predictor().is_none() {
            self.set_slot(Slot::Failed(reason));
        }
    }

    /// Lets `GET /health` and `/metrics` show which rights the process has from now on.
    pub fn set_privileges(&self, privileges: PrivilegeHealth) {
        self.privileges.set(privileges);
    }

    /// Lets `GET /health` show which system calls were refused.
    pub fn set_refused_calls(&self, numbers: Vec<u32>) {
        self.privileges.set_refused(numbers);
    }

    /// Lets `GET /health` show the sensor.
    pub fn set_sensor(&self, sensor: Arc<dyn SensorHealth>) {
        *self.sensor.write().unwrap_or_else(PoisonError::into_inner) = Some(sensor);
    }

    /// Lets `GET /flows` show the open flows.
    pub fn set_flow_source(&self, source: Arc<dyn FlowSource>) {
        *self.flow_source.write().unwrap_or_else(PoisonError::into_inner) = Some(source);
    }

    /// Lets `GET /model`, `/metrics` and `/health` show how live traffic compares with the training data.
    pub fn set_model_watch(&self, watch: Arc<dyn ModelWatch>) {
        *self.watch.write().unwrap_or_else(PoisonError::into_inner) = Some(watch);
    }

    /// Lets `POST /model/reload` ask for another model, and `GET /model` and `/health` show how that went.
    pub fn set_model_source(&self, source: Arc<dyn ModelSource>) {
        *self.source.write().unwrap_or_else(PoisonError::into_inner) = Some(source);
    }

    /// Lets `GET /alerts` and `/events` show the sensor's alerts.
    pub fn set_alerts(&self, alerts: Arc<Board>) {
        *self.alerts.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(Alerting::new(alerts)));
    }

    /// The sensor's alerts; `None` before it runs, and without one.
    pub(crate) fn alerts(&self) -> Option<Arc<Alerting>> {
        self.alerts.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn slot(&self) -> Slot {
        self.model.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn predictor(&self) -> Option<Arc<dyn Predictor>> {
        match self.slot() {
            Slot::Loaded(predictor) => Some(predictor),
            Slot::Loading | Slot::Failed(_) => None,
        }
    }

    pub(crate) fn sensor(&self) -> Option<Arc<dyn SensorHealth>> {
        self.sensor.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn flow_source(&self) -> Option<Arc<dyn FlowSource>> {
        self.flow_source.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is known of drift; `None` without a sensor.
    pub(crate) fn drift(&self) -> Option<DriftReport> {
        let watch = self.watch.read().unwrap_or_else(PoisonError::into_inner).clone();
        watch.map(|watch| watch.report())
    }

    pub(crate) fn model_source(&self) -> Option<Arc<dyn ModelSource>> {
        self.source.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) const fn capture_asked(&self) -> bool {
        self.capture_asked
    }

    /// Tells answers that go on for as long as the client likes to come to an end.
    pub(crate) fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Turns true when the server is about to end.
    pub(crate) fn draining(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    /// Where a body of this size is scored.
    pub(crate) fn lane(&self, bytes: usize) -> &Lane {
        if bytes <= self.limits.quick_bytes { &self.quick } else { &self.bulk }
    }

    fn set_slot(&self, slot: Slot) {
        *self.model.write().unwrap_or_else(PoisonError::into_inner) = slot;
    }
}

impl fmt::Debug for AppState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limits, capture_asked, .. } = self;
        formatter.debug_struct("AppState").field("limits", limits).field("capture_asked", capture_asked).finish()
    }
}

/// Places for requests that are scored: some at work, some waiting, the rest turned away.
#[derive(Debug)]
pub(crate) struct Lane {
    places: Arc<Semaphore>,
    workers: Arc<Semaphore>,
    capacity: usize,
    refused: AtomicU64,
}

/// A place and a worker, given back when dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _place: Option<OwnedSemaphorePermit>,
    _worker: OwnedSemaphorePermit,
}

impl Lane {
    fn new(capacity: usize, workers: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(capacity)),
            workers: Arc::new(Semaphore::new(workers.max(1))),
            capacity,
            refused: AtomicU64::new(0),
        }
    }

    /// Takes a place at once or not at all, then waits for a worker, first come first served.
    pub(crate) async fn enter(&self) -> Result<Turn, ApiError> {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(ApiError::Busy);
        };
        Ok(Turn { _place: Some(place), ..self.worker().await? })
    }

    /// Waits for a worker on behalf of somebody who has a place elsewhere.
    pub(crate) async fn worker(&self) -> Result<Turn, ApiError> {
        // The semaphore is never closed; were it, there would be no worker.
        let worker = self.workers.clone().acquire_owned().await.map_err(|_| ApiError::Busy)?;
        Ok(Turn { _place: None, _worker: worker })
    }

    pub(crate) fn health(&self) -> QueueHealth {
        QueueHealth {
            length: self.capacity.saturating_sub(self.places.available_permits()) as u64,
            capacity: self.capacity as u64,
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}
