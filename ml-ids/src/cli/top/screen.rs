//! Taking the terminal, the loop, and giving it back whatever happens.

use std::{
    io,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, bail};
use log::LevelFilter;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    client::Client,
    draw::draw,
    input,
    palette::Palette,
    state::{Event, State, Then},
};
use crate::cli::exit::Exit;

/// Times that are shown grow older by themselves.
const REDRAW: Duration = Duration::from_secs(1);

/// Gives the terminal back when dropped. After a panic its hook has done so already; twice does no harm.
struct Taken;

impl Drop for Taken {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Says that a thread has ended, also by a panic.
struct Farewell(Sender<Event>);

impl Drop for Farewell {
    fn drop(&mut self) {
        // Nobody listens when all ends.
        let _ended = self.0.send(Event::Lost).is_err();
    }
}

/// Shows the agent until the user, a signal or a fault ends it.
pub(super) fn show(client: Client, interval: Duration) -> Result<Exit> {
    let (events, happened) = mpsc::channel();
    let (wishes, wished) = mpsc::channel();
    let mut state = State::new(client.server().to_string());
    // Before the terminal is another one, so that no signal finds it unguarded.
    listen_for_signals(events.clone())?;
    // A log line in the middle of the screen helps nobody.
    log::set_max_level(LevelFilter::Off);
    let mut terminal = ratatui::try_init().context("cannot take the terminal")?;
    let taken = Taken;
    let farewell = Farewell(events.clone());
    spawn("ml-ids-ask", move || client.work(interval, &wished, &farewell.0))?;
    let farewell = Farewell(events);
    spawn("ml-ids-keys", move || {
        while let Ok(event) = input::next() {
            if farewell.0.send(event).is_err() {
                break;
            }
        }
    })?;
    let palette = Palette::from_environment();
    let then = loop {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let drawn = terminal.draw(|frame| draw(frame, &state, palette, Instant::now(), unix));
        drawn.context("cannot draw on the terminal")?;
        let event = match happened.recv_timeout(REDRAW) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => break Then::Fail,
        };
        let mut then = state.take(event, Instant::now());
        // All that waits before the next drawing, so that a held key is no queue of drawings.
        while then == Then::Draw
            && let Ok(event) = happened.try_recv()
        {
            then = state.take(event, Instant::now());
        }
        match then {
            Then::Draw => {}
            Then::Ask => drop(wishes.send(state.wanted())),
            Then::Quit | Then::Fail => break then,
        }
    };
    drop(terminal);
    drop(taken);
    if then == Then::Fail {
        bail!("the terminal is gone, or a part of the program has failed");
    }
    Ok(Exit::Done)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    // They end with the process: one of them waits for keys, and nothing but a key wakes it.
    thread::Builder::new().name(name.to_owned()).spawn(work).context("cannot start a thread")?;
    Ok(())
}

/// Turns the signals that would end the process on the spot into an event.
fn listen_for_signals(events: Sender<Event>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let listeners = runtime.block_on(async {
        let of = |kind| signal(kind);
        Ok::<_, io::Error>((of(SignalKind::terminate())?, of(SignalKind::hangup())?, of(SignalKind::interrupt())?))
    });
    let (mut terminate, mut hangup, mut interrupt) = listeners.context("cannot listen for signals")?;
    spawn("ml-ids-signals", move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        // Nobody listens when all ends.
        let _ended = events.send(Event::Stop).is_err();
    })
}
