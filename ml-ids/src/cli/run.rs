//! `ml-ids run`: the live sensor and the API.
//!
//! The address comes first, so that mistakes show at once; the model comes before the capture, because its profile decides
//! where flows end. Then the rights that all this took end, and only then does anybody get in.

mod args;
mod dry_run;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use log::{info, warn};
use ml_ids_common::{Counters, Profile};
use tokio::{sync, task::JoinHandle, time::interval};

pub(super) use self::args::Args;
use super::{
    exit::Exit,
    hangup::Hangups,
    judging::{Judging, Setup, close_books},
    keep::Models,
    presence::{PERIOD, Presence},
    privileges::{self, Rights},
    serve::reload_access,
    wiring::{FlowView, shutdown_signal},
};
use crate::{
    api::{self, AppState, Limits},
    kubernetes::Pods,
    privilege::Kept,
    respond::{BlockOptions, BlockState, Responder},
    sensor::{Drain, Options, Sensor, SensorError, SensorState, Watch, default_interface, use_permitted},
    sink::{self, Connected, Hub},
};

/// Runs until SIGINT or SIGTERM.
pub(super) fn run(args: Args) -> Result<Exit> {
    // Before there are other threads, which would not get them; a dry run judges by the rights that the sensor would have.
    if let Err(error) = use_permitted() {
        warn!("capabilities that the program's file permits are of no use: {error}");
    }
    if args.dry_run {
        return dry_run::dry_run(args);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let ended = runtime.block_on(watch_interfaces(args));
    // A model that is still loading, from a pipe that nobody writes for example, is not waited for.
    runtime.shutdown_background();
    ended
}

async fn watch_interfaces(mut args: Args) -> Result<Exit> {
    if args.interfaces.is_empty() {
        match default_interface() {
            Ok(name) => args.interfaces.push(name),
            Err(error) => return Ok(usage(&error)),
        }
    }
    let mut rights = match args.privileges.rights() {
        Ok(rights) => rights,
        Err(error) => return Ok(privileges::report(&error)),
    };
    let further = match args.sinks.open() {
        Ok(further) => further,
        Err(error) => return Ok(usage(&error)),
    };
    let (mut shutdown, hangups) = (shutdown_signal()?, Hangups::listen()?);
    let (bound, access) = match args.listen.open().await {
        Ok(open) => open,
        Err(error) => return Ok(error.report()),
    };
    let state = Arc::new(AppState::new(Limits::default(), args.listen.client_time_unit, true).with_access(access));
    reload_access(&state, &hangups);
    rights.listening(&args.listen);
    rights.models(&args.model, args.keep.shadow());

    let pods = match args.kubernetes.follow(&mut rights).await {
        Ok(pods) => pods,
        Err(error) => return Ok(usage(&error)),
    };
    let account = rights.account();
    let loading = tokio::select! {
        models = Models::load(&args.model, &args.keep, &account, &state, &hangups) => Some(models),
        _ = shutdown.wait_for(|stop| *stop) => None,
    };
    let models = match loading {
        None => return Ok(Exit::Done),
        Some(Err(error)) => {
            eprintln!("error: {error:#}");
            return Ok(Exit::BadInput);
        }
        Some(Ok(models)) => models,
    };
    let (running, kept) = match start(&args, further, pods, &models, &state, &hangups, &mut rights) {
        Ok(started) => started,
        Err(error) => {
            return match error.downcast_ref::<SensorError>() {
                Some(SensorError::Interface(missing)) => Ok(usage(missing)),
                _ => Err(error),
            };
        }
    };
    // From here on nothing can be loaded, no other user's file opened, and nothing of that had again.
    let listener = match rights.end(&kept, &state).map(|()| bound.listen()) {
        Ok(Ok(listener)) => listener,
        Ok(Err(error)) => {
            running.stop(None).await?;
            return Ok(error.report());
        }
        Err(error) => {
            running.stop(None).await?;
            return Err(error);
        }
    };
    let reporting = report_presence(Arc::clone(&running.presence), running.drain.state());
    let (stop_api, api_stopped) = sync::watch::channel(false);
    let server = tokio::spawn(api::serve(listener, Arc::clone(&state), api_stopped));
    let recording = api::record(&state);
    // The sender lives as long as the process; an error would mean that it is ending anyway.
    let _ = shutdown.wait_for(|stop| *stop).await;
    recording.abort();
    running.stop(Some(reporting)).await?;
    // Without receivers the server has ended already.
    let _ = stop_api.send(true);
    server.await.context("the API server failed")?;
    Ok(Exit::Done)
}

fn usage(error: &impl std::fmt::Display) -> Exit {
    eprintln!("error: {error}");
    Exit::Usage
}

/// Everything that runs besides the API.
struct Running {
    drain: Drain,
    judging: Judging,
    presence: Arc<Mutex<Presence>>,
}

/// How the sensor is set up for a model of this profile.
fn options(args: &Args, profile: Profile) -> Options {
    Options {
        profile,
        decap: args.decap.tunnels(),
        max_flows: args.max_flows,
        ring_bytes: args.ring_bytes,
        linger: args.linger,
        sweep_interval: args.sweep_interval,
        pin: args.pin.then(|| args.pin_dir.clone()),
        filter: args.response.filter(),
    }
}

/// What is watched.
fn watch(args: &Args) -> Watch {
    Watch { interfaces: args.interfaces.clone(), attach: args.attach, wait: args.wait_for_interface }
}

/// Starts everything but the API, with the rights of the start. Returns what has to be kept of them, too.
fn start(
    args: &Args,
    further: Connected,
    pods: Option<Arc<Pods>>,
    models: &Models,
    state: &AppState,
    hangups: &Hangups,
    rights: &mut Rights,
) -> Result<(Running, Vec<Kept>)> {
    let account = rights.account();
    rights.folder(&args.log_dir, 0o755, "--log-dir")?;
    let store = args.alerts_kept.store();
    if let Some(folder) = store.as_ref().and_then(|store| store.path.parent()) {
        rights.folder(folder, 0o750, "--state-dir or --alert-db")?;
    }
    let options = options(args, models.handle().current().model.contract().profile);
    let sensor = Sensor::start(&watch(args), &options)?;
    let sensor_state = sensor.state();
    let names = Arc::clone(&sensor_state);
    let block = args.response.block();
    let files = args.sinks.log_files(args.log_negative_predictions, block.is_some());
    let mut connected = account.with_files(|| sink::log_files(&args.log_dir, &files)).flatten().with_context(|| {
        format!("cannot write logs to {}; choose another place with --log-dir", args.log_dir.display())
    })?;
    connected.extend(further);
    let journal = sensor.journal();
    let hub = Arc::new(
        Hub::start(connected, move |records| journal.count_judged(records))
            .context("cannot start the thread of a sink")?,
    );
    let reopened = Arc::clone(&hub);
    hangups.each(move || reopened.reopen());
    let block = block.map(|options| sensor.filter_maps().map(|maps| (options, maps))).transpose()?;
    let responder = Arc::new(Responder::start(args.response.allow(), block, &hub)?);
    let setup = Setup {
        names: Arc::new(move |index| names.interface_name(index)),
        events: &args.events,
        pods,
        alerts: args.alert_rules.settings(),
        store,
        models,
        linger: args.linger,
    };
    let (mut judging, batches) = account.with_files(|| Judging::start(setup, hub, Arc::clone(&responder), state))??;
    let table = Mutex::new(sensor.live_flows(&options)?);
    state.set_flow_source(Arc::new(FlowView { table, state: Arc::clone(&sensor_state) }));
    let presence = account.with_files(|| Presence::begin(&args.log_dir, args.pin))?;
    let presence = Arc::new(Mutex::new(presence));
    let kept = sensor.hand_over(&account)?;
    rights.own(sensor.folders());
    rights.own(responder.hand_over(&account).context("cannot give the list of blocked sources to the account")?);
    let drain = sensor.drain(&options, batches)?;
    info!(
        "a table of {} flows takes {:.0} MiB of kernel memory with its buffers",
        args.max_flows,
        sensor_state.memory_bytes() as f64 / f64::from(1 << 20)
    );
    warn_of_blocking(&responder, &sensor_state);
    judging.show(sensor_state, &args.events, state);
    info!("logs go to {}; stop with Ctrl-C", args.log_dir.display());
    Ok((Running { drain, judging, presence }, kept))
}

/// Notes every few seconds how many flows a kill would lose.
fn report_presence(presence: Arc<Mutex<Presence>>, state: Arc<SensorState>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut ticks = interval(PERIOD);
        loop {
            ticks.tick().await;
            presence.lock().unwrap_or_else(PoisonError::into_inner).update(state.live_flows());
        }
    })
}

