//! `ml-ids demo`: the sensor as it is, with a capture in place of an interface. Flows, model, alerts, sinks, API and page
//! are those of `ml-ids run`; it needs no privileges, no network and no data.

mod capture;
mod place;
mod said;
mod view;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::{sync::watch, time::sleep};

use self::{capture::Recording, place::Place, view::DemoView};
use super::{
    events::EventArgs,
    exit::Exit,
    hangup::Hangups,
    judging::{Judging, Setup, close_books},
    keep::{KeepArgs, Models},
    serve::{ListenArgs, reload_access},
    source::ModelArgs,
    wiring::shutdown_signal,
};
use crate::{
    alert::{AlertSettings, LONGEST, store::StoreOptions},
    api::{self, AppState, Limits},
    detect::StatsSnapshot,
    offline::{ReplayOptions, ReplaySensor, Speed},
    privilege::Account,
    respond::Responder,
    sink::{self, EventKind, Hub, Kinds, LogFiles, Rotation},
};

const EXAMPLES: &str = "\
Examples:
  ml-ids demo                             a minute; then open http://127.0.0.1:8000
  ml-ids demo --speed max --once          what is found, as fast as can be
  ml-ids demo --loop --speed 5            on and on, each time with other attackers
  ml-ids demo --listen 127.0.0.1:8080     where another port is free
  ml-ids demo --capture mine.pcap         your own capture as a sensor would have seen it
  ml-ids demo --keep /tmp/demo            keep its logs and alerts";

/// What of the log is shown where `RUST_LOG` does not say: alerts have lines of their own here.
pub(super) const LOG_FILTER: &str = "warn,alert=off,verdict=off,ml_ids::cli::judging=info";
/// Longest time in which what was judged shows.
const SETTLED: Duration = Duration::from_secs(5);
/// Between two looks whether it does.
const LOOK: Duration = Duration::from_millis(50);

/// See what the sensor does: ten minutes of a small network, replayed with everything behind it; needs no privileges
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Seconds of the capture in a second, from 0.1 to 1000, or max for as fast as its flows are judged
    #[arg(long, value_name = "N|max", default_value = "10")]
    speed: Speed,
    /// Replay this capture instead (pcap or pcapng, plain, gzip or zstd)
    #[arg(long, value_name = "FILE")]
    capture: Option<PathBuf>,
    /// End when the capture is over, instead of serving what was found until Ctrl-C
    #[arg(long)]
    once: bool,
    /// Begin again when the capture is over, with other attackers
    #[arg(long = "loop", conflicts_with = "once")]
    again: bool,
    /// Keep logs and alerts there [default: a temporary directory that is removed at the end]
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    #[command(flatten)]
    listen: ListenArgs,
}

/// Runs until the capture is over or SIGINT or SIGTERM comes.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("cannot start")?;
    let ended = runtime.block_on(demo(args));
    runtime.shutdown_background();
    ended
}

async fn demo(args: &Args) -> Result<Exit> {
    let recording = Recording::new(args.capture.clone());
    if args.again && (args.speed == Speed::Max || !recording.can_be_read_again()) {
        eprintln!("error: --loop needs a speed other than max, and a capture that is a file: give --speed 10");
        return Ok(Exit::Usage);
    }
    let capture = match recording.open() {
        Ok(capture) => capture,
        Err(error) => {
            eprintln!("error: {}: {error}", recording.name());
            return Ok(Exit::BadInput);
        }
    };
    let (mut shutdown, hangups) = (shutdown_signal()?, Hangups::listen()?);
    let opened = args.listen.open().await.and_then(|(bound, access)| Ok((bound.listen()?, access)));
    let (listener, access) = match opened {
        Ok(opened) => opened,
        Err(error) => return Ok(error.report()),
    };
    let scheme = if args.listen.tls_cert.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", listener.local_addr().context("cannot tell the port")?);
    let place = Place::new(args.keep.as_deref())?;
    let state = Arc::new(AppState::new(Limits::default(), args.listen.client_time_unit, true).with_access(access));
    reload_access(&state, &hangups);
    let (stop_api, api_stopped) = watch::channel(false);
    let server = tokio::spawn(api::serve(listener, Arc::clone(&state), api_stopped));
    said::begin(&recording, args, &url);

    let (source, keep, account) = (ModelArgs::default(), KeepArgs::default(), Arc::new(Account::current()));
    let models = tokio::select! {
        models = Models::load(&source, &keep, &account, &state, &hangups) => models?,
        _ = shutdown.wait_for(|stop| *stop) => return Ok(Exit::Done),
    };
    let mut running = Running::start(args, &recording, capture, &place, &models, &state)?;
    let recorder = api::record(&state);
    hangups.each({
        let hub = Arc::clone(&running.judging.hub);
        move || hub.reopen()
    });
    let mut over = running.replay.state().over();
    let is_over = tokio::select! {
        over = over.wait_for(|over| *over) => over.is_ok(),
        _ = shutdown.wait_for(|stop| *stop) => false,
    };
    if is_over && !args.once {
        running.settle().await;
        running.tell().await?;
        said::goes_on(&url);
        // The sender lives as long as the process.
        let _ = shutdown.wait_for(|stop| *stop).await;
    }
    recorder.abort();
    let exit = running.stop(args.once).await?;
    // Without receivers the server has ended already.
    let _ = stop_api.send(true);
    server.await.context("the API server failed")?;
    place.leave();
    Ok(exit)
}

