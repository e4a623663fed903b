//! `POST /predict` with NDJSON: a verdict a line, while further lines still arrive.
//!
//! ```text
//! request body ─► window (bounded) ─► up to 256 lines ─► lane ─► scorer ─► channel (1 piece) ─► answer
//! ```
//!
//! Lines are scored as they come: one alone at once, those that came meanwhile together. A client that does not read its
//! answer stops the scoring, then, when the window is full, the reading. Nothing bounds the whole stream: the limits are
//! for a line, for the window, and for the time without progress.
//!
//! Until the first verdicts are there a fault is a status. Afterwards it is the last line, an error with `status` and the
//! number of the first line that was not judged.

use std::{future::pending, pin::Pin, sync::Arc};

use http_body_util::BodyExt;
use hyper::{
    StatusCode,
    body::{Body as _, Bytes, Incoming},
};
use tokio::{
    sync::mpsc::Sender,
    time::{Instant, timeout_at},
};

use super::{
    answer::{Answer, typed},
    content::Content,
    error::{ApiError, Fault},
    pulse::Pulse,
    query::Options,
    requests::Refusal,
    scorer::{MODEL_BATCH, Notes, Scorer},
    server::stopped,
    state::{AppState, Turn},
    window::{Lines, Window},
};

const MEDIA: &str = "application/x-ndjson";

/// Answers in one piece if the lines are all there, else in pieces.
pub(crate) async fn answer(
    state: Arc<AppState>,
    options: Options,
    pulse: Option<Arc<Pulse>>,
    body: Incoming,
) -> Result<Answer, ApiError> {
    let mut source = Source::new(state.clone(), body);
    let Some(lines) = source.lines().await? else {
        return Err(Fault { row: 0, field: None, problem: "no flow in the body".to_owned() }.into());
    };
    let place = if source.is_exhausted() { None } else { Some(state.streams.enter().await?) };
    let begin = Progress::default();
    let judging = async {
        let turn = state.lane(lines.held.bytes.len()).enter().await?;
        judge(state.clone(), options, lines, begin, turn).await
    };
    let (first, progress) = at_work(pulse.as_deref(), judging).await?;
    let Some(place) = place else { return Ok(typed(StatusCode::OK, MEDIA, Content::Whole(first))) };
    let (sender, content) = Content::pieces(1);
    let stream = Stream { state, options, pulse, source, sender, progress };
    tokio::spawn(async move {
        stream.run(first).await;
        drop(place);
    });
    Ok(typed(StatusCode::OK, MEDIA, content))
}

/// How far the answer is.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Lines judged.
    lines: usize,
    /// What was said once.
    notes: Notes,
}

/// Waits for what the client waits for, too: nobody is late meanwhile.
async fn at_work<T>(pulse: Option<&Pulse>, work: impl Future<Output = T>) -> T {
    pulse.into_iter().for_each(Pulse::working);
    let done = work.await;
    pulse.into_iter().for_each(Pulse::waiting);
    done
}

/// Scores lines on a thread that may be busy, with the model that is at work now.
async fn judge(
    state: Arc<AppState>,
    options: Options,
    lines: Lines,
    mut progress: Progress,
    turn: Turn,
) -> Result<(Bytes, Progress), ApiError> {
    let scorer = Scorer::new(&state, options)?;
    let scored = tokio::task::spawn_blocking(move || {
        let answer = scorer.answer_lines(&lines.held.bytes, progress.lines, &mut progress.notes)?;
        progress.lines += lines.count;
        // Worker and memory are taken until here, also when the client has gone away meanwhile.
        drop((turn, lines));
        Ok((Bytes::from(answer), progress))
    });
    scored.await.map_err(|error| ApiError::Model(format!("scoring ended early: {error}")))?
}

/// An answer that goes on for as long as lines come.
struct Stream {
    state: Arc<AppState>,
    options: Options,
    pulse: Option<Arc<Pulse>>,
    source: Source,
    sender: Sender<Bytes>,
    progress: Progress,
}

/// Lines on their way through the scorer; `None` if the client has gone away.
type Work = Pin<Box<dyn Future<Output = Result<Option<Progress>, ApiError>> + Send>>;

impl Stream {
    async fn run(mut self, first: Bytes) {
        // A client that is gone is told nothing.
        let _gone = self.sender.send(first).await.is_err();
        if let Err(error) = self.answer().await {
            if let ApiError::Model(_) = &error {
                log::error!("POST /predict: {error}");
            }
            // Its status was 200, so nobody else counts it.
            self.state.requests.refuse(Refusal(error.reason()));
            let mut line = serde_json::to_vec(&error.last_line(self.progress.lines)).unwrap_or_default();
            line.push(b'\n');
            let _gone = self.sender.send(line.into()).await.is_err();
        }
    }

