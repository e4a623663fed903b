//! What clients have asked and how they were answered, in numbers: by endpoint, status and reason of refusal, none of which
//! a client can make up.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use hyper::Response;

use super::{
    catalogue::{Endpoint, ROUTES},
    error::REFUSALS,
};
use crate::histogram::{Histogram, Scale, Shape};

/// Statuses that are counted apart.
const STATUSES: [(u16, &str); 17] = [
    (200, "200"),
    (304, "304"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (408, "408"),
    (409, "409"),
    (413, "413"),
    (415, "415"),
    (422, "422"),
    (429, "429"),
    (431, "431"),
    (500, "500"),
    (502, "502"),
    (503, "503"),
];
/// What all others are counted as, be it statuses or paths.
const OTHER: &str = "other";
/// A flow is answered within milliseconds, a reload in minutes at worst.
const DURATION: Scale = Scale {
    per_unit: 1_000_000_000,
    ends: &[
        500_000,
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        25_000_000,
        50_000_000,
        100_000_000,
        250_000_000,
        1_000_000_000,
        2_500_000_000,
        10_000_000_000,
    ],
};

/// Why a request was refused: kept with its answer, where it is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal(pub(crate) &'static str);

/// The counters. One for a process.
#[derive(Debug)]
pub(crate) struct Requests {
    in_flight: AtomicU64,
    /// One for each route, and one for all that is none.
    endpoints: Vec<Answers>,
    refused: [AtomicU64; REFUSALS.len()],
}

#[derive(Debug)]
struct Answers {
    /// One more than there are [`STATUSES`].
    statuses: [AtomicU64; STATUSES.len() + 1],
    duration: Histogram,
}

/// A request that has no answer yet. Dropping it without one counts nothing: the client has gone.
pub(crate) struct Begun<'a> {
    requests: &'a Requests,
    at: Instant,
}

impl Requests {
    pub(crate) fn new() -> Self {
        let answers = || Answers { statuses: Default::default(), duration: Histogram::new(&DURATION) };
        Self {
            in_flight: AtomicU64::new(0),
            endpoints: (0..=ROUTES.len()).map(|_| answers()).collect(),
            refused: Default::default(),
        }
    }

    pub(crate) fn begin(&self) -> Begun<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Begun { requests: self, at: Instant::now() }
    }

    /// Requests without an answer.
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Answers by path and status; all that there were.
    pub(crate) fn answered(&self) -> Vec<(&'static str, &'static str, u64)> {
        let statuses = || STATUSES.iter().map(|(_, name)| *name).chain([OTHER]);
        let mut all = Vec::new();
        for (path, answers) in self.by_path() {
            for (status, count) in statuses().zip(&answers.statuses) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    all.push((path, status, count));
                }
            }
        }
        all
    }

    /// Time to the answer by path, in seconds.
    pub(crate) fn durations(&self) -> Vec<(&'static str, Shape)> {
        self.by_path().map(|(path, answers)| (path, answers.duration.shape())).collect()
    }

    /// Counts what was refused beside a status: before the request was read, or after its answer had begun.
    pub(crate) fn refuse(&self, Refusal(reason): Refusal) {
        let place = REFUSALS.iter().position(|known| *known == reason);
        if let Some(count) = place.and_then(|place| self.refused.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Requests refused, by reason.
    pub(crate) fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        REFUSALS.into_iter().zip(self.refused.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    /// Routes that share a path share the counters of the first.
    fn by_path(&self) -> impl Iterator<Item = (&'static str, &Answers)> {
        let named = ROUTES.iter().map(|route| route.path).chain([OTHER]).zip(&self.endpoints).enumerate();
        named.filter(|(index, (path, _))| place(path) == *index).map(|(_, named)| named)
    }
}

/// Where a path is counted.
fn place(path: &str) -> usize {
    ROUTES.iter().position(|route| route.path == path).unwrap_or(ROUTES.len())
}

impl Begun<'_> {
    /// Counts the answer.
    pub(crate) fn answered<B>(self, endpoint: Option<Endpoint>, response: &Response<B>) {
        let route = endpoint.and_then(|endpoint| ROUTES.iter().find(|route| route.endpoint == endpoint));
        let Some(answers) = self.requests.endpoints.get(route.map_or(ROUTES.len(), |route| place(route.path))) else {
            return;
        };
        let status = response.status().as_u16();
        let status = STATUSES.iter().position(|(known, _)| *known == status).unwrap_or(STATUSES.len());
        if let Some(count) = answers.statuses.get(status) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        answers.duration.observe_nanos(self.at.elapsed());
        if let Some(refusal) = response.extensions().get::<Refusal>() {
            self.requests.refuse(*refusal);
        }
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.requests.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;
    use crate::api::error::ApiError;

    #[test]
    fn answers_are_counted_by_path_and_status_and_refusals_by_reason() {
        let requests = Requests::new();
        let mut teapot = Response::new(());
        *teapot.status_mut() = StatusCode::IM_A_TEAPOT;
        requests.begin().answered(Some(Endpoint::Predict), &Response::new(()));
        requests.begin().answered(Some(Endpoint::Predict), &ApiError::Busy.into_response());
        requests.begin().answered(None, &teapot);
        assert_eq!(requests.answered(), [("/predict", "200", 1), ("/predict", "429", 1), (OTHER, OTHER, 1)]);
        let refused: Vec<_> = requests.refused().filter(|(_, count)| *count > 0).collect();
        assert_eq!(refused, [("busy", 1)]);
        let durations = requests.durations();
        assert_eq!(durations.iter().map(|(_, shape)| shape.count()).sum::<u64>(), 3);
        assert_eq!(durations.len(), ROUTES.len() + 1);
    }

    #[test]
    fn a_request_is_in_flight_until_it_is_answered_or_its_client_gone() {
        let requests = Requests::new();
        let (first, second) = (requests.begin(), requests.begin());
        assert_eq!(requests.in_flight(), 2);
        drop(first);
        second.answered(None, &Response::new(()));
        assert_eq!(requests.in_flight(), 0);
    }
}