/// Everything that runs besides the API.
struct Running {
    replay: ReplaySensor,
    judging: Judging,
    begun: Instant,
    /// What was found is said, and what was wrong with the capture.
    told: bool,
}

impl Running {
    fn start(
        args: &Args,
        recording: &Recording,
        capture: crate::offline::OpenCapture,
        place: &Place,
        models: &Models,
        state: &Arc<AppState>,
    ) -> Result<Self> {
        let eve = Kinds::of(&[EventKind::Alert, EventKind::Stats]);
        let files = LogFiles { negative: false, block: false, eve, rotation: Rotation::default() };
        let logs = sink::log_files(&place.logs(), &files)
            .with_context(|| format!("cannot write to {}; choose another place with --keep", place.logs().display()))?;
        let hub = Arc::new(Hub::start(logs, |_| {}).context("cannot start the thread of a sink")?);
        let (responder, events) = (Arc::new(Responder::default()), EventArgs::default());
        let setup = Setup {
            names: Arc::new(|_| Some(view::INTERFACE.to_owned())),
            events: &events,
            pods: None,
            alerts: AlertSettings { window: window(args.speed), ..AlertSettings::default() },
            store: Some(StoreOptions::new(place.alerts())),
            models,
            linger: Duration::from_micros(args.speed.takes_us(ml_ids_common::LINGER_US)),
        };
        let (mut judging, batches) = Judging::start(setup, hub, responder, state)?;
        if let Some(alerts) = judging.hub.feed().listen(EventKind::Alert) {
            tokio::spawn(said::alerts(alerts));
        }
        let profile = models.handle().current().model.contract().profile;
        let again = args.again.then(|| recording.reopen());
        let replay = ReplaySensor::start(capture, ReplayOptions { profile, speed: args.speed, again }, batches)
            .context("cannot start the thread of the replay")?;
        let view = Arc::new(DemoView { replay: replay.state(), speed: args.speed });
        state.set_flow_source(Arc::<DemoView>::clone(&view));
        judging.show(view, &events, state);
        Ok(Self { replay, judging, begun: Instant::now(), told: false })
    }

    /// Waits until every flow has its verdict and every alert knows of its flows.
    async fn settle(&self) {
        let (state, begun) = (self.replay.state(), Instant::now());
        while begun.elapsed() < SETTLED {
            let StatsSnapshot { scored, other_protocol, failed, alerts, .. } = self.judging.stats.snapshot();
            let shown: u64 = match said::found(&self.judging.board).await {
                Ok(found) => found.iter().map(|stored| stored.alert.count).sum(),
                Err(_) => 0,
            };
            if scored + other_protocol + failed == state.counters().flows.emitted && shown == alerts {
                return;
            }
            sleep(LOOK).await;
        }
    }

    /// Says what has been found, and what was wrong with the capture.
    async fn tell(&mut self) -> Result<()> {
        self.told = true;
        let state = self.replay.state();
        said::over(&state, &self.judging.stats.snapshot(), self.begun.elapsed());
        said::table(&said::found(&self.judging.board).await?)?;
        said::damage(&state);
        Ok(())
    }

    /// Ends the capture, and says what has been found if that is still to be said.
    async fn stop(self, tell: bool) -> Result<Exit> {
        let Self { replay, judging, begun, told } = self;
        let (state, board) = (replay.state(), Arc::clone(&judging.board));
        let (report, verdicts) = judging.finish(move || replay.stop()).await?;
        if tell {
            said::over(&state, &verdicts, begun.elapsed());
            said::table(&said::found(&board).await?)?;
        }
        close_books(&state.counters(), &report, &verdicts);
        if !told {
            said::damage(&state);
        }
        Ok(if state.damage().is_some() { Exit::BadInput } else { Exit::Done })
    }
}

/// How long an alert waits for a further flow: as long as usual by the capture's clock.
fn window(speed: Speed) -> Duration {
    let usual = AlertSettings::default().window;
    match speed {
        Speed::Times(times) => usual.div_f64(times).clamp(Duration::from_secs(1), LONGEST),
        Speed::Max => usual,
    }
}