    /// Reads and scores side by side until the body ends, and scores what is left.
    async fn answer(&mut self) -> Result<(), ApiError> {
        let mut draining = self.state.draining();
        let mut work: Option<Work> = None;
        loop {
            if work.is_none() {
                match self.source.cut() {
                    Some(lines) => work = Some(self.begin(lines)),
                    None if self.source.waiting.is_some() => {
                        // Nothing of its own would give memory back: others have it.
                        self.source.take_waiting()?;
                        continue;
                    }
                    None if self.source.is_ended => return self.source.failure.take().map_or(Ok(()), Err),
                    None => {}
                }
            }
            let working = async {
                match &mut work {
                    Some(work) => work.await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = self.sender.closed() => return Ok(()),
                done = working => {
                    work = None;
                    let Some(progress) = done? else { return Ok(()) };
                    self.progress = progress;
                    self.source.touch();
                }
                () = self.source.read(), if self.source.may_read() => {}
                () = stopped(&mut draining), if !self.source.is_ended => self.source.end(Some(ApiError::Stopping)),
            }
        }
    }

    /// Room for the answer first, then a worker: a client that does not read has neither.
    fn begin(&self, lines: Lines) -> Work {
        let (state, options, pulse, progress) = (self.state.clone(), self.options, self.pulse.clone(), self.progress);
        let room = self.sender.clone().reserve_owned();
        Box::pin(async move {
            let Ok(room) = room.await else { return Ok(None) };
            let judging = async {
                let turn = state.lane(lines.held.bytes.len()).worker().await?;
                judge(state.clone(), options, lines, progress, turn).await
            };
            let (answer, progress) = at_work(pulse.as_deref(), judging).await?;
            room.send(answer);
            Ok(Some(progress))
        })
    }
}

/// Lines as they arrive, within time and memory.
struct Source {
    state: Arc<AppState>,
    body: Incoming,
    window: Window,
    /// What came and found no memory.
    waiting: Option<Bytes>,
    /// There was a line.
    is_begun: bool,
    is_ended: bool,
    /// Why it ended before its time.
    failure: Option<ApiError>,
    /// Since when the client is waited for.
    since: Instant,
}

impl Source {
    fn new(state: Arc<AppState>, body: Incoming) -> Self {
        let window = Window::default();
        let (is_begun, is_ended, since) = (false, false, Instant::now());
        Self { state, body, window, waiting: None, is_begun, is_ended, failure: None, since }
    }

    /// The first lines; `None` if the body has none. What fails before there is one is an error.
    async fn lines(&mut self) -> Result<Option<Lines>, ApiError> {
        loop {
            if let Some(lines) = self.cut() {
                self.is_begun = true;
                self.touch();
                return Ok(Some(lines));
            }
            if self.waiting.is_some() {
                self.take_waiting()?;
            } else if self.is_ended {
                return self.failure.take().map_or(Ok(None), Err);
            } else {
                self.read().await;
            }
        }
    }

    fn cut(&mut self) -> Option<Lines> {
        self.window.cut(MODEL_BATCH, self.is_ended && self.waiting.is_none())
    }

    /// Whether nothing more will come out.
    fn is_exhausted(&self) -> bool {
        self.is_ended && self.window.len() == 0 && self.waiting.is_none() && self.failure.is_none()
    }

    fn may_read(&self) -> bool {
        let room = self.state.limits.body_bytes.max(self.state.limits.line_bytes);
        !self.is_ended && self.waiting.is_none() && self.window.len() <= room
    }

    /// The client has done its part for now.
    fn touch(&mut self) {
        self.since = Instant::now();
    }

    /// Waits for what comes next and takes it in. Nothing is lost if this is dropped while it waits.
    async fn read(&mut self) {
        let limits = &self.state.limits;
        let is_silent = self.is_begun && self.window.incomplete() == 0;
        let patience = if is_silent { limits.stream_timeout } else { limits.body_timeout };
        match timeout_at(self.since + patience, self.body.frame()).await {
            Ok(Some(Ok(frame))) => {
                let Ok(data) = frame.into_data() else { return };
                self.waiting = Some(data);
                // So that the last line is cut off with those before it, and a short answer is known to be whole.
                self.is_ended = self.body.is_end_stream();
                // No memory now may be memory later.
                let _waits = self.take_waiting().is_err();
            }
            Ok(None) => self.end(None),
            Ok(Some(Err(error))) => self.end(Some(ApiError::Broken(error.to_string()))),
            Err(_) if is_silent => self.end(Some(ApiError::SilentBody(patience.as_secs_f64()))),
            Err(_) => self.end(Some(ApiError::SlowBody(patience.as_secs_f64()))),
        }
    }

    /// Takes in what found no memory when it came.
    fn take_waiting(&mut self) -> Result<(), ApiError> {
        let Some(data) = &self.waiting else { return Ok(()) };
        let before = self.window.incomplete();
        self.window.push(data, &self.state.budget)?;
        let goes_on = before > 0 && self.window.incomplete() == before + data.len();
        self.waiting = None;
        // All that comes before the end of the first line has one time together.
        if self.is_begun && !goes_on {
            self.touch();
        }
        let limit = self.state.limits.line_bytes;
        if self.window.incomplete() > limit {
            self.end(Some(ApiError::TooLarge(format!("a line is longer than {limit} bytes"))));
        }
        Ok(())
    }

    /// Reads no more. A line that broke off is none.
    fn end(&mut self, failure: Option<ApiError>) {
        if failure.is_some() {
            self.waiting = None;
            self.window.drop_incomplete();
        }
        self.is_ended = true;
        self.failure = failure;
    }
}
