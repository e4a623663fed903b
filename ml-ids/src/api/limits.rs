//! What a client may cost: every bound of the server in one place, each with its reason.

use std::{ops::RangeInclusive, time::Duration};

/// Connections served at once. Beyond it a new one gets the place of the client that keeps the server waiting longest.
pub(super) const CONNECTIONS: usize = 256;
/// How long a client may keep the server waiting, for a handshake, a head, a body or the reading of an answer, before its
/// place can be given to another. Nobody is cut off while there are places.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);
/// Bytes a second that buy a client further time.
pub(super) const LEAST_RATE: u64 = 64 << 10;
/// The most time that they buy in advance.
pub(super) const CREDIT: Duration = Duration::from_secs(2);
/// Longest wait for a TLS handshake.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest token file, in bytes.
pub(super) const TOKEN_BYTES: u64 = 64 << 10;
/// Most tokens: every request without a good one is compared with all of them.
pub(super) const TOKENS: usize = 64;
/// Largest file with a key or a certificate chain, in bytes.
pub(super) const PEM_BYTES: u64 = 1 << 20;
/// Longest wait for a request's headers, and longest idle time of a kept-alive connection.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest request head in bytes; above it hyper answers 431. Hyper's own floor is 8 KiB.
pub(super) const HEADER_BYTES: usize = 16 << 10;
/// Most header fields in a request; above it hyper answers 431.
pub(super) const HEADER_COUNT: usize = 64;
/// Largest JSON body in bytes; above it the answer is 413. Ten thousand flows of 78 printed numbers fit. Of a stream of
/// lines so much is read ahead: a client that sends all before it reads anything may send so much.
pub(super) const BODY_BYTES: usize = 8 << 20;
/// Longest line of NDJSON in bytes. One flow of the Python client has about 2 KiB.
pub(super) const LINE_BYTES: usize = 64 << 10;
/// Bytes of all bodies that are being read, waiting or scored; above it the answer is 429.
pub(super) const BODY_BYTES_TOTAL: usize = 64 << 20;
/// Longest wait for a whole JSON body, or for the end of a line that has begun; above it the answer is 408.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence between two lines of a stream; then it ends with 408.
pub(super) const STREAM_TIMEOUT: Duration = Duration::from_secs(60);
/// Streams of lines answered at once, which may go on for hours; above it the answer is 429.
pub(super) const STREAMS: usize = 16;
/// Longest time in which a client reads nothing of an answer that is waiting for it; then it is cut off.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Most flows in one JSON body; above it the answer is 413.
pub(super) const ROWS: usize = 10_000;
/// Most columns of a table with named columns. The widest known client sends 82.
pub(super) const COLUMNS: usize = 256;
/// Bodies up to this many bytes are scored in the quick lane. One flow of the Python client has about 2 KiB.
pub(super) const QUICK_BYTES: usize = 64 << 10;
/// Single flows up to this many bytes are scored where they are read if the model is quick. Reading them takes some 50 us.
pub(super) const INLINE_BYTES: usize = 8 << 10;
/// Small requests waiting for a worker or being scored; above it the answer is 429.
pub(super) const QUICK_IN_FLIGHT: usize = 256;
/// Large requests waiting for a worker or being scored; above it the answer is 429.
pub(super) const BULK_IN_FLIGHT: usize = 8;
/// Large requests scored at once. One, so that single flows find a processor however many batches wait.
pub(super) const BULK_WORKERS: usize = 1;
/// What a 429 tells the client to wait.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Longest wait at shutdown for requests that have begun.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection that was answered before its body was read is still read from, so that the client sees the
/// answer and not a reset.
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// Most open flows in one answer.
pub(super) const FLOWS: usize = 1_000;
/// Open flows in an answer whose client has not said how many.
pub(super) const FLOWS_DEFAULT: usize = 20;
/// How long a look at the open flows holds.
pub(super) const FLOWS_AGE: Duration = Duration::from_secs(1);
/// Or that many times what it took, whichever is longer.
pub(super) const FLOWS_SHARE: u32 = 25;
/// Seconds that the timeline can go back.
pub(super) const TIMELINE: RangeInclusive<u64> = 60..=21_600;
/// Seconds that it goes back for a client that has not said how many.
pub(super) const TIMELINE_DEFAULT: u64 = 900;
/// Most points of a timeline in one answer.
pub(super) const TIMELINE_POINTS: usize = 720;
/// Requests that read kept alerts at once, each on a thread of its own; above it the answer is 429.
pub(super) const ALERT_READERS: usize = 4;
/// Clients that listen to events at once; above it the answer is 429.
pub(super) const SUBSCRIBERS: usize = 32;
/// Events that wait for a client that reads slowly, besides those in the ring of its kind.
pub(super) const EVENTS_AHEAD: usize = 64;
/// Longest silence of a stream of events.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a client that was cut off from events waits before it comes again.
pub(super) const RECONNECT: Duration = Duration::from_secs(3);
/// How long a client may take to hear why it is cut off; it keeps its place meanwhile.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(5);
/// Features named in the explanation of one flow.
pub(super) const EXPLAINED_FEATURES: usize = 5;
/// Longest excerpt of a client's own words in an error, in characters.
pub(super) const QUOTED_CHARACTERS: usize = 64;

/// The bounds that a test (or one day a flag) may want to be different.
#[derive(Clone, Debug)]
pub struct Limits {
    /// See `CONNECTIONS`.
    pub connections: usize,
    /// See `PATIENCE`.
    pub patience: Duration,
    /// See `HANDSHAKE_TIMEOUT`.
    pub handshake_timeout: Duration,
    /// See `HEADER_TIMEOUT`.
    pub header_timeout: Duration,
    /// See `BODY_BYTES`.
    pub body_bytes: usize,
    /// See `LINE_BYTES`.
    pub line_bytes: usize,
    /// See `BODY_BYTES_TOTAL`.
    pub body_bytes_total: usize,
    /// See `BODY_TIMEOUT`.
    pub body_timeout: Duration,
    /// See `STREAM_TIMEOUT`.
    pub stream_timeout: Duration,
    /// See `STREAMS`.
    pub streams: usize,
    /// See `WRITE_TIMEOUT`.
    pub write_timeout: Duration,
    /// See `ROWS`.
    pub rows: usize,
    /// See `QUICK_BYTES`.
    pub quick_bytes: usize,
    /// See `QUICK_IN_FLIGHT`.
    pub quick_in_flight: usize,
    /// Small requests scored at once: as many as there are processors.
    pub quick_workers: usize,
    /// See `BULK_IN_FLIGHT`.
    pub bulk_in_flight: usize,
    /// See `DRAIN_TIMEOUT`.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: CONNECTIONS,
            patience: PATIENCE,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            header_timeout: HEADER_TIMEOUT,
            body_bytes: BODY_BYTES,
            line_bytes: LINE_BYTES,
            body_bytes_total: BODY_BYTES_TOTAL,
            body_timeout: BODY_TIMEOUT,
            stream_timeout: STREAM_TIMEOUT,
            streams: STREAMS,
            write_timeout: WRITE_TIMEOUT,
            rows: ROWS,
            quick_bytes: QUICK_BYTES,
            quick_in_flight: QUICK_IN_FLIGHT,
            quick_workers: std::thread::available_parallelism().map_or(1, usize::from),
            bulk_in_flight: BULK_IN_FLIGHT,
            drain_timeout: DRAIN_TIMEOUT,
        }
    }
}
