//! A capture replayed by several threads, with the result of one.
//!
//! ```text
//! chunks:  read ─► find frames* ─► parse ─► replay** ─► batches of flows
//! batches: digest ─► emit**                                    * in order   ** in order, by the calling thread
//! ```
//!
//! Every thread takes whatever step is due; the calling thread does so while it has nothing to replay or emit, so that
//! one thread is the case without helpers and not another program. A chunk's frames are mostly found and parsed where the
//! chunk was read, as its bytes are in that core's cache. There is one flow table, and one thread uses it: no flow can be
//! split and no order can be lost. What is in flight is bounded by [`Shared::window`], for chunks beyond the one being
//! replayed and for batches beyond the one being emitted; who is ahead of that helps elsewhere or sleeps.

mod conductor;
mod ring;

use std::{
    any::Any,
    collections::VecDeque,
    io::{self, Read},
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use ml_ids_common::{Decap, FlowRecord, Profile};

use self::{conductor::Conductor, ring::Ring};
use super::{
    Capture, CaptureError, ParsedFrame, Replay,
    buffer::{CHUNK_SIZE, Chunk, Next},
    capture::{Located, Opened, Splitter},
    parse_frame,
};

/// Chunks, and batches, in flight beyond one for each of several threads.
const SPARE_WINDOW: u64 = 4;

/// Reads bytes at an offset from where the capture's source stands, as `pread` does: several threads at once.
pub type ReadAt<'a> = &'a (dyn Fn(&mut [u8], u64) -> io::Result<usize> + Sync);

/// How a capture is replayed.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Threads, the calling one included.
    pub jobs: NonZeroUsize,
    /// Another way to read what the capture's source still has, if there is one.
    pub read_at: Option<ReadAt<'a>>,
    /// Finished flows that are digested together.
    pub batch: usize,
}

/// Replays a capture none of whose frames has been read, and ends the flows that are still open. Finished flows are
/// digested in batches, which go to `emit`; flows and batches are in the order in which the flows end, whatever the
/// number of threads. The first error from `emit` stops the replay and is returned.
///
/// A damaged capture is replayed as far as it can be read; the damage is the value returned.
///
/// # Errors
/// Only those of `emit`.
pub fn replay<R: Read + Send, T: Send, E>(
    capture: Capture<R>,
    replay: &mut Replay,
    options: &Options<'_>,
    digest: impl Fn(Vec<FlowRecord>) -> T + Sync,
    emit: impl FnMut(T) -> Result<(), E>,
) -> Result<Option<CaptureError>, E> {
    let shared = Shared::new(capture.into_opened(), replay, options, &digest);
    thread::scope(|scope| {
        // Whatever happens here, the helpers end.
        let _stop = StopOnDrop(&shared);
        for _ in 1..options.jobs.get() {
            // Fewer helpers than asked for do the same work.
            let helper = thread::Builder::new().name("ml-ids-replay".to_owned());
            let spawned = helper.spawn_scoped(scope, || {
                // Whoever waits for this thread's work must hear of its end.
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| shared.help())) {
                    let mut state = shared.lock();
                    state.panic = Some(panic);
                    shared.due.notify_all();
                }
            });
            if spawned.is_err() {
                break;
            }
        }
        Conductor::new(&shared, emit, options.batch.max(1)).run(replay)
    })
}

/// What the threads share.
struct Shared<'a, R, T, D> {
    state: Mutex<State<R, T>>,
    /// Signalled when a step has become due.
    due: Condvar,
    profile: Profile,
    decap: Decap,
    read_at: Option<ReadAt<'a>>,
    /// Most chunks, and batches, that may be in flight.
    window: u64,
    digest: &'a D,
}

/// Chunks and batches are numbered from 0 in their order.
struct State<R, T> {
    /// Absent while somebody reads from it.
    source: Option<R>,
    next_read: u64,
    /// The input has ended, so there is nothing more to be read.
    read: bool,
    unsplit: Ring<(Chunk, Next)>,
    /// Absent while somebody finds frames.
    splitter: Option<Splitter>,
    /// The frames of the last chunk have been found.
    split: bool,
    parsed: Ring<Parsed>,
    undigested: VecDeque<(u64, Vec<FlowRecord>)>,
    next_digest: u64,
    digested: Ring<T>,
    spare: Vec<Chunk>,
    spare_frames: Vec<Vec<ParsedFrame>>,
    asleep: usize,
    stopped: bool,
    /// What a helper has panicked with.
    panic: Option<Box<dyn Any + Send>>,
}

type Locked<'a, R, T> = MutexGuard<'a, State<R, T>>;

/// The frames of a chunk, and how the capture ends if this is its last one.
struct Parsed {
    frames: Vec<ParsedFrame>,
    end: Option<Result<(), CaptureError>>,
}

/// A step that any thread can do.
enum Step<R> {
    Read { number: u64, source: Option<R>, chunk: Chunk },
    Split { number: u64, splitter: Splitter, chunk: Chunk, next: Next, frames: Vec<ParsedFrame> },
    Digest { number: u64, records: Vec<FlowRecord> },
}

