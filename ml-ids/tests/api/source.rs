//! A source of models that answers what a test tells it to.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex},
    time::{Duration, SystemTime},
};

use ml_ids::api::{ModelCard, ModelSource, Refresh, ReloadError, Reloaded, ShadowHealth};

/// A source that answers what it is told to, once its gate is open.
pub(crate) struct Told {
    answer: Mutex<Result<Reloaded, ReloadError>>,
    pub(crate) shut: Mutex<bool>,
    pub(crate) changed: Condvar,
    /// Reloads that wait at the gate.
    pub(crate) waiting: Mutex<u32>,
}

impl Told {
    pub(crate) fn new(answer: Result<Reloaded, ReloadError>) -> Arc<Self> {
        let (answer, shut, changed) = (Mutex::new(answer), Mutex::new(false), Condvar::new());
        Arc::new(Self { answer, shut, changed, waiting: Mutex::new(0) })
    }
}

impl ModelSource for Told {
    fn reload(&self) -> Result<Reloaded, ReloadError> {
        let mut waiting = self.waiting.lock().unwrap();
        if *waiting > 0 {
            return Err(ReloadError::Busy);
        }
        *waiting += 1;
        self.changed.notify_all();
        drop(waiting);
        drop(self.changed.wait_while(self.shut.lock().unwrap(), |shut| *shut).unwrap());
        *self.waiting.lock().unwrap() -= 1;
        self.answer.lock().unwrap().clone()
    }

    fn reasons(&self) -> Vec<String> {
        vec!["mlflow:ids@prod is away".to_owned()]
    }

    fn refresh(&self) -> Refresh {
        Refresh {
            interval_seconds: Some(60.0),
            last_look: SystemTime::UNIX_EPOCH,
            outcome: "away",
            failures: 3,
            next_look: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(480)),
        }
    }

    fn shadow(&self) -> Option<ShadowHealth> {
        Some(ShadowHealth {
            model: card("9"),
            compared: 10,
            labels_differ: 2,
            alerts_missed: 1,
            alerts_added: 0,
            skipped: 3,
            failed: 0,
            disagreements: BTreeMap::from([("BENIGN -> DoS Hulk".to_owned(), 2)]),
        })
    }
}

pub(crate) fn card(version: &str) -> ModelCard {
    ModelCard {
        name: "ids".to_owned(),
        version: version.to_owned(),
        source: "mlflow:ids@prod".to_owned(),
        resolved: Some(format!("mlflow:ids/{version}")),
        cached: false,
        sha256: "00".repeat(32),
        profile: "fixed",
        runtime: "comparison".to_owned(),
        loaded_at: SystemTime::UNIX_EPOCH,
        classes: vec!["BENIGN".to_owned()],
    }
}
