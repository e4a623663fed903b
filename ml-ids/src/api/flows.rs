//! `GET /flows`: the foremost of the flows that are open now.
//!
//! The kernel's table is read on a thread that may wait, by one request at a time; those that come meanwhile and shortly
//! after share what it found. Asking often or by many costs the sensor no more than asking once.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use hyper::{Request, StatusCode};
use serde::Serialize;
use tokio::sync::Mutex;

use super::{
    answer::{Answer, json},
    error::{ApiError, quoted},
    limits::{FLOWS, FLOWS_AGE, FLOWS_DEFAULT, FLOWS_SHARE},
    predictor::rfc3339,
    state::AppState,
};

/// Who can tell the open flows.
pub trait FlowSource: Send + Sync {
    /// Looks at all of them and keeps `most` in each order. May take a while; called from a thread that may wait, one at a
    /// time.
    ///
    /// # Errors
    /// A sentence saying what failed.
    fn look(&self, most: usize) -> Result<OpenFlows, String>;
}

/// The foremost of the open flows in each order, the first first.
#[derive(Debug, Default)]
pub struct OpenFlows {
    /// How many are open in all.
    pub open: u64,
    /// Those with most packets.
    pub by_packets: Vec<OpenFlow>,
    /// Those with most payload bytes.
    pub by_bytes: Vec<OpenFlow>,
    /// The oldest.
    pub by_age: Vec<OpenFlow>,
}

/// One open flow. Names as in the event log.
#[derive(Clone, Debug, Serialize)]
pub struct OpenFlow {
    /// Where its first packet came from.
    pub src_ip: IpAddr,
    /// Its port.
    pub src_port: u16,
    /// Where it went to.
    pub dest_ip: IpAddr,
    /// Its port.
    pub dest_port: u16,
    /// `TCP`, `UDP`, `SCTP`, `OTHER`.
    pub proto: &'static str,
    /// The interface of its first packet.
    pub in_iface: Option<String>,
    /// Packets of the source.
    pub pkts_toserver: u64,
    /// Packets to the source.
    pub pkts_toclient: u64,
    /// Payload bytes of the source.
    pub bytes_toserver: u64,
    /// Payload bytes to the source.
    pub bytes_toclient: u64,
    /// Time of the first packet.
    #[serde(serialize_with = "rfc3339")]
    pub start: SystemTime,
    /// Seconds since then.
    pub age: f64,
    /// Seconds since the last packet.
    pub quiet: f64,
    /// Packets with each TCP flag.
    pub flags: Flags,
}

/// Packets with each TCP flag.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[expect(missing_docs, reason = "they have no other names")]
pub struct Flags {
    pub fin: u32,
    pub syn: u32,
    pub rst: u32,
    pub psh: u32,
    pub ack: u32,
    pub urg: u32,
    pub ece: u32,
    pub cwr: u32,
}

/// What was found last.
pub(super) type Cache = Arc<Mutex<Option<Found>>>;

/// A look and how long it holds.
pub(super) struct Found {
    flows: Arc<OpenFlows>,
    at: SystemTime,
    until: Instant,
}

/// In which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Order {
    Packets,
    Bytes,
    Age,
}

/// What a client may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Options {
    by: Order,
    limit: usize,
}

impl Options {
    /// Reads the query string; unknown parameters are ignored, as everywhere.
    fn from_query(query: Option<&str>) -> Result<Self, ApiError> {
        let mut options = Self { by: Order::Packets, limit: FLOWS_DEFAULT };
        for (name, value) in query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')) {
            match name {
                "by" => {
                    options.by = match value {
                        "packets" => Order::Packets,
                        "bytes" => Order::Bytes,
                        "age" => Order::Age,
                        other => {
                            let found = quoted(other);
                            return Err(ApiError::Query(format!(
                                "by is '{found}'; use by=packets, by=bytes or by=age"
                            )));
                        }
                    };
                }
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=FLOWS).contains(limit));
                    options.limit = limit.ok_or_else(|| {
                        ApiError::Query(format!("limit is '{}'; use a number from 1 to {FLOWS}", quoted(value)))
                    })?;
                }
                _ => {}
            }
        }
        Ok(options)
    }
}

#[derive(Serialize)]
struct FlowsAnswer<'a> {
    #[serde(serialize_with = "rfc3339")]
    at: SystemTime,
    open: u64,
    by: Order,
    flows: &'a [OpenFlow],
}

pub(crate) async fn flows<B>(state: &Arc<AppState>, request: &Request<B>) -> Result<Answer, ApiError> {
    let Options { by, limit } = Options::from_query(request.uri().query())?;
    let source = match state.flow_source() {
        Some(source) => source,
        None if state.capture_asked() => return Err(ApiError::NotCapturing),
        None => return Err(ApiError::NoCapture),
    };
    // A task of its own: a client that goes away must not let the next one begin another look beside this one.
    let looked = tokio::spawn(look(Arc::clone(&state.flows), source)).await;
    let (found, at) = looked.map_err(|error| ApiError::Table(error.to_string()))??;
    let all = match by {
        Order::Packets => &found.by_packets,
        Order::Bytes => &found.by_bytes,
        Order::Age => &found.by_age,
    };
    let flows = all.get(..limit).unwrap_or(all);
    Ok(json(StatusCode::OK, &FlowsAnswer { at, open: found.open, by, flows }))
}

/// What was found last if that holds, else what is found now.
async fn look(cache: Cache, source: Arc<dyn FlowSource>) -> Result<(Arc<OpenFlows>, SystemTime), ApiError> {
    let mut last = cache.lock().await;
    if let Some(Found { flows, at, until }) = &*last
        && *until > Instant::now()
    {
        return Ok((Arc::clone(flows), *at));
    }
    *last = None;
    let (begun, at) = (Instant::now(), SystemTime::now());
    let looked = tokio::task::spawn_blocking(move || source.look(FLOWS)).await;
    let flows = Arc::new(looked.map_err(|error| ApiError::Table(error.to_string()))?.map_err(ApiError::Table)?);
    let holds: Duration = FLOWS_AGE.max(begun.elapsed() * FLOWS_SHARE);
    *last = Some(Found { flows: Arc::clone(&flows), at, until: Instant::now() + holds });
    Ok((flows, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_number_are_read_and_what_makes_no_sense_is_refused() {
        let options = |query| Options::from_query(query).map(|options| (options.by, options.limit)).ok();
        assert_eq!(options(None), Some((Order::Packets, 20)));
        assert_eq!(options(Some("by=age&limit=1000&x=1")), Some((Order::Age, 1000)));
        assert_eq!(options(Some("limit=1&by=bytes")), Some((Order::Bytes, 1)));
        for wrong in ["by=size", "by=", "limit=0", "limit=1001", "limit=-1", "limit=x", "limit="] {
            assert_eq!(options(Some(wrong)), None, "{wrong}");
        }
    }
}