impl<R, T> State<R, T> {
    /// The step that is due most.
    fn take(&mut self, window: u64, any_reads: bool) -> Option<Step<R>> {
        if !self.split
            && self.unsplit.has_next()
            && let Some(splitter) = self.splitter.take()
        {
            let (number, (chunk, next)) = self.unsplit.take()?;
            let frames = self.spare_frames.pop().unwrap_or_default();
            return Some(Step::Split { number, splitter, chunk, next, frames });
        }
        if let Some((number, records)) = self.undigested.pop_front() {
            return Some(Step::Digest { number, records });
        }
        let ahead = self.next_read.wrapping_sub(self.parsed.next);
        if self.read || ahead >= window || !(any_reads || self.source.is_some()) {
            return None;
        }
        let (number, source) = (self.next_read, if any_reads { None } else { self.source.take() });
        self.next_read += 1;
        Some(Step::Read { number, source, chunk: self.spare.pop().unwrap_or_default() })
    }
}

impl<'a, R: Read, T, D: Fn(Vec<FlowRecord>) -> T> Shared<'a, R, T, D> {
    fn new(opened: Opened<R>, replay: &Replay, options: &Options<'a>, digest: &'a D) -> Self {
        let Opened { source, splitter, first: (chunk, next) } = opened;
        let &Options { jobs, read_at, .. } = options;
        let mut state = State {
            source: Some(source),
            next_read: 1,
            read: !matches!(next, Next::More),
            unsplit: Ring::new(),
            splitter: Some(splitter),
            split: false,
            parsed: Ring::new(),
            undigested: VecDeque::new(),
            next_digest: 0,
            digested: Ring::new(),
            spare: Vec::new(),
            spare_frames: Vec::new(),
            asleep: 0,
            stopped: false,
            panic: None,
        };
        state.unsplit.put(0, (chunk, next));
        let helped = jobs.get() > 1;
        // One thread has one chunk in its cache. Several need something to do while they wait for one that is late.
        let window = if helped { jobs.get() as u64 + SPARE_WINDOW } else { 1 };
        // Reading in order is the same to one thread, and right for a file that is still growing.
        let read_at = read_at.filter(|_| helped);
        Self {
            state: Mutex::new(state),
            due: Condvar::new(),
            profile: replay.profile(),
            decap: replay.decap(),
            read_at,
            window,
            digest,
        }
    }

    fn lock(&self) -> Locked<'_, R, T> {
        // No step is done under the lock, so a panic leaves the state whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sleep<'b>(&'b self, mut state: Locked<'b, R, T>) -> Locked<'b, R, T> {
        state.asleep += 1;
        let mut state = self.due.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.asleep -= 1;
        state
    }

    fn wake(&self, state: &State<R, T>) {
        if state.asleep > 0 {
            self.due.notify_all();
        }
    }

    /// Does what is due until there is nothing left.
    fn help(&self) {
        let mut state = self.lock();
        while !state.stopped {
            state = match state.take(self.window, self.read_at.is_some()) {
                Some(step) => self.work(step, state),
                None => self.sleep(state),
            };
        }
    }

    /// Does a step, without the lock.
    fn work<'b>(&'b self, step: Step<R>, state: Locked<'b, R, T>) -> Locked<'b, R, T> {
        drop(state);
        match step {
            Step::Read { number, source, chunk } => self.read(number, source, chunk),
            Step::Split { number, splitter, chunk, next, frames } => {
                self.split_and_parse(number, splitter, chunk, next, frames)
            }
            Step::Digest { number, records } => {
                let digested = (self.digest)(records);
                let mut state = self.lock();
                state.digested.put(number, digested);
                self.wake(&state);
                state
            }
        }
    }

    fn read(&self, number: u64, mut source: Option<R>, mut chunk: Chunk) -> Locked<'_, R, T> {
        let next = match (&mut source, self.read_at) {
            (Some(source), _) => chunk.read_once(source),
            (None, Some(read_at)) => {
                // The first chunk came from the source itself.
                let offset = (number - 1) * CHUNK_SIZE as u64;
                chunk.read_fully(|space, before| read_at(space, offset + before as u64))
            }
            (None, None) => Next::End,
        };
        let mut state = self.lock();
        if source.is_some() {
            state.source = source;
        }
        state.read |= !matches!(next, Next::More);
        state.unsplit.put(number, (chunk, next));
        self.wake(&state);
        state
    }

    fn split_and_parse(
        &self,
        number: u64,
        mut splitter: Splitter,
        mut chunk: Chunk,
        next: Next,
        mut frames: Vec<ParsedFrame>,
    ) -> Locked<'_, R, T> {
        let mut located: Vec<Located> = Vec::with_capacity(frames.capacity());
        let end = splitter.split(&mut chunk, next, &mut located);
        {
            let mut state = self.lock();
            state.splitter = Some(splitter);
            state.split = end.is_some();
            state.read |= end.is_some();
            if state.unsplit.has_next() {
                self.wake(&state);
            }
        }
        frames.clear();
        frames.extend(located.iter().map(|located| {
            let frame = located.in_chunk(&chunk);
            let packet = parse_frame(frame.link, frame.data, self.profile, self.decap);
            ParsedFrame { time_us: frame.time_us, length: frame.data.len() as u32, packet }
        }));
        let mut state = self.lock();
        state.spare.push(chunk);
        state.parsed.put(number, Parsed { frames, end });
        self.wake(&state);
        state
    }
}

/// Ends the helpers when the calling thread is done, be it by a panic.
struct StopOnDrop<'a, 'b, R, T, D>(&'a Shared<'b, R, T, D>);

impl<R, T, D> Drop for StopOnDrop<'_, '_, R, T, D> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.stopped = true;
        self.0.due.notify_all();
    }
}

#[cfg(test)]
mod tests;
