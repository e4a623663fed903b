//! `GET /events`: what happens, as it happens, as server-sent events.
//!
//! A client that comes back with the `Last-Event-ID` that it has seen gets the alerts that have changed meanwhile, each in
//! its newest state. One that reads too slowly is told so and cut off: it can come back, and the sensor never waits.

use std::sync::{Arc, atomic::Ordering};

use hyper::{HeaderMap, Request, body::Bytes};
use serde_json::Value;
use tokio::{
    sync::{
        broadcast::{Receiver, error::RecvError},
        mpsc::Sender,
        watch,
    },
    time::timeout,
};

use super::{
    alerts::{Alerting, number, of},
    answer::Answer,
    error::{ApiError, quoted},
    events::{comment, event, retry, stream},
    limits::{EVENTS_AHEAD, HEARTBEAT, LAST_WORDS, RECONNECT},
    parameters::parameters,
    server::stopped,
    state::AppState,
};
use crate::{
    alert::{AlertChange, ChangeKind, State, store::Stored},
    sink::{Event, EventKind, FEED_KINDS},
};

/// What a client listens to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    kinds: Vec<EventKind>,
    /// The last change of an alert that it has seen.
    after: Option<u64>,
}

/// `GET /events`.
pub(crate) fn events<B>(state: &AppState, request: &Request<B>) -> Result<Answer, ApiError> {
    let wanted = Wanted::new(request.headers(), request.uri().query())?;
    let alerting = of(state)?;
    let Ok(place) = Arc::clone(&alerting.subscribers).try_acquire_owned() else {
        alerting.refused.fetch_add(1, Ordering::Relaxed);
        return Err(ApiError::Busy);
    };
    // Before what is past is read, so that nothing falls between the two.
    let listeners = wanted.kinds.iter().map(|kind| alerting.board.feed().listen(*kind));
    let listeners: Vec<_> = listeners.flatten().collect();
    let (sender, answer) = stream(EVENTS_AHEAD, HEARTBEAT);
    let draining = state.draining();
    tokio::spawn(async move {
        let _place = place;
        let last_words = follow(&alerting, wanted, listeners, &sender, draining).await;
        if let Some(last_words) = last_words {
            // A client that does not even take this is gone.
            let _gone = timeout(LAST_WORDS, sender.send(comment(last_words))).await.is_err();
        }
    });
    Ok(answer)
}

/// Sends until there is a reason to stop; `None` when the client has left.
async fn follow(
    alerting: &Arc<Alerting>,
    wanted: Wanted,
    listeners: Vec<Receiver<Event>>,
    sender: &Sender<Bytes>,
    mut draining: watch::Receiver<bool>,
) -> Option<&'static str> {
    sender.send(retry(RECONNECT)).await.ok()?;
    let mut seen = wanted.after;
    if let Some(mut after) = wanted.after.filter(|_| wanted.kinds.contains(&EventKind::Alert)) {
        loop {
            let past = alerting.read(move |board| board.changed_after(after)).await;
            let Ok(past) = past else { return Some("what has happened meanwhile cannot be read; come back later") };
            let Some(last) = past.last() else { break };
            after = last.alert.seq;
            for stored in past {
                sender.send(again(stored)).await.ok()?;
            }
        }
        seen = Some(after);
    }
    let mut listeners = listeners.into_iter();
    let [mut first, mut second, mut third, mut fourth] = FEED_KINDS.map(|_| listeners.next());
    loop {
        let next = tokio::select! {
            () = sender.closed() => return None,
            () = stopped(&mut draining) => return Some("the server stops"),
            next = hear(&mut first) => next,
            next = hear(&mut second) => next,
            next = hear(&mut third) => next,
            next = hear(&mut fourth) => next,
        };
        let next = match next {
            Ok(next) => next,
            Err(RecvError::Closed) => return Some("the sensor stops"),
            Err(RecvError::Lagged(_)) => {
                alerting.cut.fetch_add(1, Ordering::Relaxed);
                return Some("too slow; come back with Last-Event-ID");
            }
        };
        // It was among those of the past.
        if next.number().is_some_and(|number| seen.is_some_and(|seen| number <= seen)) {
            continue;
        }
        let id = next.number().map(|number| number.to_string());
        sender.send(event(next.kind().name(), id.as_deref(), next.line())).await.ok()?;
    }
}

/// The next event of a kind that is listened to; otherwise never.
async fn hear(listener: &mut Option<Receiver<Event>>) -> Result<Event, RecvError> {
    match listener {
        Some(listener) => listener.recv().await,
        None => std::future::pending().await,
    }
}

/// An alert of the past as the event of its last change.
fn again(stored: Stored) -> Bytes {
    let (seq, at_us) = (stored.alert.seq, stored.alert.last_seen_us);
    let kind = match stored.alert.state {
        State::Open if stored.alert.id == seq => ChangeKind::Opened,
        State::Open => ChangeKind::Grown,
        State::Closed | State::Merged => ChangeKind::Closed,
    };
    let line: Value = AlertChange { kind, at_us, alert: Arc::new(stored.alert) }.event();
    event(EventKind::Alert.name(), Some(&seq.to_string()), &line.to_string())
}

impl Wanted {
    fn new(headers: &HeaderMap, query: Option<&str>) -> Result<Self, ApiError> {
        let mut kinds = vec![EventKind::Alert];
        // Browsers send the header when they come back; `?after=` is for those who cannot set one.
        let mut after = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(number);
        for (name, value) in parameters(query) {
            match &*name {
                "types" => kinds = kinds_of(&value)?,
                "after" if after.is_none() => {
                    let wrong = || ApiError::Query(format!("after is '{}'; use the id of an event", quoted(&value)));
                    after = Some(number(&value).ok_or_else(wrong)?);
                }
                _ => {}
            }
        }
        Ok(Self { kinds, after })
    }
}

fn kinds_of(list: &str) -> Result<Vec<EventKind>, ApiError> {
    let mut kinds = Vec::new();
    for name in list.split(',') {
        let kind = FEED_KINDS.into_iter().find(|kind| kind.name() == name);
        let wrong = || ApiError::Query(format!("types is '{}'; use some of alert,flow,stats,pulse", quoted(list)));
        let kind = kind.ok_or_else(wrong)?;
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    Ok(kinds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_says_what_it_listens_to_and_where_it_goes_on() {
        let headers = |id: Option<&str>| {
            let id = id.map(|id| (hyper::header::HeaderName::from_static("last-event-id"), id.parse().unwrap()));
            HeaderMap::from_iter(id)
        };
        let wanted = |id, query| Wanted::new(&headers(id), query).ok();
        let alerts = vec![EventKind::Alert];
        assert_eq!(wanted(None, None), Some(Wanted { kinds: alerts.clone(), after: None }));
        assert_eq!(wanted(Some("7"), Some("after=9")), Some(Wanted { kinds: alerts.clone(), after: Some(7) }));
        assert_eq!(wanted(Some("junk"), Some("after=9")), Some(Wanted { kinds: alerts, after: Some(9) }));
        let page = vec![EventKind::Alert, EventKind::Pulse];
        assert_eq!(wanted(None, Some("types=alert,pulse")), Some(Wanted { kinds: page, after: None }));
        let both = vec![EventKind::Flow, EventKind::Alert];
        assert_eq!(wanted(None, Some("types=flow,alert,flow")), Some(Wanted { kinds: both, after: None }));
        for query in ["types=", "types=positive", "types=block", "types=alert,", "after=x"] {
            assert_eq!(wanted(None, Some(query)), None, "{query}");
        }
    }
}