/// Says what is going to happen to packets, and where it cannot.
fn warn_of_blocking(responder: &Responder, state: &SensorState) {
    let Some(BlockState { options, .. }) = responder.state() else { return };
    let BlockOptions { threshold, ttl, max, dry_run, .. } = options;
    warn!(
        "sources of alerts of at least {threshold} are {} for {}, {max} at most; `ml-ids block` shows and ends it",
        if dry_run { "counted but not blocked (dry run)" } else { "blocked" },
        humantime::format_duration(ttl),
    );
    for interface in state.interfaces().iter().filter(|interface| interface.egress.is_none()) {
        warn!("what {} receives is taken for a copy (mirror mode): dropping it keeps nobody out", interface.name);
    }
}

impl Running {
    /// Detaches and flushes what is not pinned, judges what is left, and closes the books.
    /// `reporting` keeps the presence up to date.
    async fn stop(self, reporting: Option<JoinHandle<()>>) -> Result<()> {
        let Self { drain, judging, presence } = self;
        if let Some(reporting) = reporting {
            reporting.abort();
            // Ends by being aborted; what matters is that it writes no more.
            let _ = reporting.await;
        }
        let state = drain.state();
        let pinned_at = drain.pinned_at().map(Path::to_owned);
        let (report, verdicts) = judging.finish(move || drain.stop()).await?;
        let counters = settled_counters(&state);
        let live = counters.flows.opened.saturating_sub(counters.flows.ended());
        presence.lock().unwrap_or_else(PoisonError::into_inner).end(live);
        let (open, then) = if report.pinned {
            (live, "stay open in the pinned table")
        } else {
            (report.flushed, "still open and flushed")
        };
        info!(
            "{} packets received, {} sent; {} flows opened, {open} {then}, {} judged, {} alerts",
            counters.ingress.seen, counters.egress.seen, counters.flows.opened, verdicts.scored, verdicts.alerts
        );
        close_books(&counters, &report, &verdicts);
        if let Some(place) = pinned_at {
            info!(
                "the programs stay attached and go on counting, pinned at {}; `ml-ids unpin` removes them",
                place.display()
            );
        }
        let (flows, before) = (&counters.flows, &state.counters_at_start().flows);
        let (lost, lost_packets) =
            (flows.lost_ring_full - before.lost_ring_full, flows.lost_packets - before.lost_packets);
        if lost > 0 {
            warn!(
                "{lost} flows with {lost_packets} packets were lost because the ring buffer was full; make it larger with --ring-bytes"
            );
        }
        let (evicted, evicted_packets) =
            (flows.evicted - before.evicted, flows.evicted_packets - before.evicted_packets);
        if evicted > 0 {
            warn!(
                "{evicted} flows with {evicted_packets} packets made room in a full flow table without being judged; make it larger with --max-flows"
            );
        }
        Ok(())
    }
}

/// The counters, read again while a pinned hook is counting between two of them.
fn settled_counters(state: &SensorState) -> Counters {
    const TRIES: u32 = 100;
    let mut counters = state.counters();
    for _ in 0..TRIES {
        if counters.ingress.balanced() && counters.egress.balanced() {
            break;
        }
        counters = state.counters();
    }
    counters
}
