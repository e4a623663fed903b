//! `GET /alerts`: what the sensor has found, the newest first, page by page.

use std::{
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use hyper::StatusCode;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

use super::{
    answer::{Answer, json as json_response},
    error::{ApiError, quoted},
    health::QueueHealth,
    limits::{ALERT_READERS, SUBSCRIBERS},
    parameters::parameters,
    state::AppState,
};
use crate::{
    alert::{
        AlertText, Board, Page, Severity, since_us,
        store::{Filter, MOST_ROWS, StoreError},
    },
    sensor::clock::now_us,
};

/// Alerts in an answer, unless the client says otherwise.
const LIMIT: usize = 100;

/// The sensor's alerts, and the places for those who ask.
#[derive(Debug)]
pub(crate) struct Alerting {
    pub(crate) board: Arc<Board>,
    /// Each reads a file on a thread that may wait.
    readers: Arc<Semaphore>,
    pub(crate) subscribers: Arc<Semaphore>,
    /// Subscribers that found no place.
    pub(crate) refused: AtomicU64,
    /// Subscribers that were too slow.
    pub(crate) cut: AtomicU64,
}

impl Alerting {
    pub(crate) fn new(board: Arc<Board>) -> Self {
        Self {
            board,
            readers: Arc::new(Semaphore::new(ALERT_READERS)),
            subscribers: Arc::new(Semaphore::new(SUBSCRIBERS)),
            refused: AtomicU64::new(0),
            cut: AtomicU64::new(0),
        }
    }

    /// The places of those who listen to events.
    pub(crate) fn health(&self) -> QueueHealth {
        QueueHealth {
            length: SUBSCRIBERS.saturating_sub(self.subscribers.available_permits()) as u64,
            capacity: SUBSCRIBERS as u64,
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// Reads on a thread that may wait.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Board) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let place = Arc::clone(&self.readers).try_acquire_owned().map_err(|_| ApiError::Busy)?;
        let board = Arc::clone(&self.board);
        let read = tokio::task::spawn_blocking(move || {
            let found = read(&board);
            // The place is taken until here, also when the client has gone away meanwhile.
            drop(place);
            found
        })
        .await;
        let found = read.map_err(|error| ApiError::Archive(error.to_string()))?;
        found.map_err(|error| ApiError::Archive(error.to_string()))
    }
}

/// The alerts of the sensor behind this server.
pub(crate) fn of(state: &AppState) -> Result<Arc<Alerting>, ApiError> {
    let missing = if state.capture_asked() { ApiError::NotCapturing } else { ApiError::NoCapture };
    state.alerts().ok_or(missing)
}

/// `GET /alerts`.
pub(crate) async fn alerts(state: &AppState, query: Option<&str>) -> Result<Answer, ApiError> {
    let wanted = Wanted::from_query(query, now_us())?;
    let alerting = of(state)?;
    match wanted {
        Wanted::One(id) => {
            let found = alerting.read(move |board| board.get(id)).await?;
            let found: Vec<_> = found.iter().map(|stored| stored.json_in_full()).collect();
            Ok(answer(found, None))
        }
        Wanted::Page(filter) => {
            // Written there, too: a thousand alerts are too much for the event loop.
            alerting
                .read(move |board| {
                    let Page { alerts, next } = board.list(&filter)?;
                    Ok(answer(alerts.iter().map(|stored| stored.json()).collect(), next))
                })
                .await
        }
    }
}

fn answer(alerts: Vec<Map<String, Value>>, next: Option<u64>) -> Answer {
    json_response(StatusCode::OK, &json!({ "alerts": alerts, "next": next }))
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    /// One alert in full.
    One(u64),
    /// Those that pass.
    Page(Filter),
}

impl Wanted {
    /// Reads the query string; unknown parameters are ignored.
    fn from_query(query: Option<&str>, now_us: u64) -> Result<Self, ApiError> {
        let mut filter = Filter { limit: LIMIT, ..Filter::default() };
        let mut one = None;
        for (name, value) in parameters(query) {
            let wrong = |problem: &str| ApiError::Query(format!("{name} is '{}'; {problem}", quoted(&value)));
            match &*name {
                "id" => one = Some(number(&value).ok_or_else(|| wrong("use the number of an alert"))?),
                "before" => filter.before = Some(number(&value).ok_or_else(|| wrong("use `next` of the last answer"))?),
                "since" => filter.since_us = Some(since_us(&value, now_us).map_err(|error| wrong(&error))?),
                "label" => filter.label = Some(value.clone().into_owned()).filter(|label| !label.is_empty()),
                "q" => filter.text = AlertText::new(&value).map_err(|error| wrong(&error.to_string()))?,
                "severity" => {
                    let severity = Severity::from_str(&value).map_err(|error| wrong(&error.to_string()))?;
                    filter.severity = Some(severity);
                }
                "limit" => {
                    let limit = number(&value).and_then(|limit| usize::try_from(limit).ok());
                    let limit = limit.filter(|limit| (1..=MOST_ROWS).contains(limit));
                    filter.limit = limit.ok_or_else(|| wrong(&format!("use 1 to {MOST_ROWS}")))?;
                }
                "merged" => {
                    filter.merged = match &*value {
                        "1" | "true" => true,
                        "0" | "false" => false,
                        _ => return Err(wrong("use merged=1 or merged=0")),
                    };
                }
                _ => {}
            }
        }
        Ok(one.map_or(Self::Page(filter), Self::One))
    }
}

/// Digits only: `+7` is no number that we have given out.
pub(super) fn number(text: &str) -> Option<u64> {
    let number = text.parse().ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_is_understood_and_nonsense_is_refused_by_name() {
        let now = 1_790_000_000_000_000;
        let wanted = |query: &str| Wanted::from_query(Some(query), now);
        let page = |query: &str| match wanted(query) {
            Ok(Wanted::Page(filter)) => filter,
            other => panic!("{query}: {other:?}"),
        };
        let ordinary = Filter { limit: LIMIT, ..Filter::default() };
        assert_eq!(page(""), ordinary);
        assert_eq!(page("colour=red"), ordinary);
        assert_eq!(page("q=+"), ordinary);
        let expected = Filter {
            since_us: Some(now - 3_600_000_000),
            label: Some("Web Attack - XSS".to_owned()),
            text: AlertText::new("10.0.0.7").unwrap(),
            severity: Some(Severity::HIGH),
            before: Some(7),
            merged: true,
            limit: 5,
        };
        assert_eq!(
            page("since=1h&label=Web%20Attack+-+XSS&q=10.0.0.7&severity=high&before=7&merged=1&limit=5"),
            expected
        );
        assert_eq!(wanted("id=12").ok(), Some(Wanted::One(12)));
        for query in [
            "id=x",
            "q=a%00b",
            "id=+1",
            "before=-1",
            "since=soon",
            "severity=5",
            "limit=0",
            "limit=1001",
            "limit=1e9",
            "merged=2",
        ] {
            let name = query.split('=').next().unwrap();
            let refused = wanted(query).unwrap_err();
            assert!(matches!(&refused, ApiError::Query(text) if text.starts_with(name)), "{query}: {refused}");
        }
    }
}
