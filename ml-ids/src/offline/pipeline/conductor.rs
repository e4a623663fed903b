//! What must happen in order, by the calling thread: replay and emission.

use std::{io::Read, panic::resume_unwind};

use ml_ids_common::FlowRecord;

use super::{
    super::{CaptureError, Replay},
    Locked, Parsed, Shared,
};

/// The calling thread's part: everything that must happen in order.
pub(super) struct Conductor<'a, 'b, R, T, D, M> {
    shared: &'a Shared<'b, R, T, D>,
    emit: M,
    /// Finished flows of a batch that is not complete.
    records: Vec<FlowRecord>,
    batch: usize,
}

impl<'a, 'b, R: Read, T, E, D: Fn(Vec<FlowRecord>) -> T, M: FnMut(T) -> Result<(), E>> Conductor<'a, 'b, R, T, D, M> {
    pub(super) fn new(shared: &'a Shared<'b, R, T, D>, emit: M, batch: usize) -> Self {
        Self { shared, emit, records: Vec::new(), batch }
    }

    /// Replays to the end of the capture.
    pub(super) fn run(mut self, replay: &mut Replay) -> Result<Option<CaptureError>, E> {
        let damage = loop {
            let Parsed { frames, end } = self.next_parsed()?;
            replay.frames(&frames, &mut |record| self.record(record))?;
            {
                let mut state = self.shared.lock();
                state.spare_frames.push(frames);
            }
            if let Some(end) = end {
                break end.err();
            }
        };
        replay.end(&mut |record| self.record(record))?;
        self.submit()?;
        let mut state = self.shared.lock();
        while state.digested.next < state.next_digest {
            state = self.advance(state)?;
        }
        Ok(damage)
    }

    fn next_parsed(&mut self) -> Result<Parsed, E> {
        let mut state = self.shared.lock();
        loop {
            if let Some((_, parsed)) = state.parsed.take() {
                self.shared.wake(&state);
                return Ok(parsed);
            }
            state = self.advance(state)?;
        }
    }

    fn record(&mut self, record: FlowRecord) -> Result<(), E> {
        self.records.push(record);
        if self.records.len() < self.batch { Ok(()) } else { self.submit() }
    }

    /// Has the batch digested.
    fn submit(&mut self) -> Result<(), E> {
        if self.records.is_empty() {
            return Ok(());
        }
        let records = core::mem::replace(&mut self.records, Vec::with_capacity(self.batch));
        let mut state = self.shared.lock();
        while state.next_digest - state.digested.next >= self.shared.window {
            state = self.advance(state)?;
        }
        let number = state.next_digest;
        state.next_digest += 1;
        state.undigested.push_back((number, records));
        self.shared.wake(&state);
        Ok(())
    }

    /// Emits what is next, else does a step that is due, else waits for the others.
    fn advance<'c>(&mut self, mut state: Locked<'c, R, T>) -> Result<Locked<'c, R, T>, E>
    where
        'a: 'c,
    {
        let shared = self.shared;
        if let Some((_, digested)) = state.digested.take() {
            drop(state);
            (self.emit)(digested)?;
            return Ok(shared.lock());
        }
        if let Some(panic) = state.panic.take() {
            drop(state);
            resume_unwind(panic);
        }
        Ok(match state.take(shared.window, shared.read_at.is_some()) {
            Some(step) => shared.work(step, state),
            None => shared.sleep(state),
        })
    }
}
