//! The names that events ask for, and how it stands with them. Asking takes a lock that the watch holds for single changes.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime},
};

use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::Event;
use log::{info, warn};

use super::{PodName, book::Book, pod};

/// Longest reason that is told of a failure, in characters: it may be the other side's words.
const LONGEST_REASON: usize = 300;

/// The pods of this node, by their addresses.
#[derive(Debug)]
pub struct Pods {
    node: String,
    book: RwLock<Book>,
    standing: Mutex<Standing>,
    errors: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Standing {
    /// When a list was complete, or the last change came.
    known: Option<SystemTime>,
    failure: Option<String>,
}

/// How it stands with the names.
#[derive(Clone, Debug, Default)]
pub struct PodsState {
    /// The node whose pods these are.
    pub node: String,
    /// Addresses that have a name.
    pub addresses: usize,
    /// Of these, addresses of pods that are gone.
    pub departed: usize,
    /// When the names were last brought up to date; `None` if there has been no answer.
    pub known: Option<SystemTime>,
    /// Why they are not now.
    pub failure: Option<String>,
    /// Lists and watches that failed.
    pub errors: u64,
    /// Addresses that found no room, and pods that are none.
    pub refused: u64,
}

impl Pods {
    /// No pods yet.
    #[must_use]
    pub fn of_node(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            book: RwLock::default(),
            standing: Mutex::default(),
            errors: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Whose an address is.
    #[must_use]
    pub fn name(&self, address: IpAddr) -> Option<Arc<PodName>> {
        self.book.read().unwrap_or_else(PoisonError::into_inner).name(address).cloned()
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self) -> PodsState {
        let (addresses, departed) = self.book.read().unwrap_or_else(PoisonError::into_inner).sizes();
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        PodsState {
            node: self.node.clone(),
            addresses,
            departed,
            known: standing.known,
            failure: standing.failure.clone(),
            errors: self.errors.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    pub(super) fn node(&self) -> &str {
        &self.node
    }

    /// Takes what the API server has told.
    pub fn take(&self, event: Event<Pod>, now: Instant) {
        let up_to_date = !matches!(event, Event::Init | Event::InitApply(_));
        let mut book = self.book.write().unwrap_or_else(PoisonError::into_inner);
        let refused = match event {
            Event::Init => {
                book.begin_list();
                0
            }
            Event::InitApply(pod) | Event::Apply(pod) => pod::read(&pod).map_or(1, |seen| book.put(seen, now)),
            Event::InitDone => {
                book.end_list(now);
                0
            }
            Event::Delete(pod) => {
                if let Some(uid) = &pod.metadata.uid {
                    book.remove(uid, now);
                }
                0
            }
        };
        drop(book);
        self.refused.fetch_add(refused, Ordering::Relaxed);
        if up_to_date {
            self.answered();
        }
    }

    /// Forgets pods that have been gone for long.
    pub(super) fn forget(&self, now: Instant) {
        self.book.write().unwrap_or_else(PoisonError::into_inner).forget(now);
    }

    fn answered(&self) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let first = standing.known.replace(SystemTime::now()).is_none();
        let recovered = standing.failure.take().is_some();
        drop(standing);
        if first || recovered {
            let addresses = self.state().addresses;
            info!("names of the pods of {} are known: {addresses} addresses", self.node);
        }
    }

    /// The API server cannot be asked. Said once until it answers.
    pub(super) fn failed(&self, reason: &str) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let reason: String =
            reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_REASON).collect();
        let before = self.standing.lock().unwrap_or_else(PoisonError::into_inner).failure.replace(reason.clone());
        if before.is_none() {
            warn!("names of pods stay as they are: {reason}; trying again");
        }
    }
}

impl PodsState {
    /// What whoever looks should know, in words.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let Self { node, known, failure, refused, .. } = self;
        let standing = match (known, failure) {
            (Some(_), None) => None,
            (None, None) => Some(format!("names of the pods of {node} are not known yet")),
            (None, Some(failure)) => Some(format!("names of the pods of {node} are not known: {failure}")),
            (Some(known), Some(failure)) => {
                let age = known.elapsed().unwrap_or_default().as_secs();
                Some(format!("names of the pods of {node} are {age} s old: {failure}"))
            }
        };
        let refused =
            (*refused > 0).then(|| format!("{refused} addresses of pods found no room or had no name that is one"));
        standing.into_iter().chain(refused).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, address: &str) -> Pod {
        let pod = json!({
            "metadata": { "name": uid, "namespace": "shop", "uid": uid },
            "status": { "podIP": address },
        });
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn names_stay_when_the_server_is_away_and_it_is_said_until_it_is_back() {
        let (pods, now, address) = (Pods::of_node("worker-1"), Instant::now(), "10.0.0.7".parse().unwrap());
        assert!(pods.state().notes()[0].contains("not known yet"));
        pods.failed("connection refused");
        assert!(pods.state().notes()[0].contains("not known: connection refused"));
        for event in [Event::Init, Event::InitApply(pod("a", "10.0.0.7")), Event::InitDone] {
            pods.take(event, now);
        }
        assert_eq!(pods.state().notes(), [""; 0]);
        pods.failed("gone\naway");
        assert!(pods.state().notes()[0].ends_with("s old: gone away"));
        assert_eq!(pods.name(address).unwrap().pod, "a");
        pods.take(Event::Delete(pod("a", "10.0.0.7")), now);
        let PodsState { addresses, departed, errors, failure, .. } = pods.state();
        assert_eq!((addresses, departed, errors, failure), (1, 1, 2, None));
    }

    #[test]
    fn what_is_no_pod_is_counted_and_told() {
        let pods = Pods::of_node("worker-1");
        pods.take(Event::Apply(Pod::default()), Instant::now());
        assert_eq!(pods.state().refused, 1);
        assert!(pods.state().notes()[0].starts_with("1 addresses"));
    }
}
