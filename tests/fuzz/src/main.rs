//! Fuzzes the packet parser and the flow engine on the host: the code that the kernel runs, with every arithmetic check
//! switched on (`--profile fuzz`), under frames and clocks that no well-meaning sender makes.
//!
//! Every emitted record is held against the identities of the feature specification and counted again by other code.
//! A run is named by its seed: the same seed gives the same frames on any machine, whatever the number of threads.
//!
//! ```text
//! cargo run --profile fuzz --package ml-ids-fuzz -- --executions 10000000 --seed 1
//! ```

use std::{
    fmt::Write as _,
    fs,
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use anyhow::Context as _;
use clap::Parser;
use ml_ids_common::Skip;
use ml_ids_fuzz::episode::{self, Tally, Watch};

/// Fuzzes the packet parser and the flow engine.
#[derive(Parser)]
struct Arguments {
    /// Frames to run, each under all three profiles; rounded up to whole episodes
    #[arg(long, default_value_t = 10_000_000)]
    executions: u64,
    /// Stop after this many seconds, whether all frames have been run or not
    #[arg(long)]
    seconds: Option<u64>,
    /// Names the run
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run this one episode of the seed and nothing else, to look at a failure again
    #[arg(long)]
    episode: Option<u64>,
    /// Where a failing episode's frames are written
    #[arg(long, default_value = "target/fuzz")]
    out: PathBuf,
}

/// An episode that found a fault.
struct Failure {
    episode: u64,
    message: String,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let started = Instant::now();
    let (tally, failure) = run_all(&arguments, started);
    let Tally { frames, well_formed, in_flow, skipped, emitted, discarded, longest } = tally;
    println!(
        "{frames} executions (seed {}), {well_formed} well-formed, {} s",
        arguments.seed,
        started.elapsed().as_secs()
    );
    println!(
        "packets in flows {in_flow}, flows emitted and recounted {emitted}, discarded {discarded}, longest {longest} packets"
    );
    let reasons: Vec<String> =
        Skip::ALL.iter().zip(skipped).map(|(skip, count)| format!("{} {count}", skip.name())).collect();
    println!("packets skipped: {}", reasons.join(", "));
    if failure.is_none() && arguments.episode.is_none() && frames < arguments.executions {
        println!("SHORT: {frames} of {} executions: the time limit came first", arguments.executions);
    }
    let Some(failure) = failure else { return Ok(ExitCode::SUCCESS) };
    let file = write_down(&arguments, &failure)?;
    eprintln!("episode {} failed: {}", failure.episode, failure.message);
    eprintln!(
        "run it again with: cargo run --profile fuzz --package ml-ids-fuzz -- --seed {} --episode {}",
        arguments.seed, failure.episode
    );
    eprintln!("its frames: {}", file.display());
    Ok(ExitCode::FAILURE)
}

/// Runs episodes on every core until the number is reached or one fails. Of several failures the first episode's wins.
fn run_all(arguments: &Arguments, started: Instant) -> (Tally, Option<Failure>) {
    let (first, episodes) = match arguments.episode {
        Some(episode) => (episode, 1),
        None => (0, arguments.executions.div_ceil(episode::FRAMES)),
    };
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let total = Mutex::new((Tally::default(), None::<Failure>));
    let worker = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let late = arguments.seconds.is_some_and(|limit| started.elapsed().as_secs() >= limit);
            if late || number >= episodes || stop.load(Ordering::Relaxed) {
                return;
            }
            let outcome = guarded(arguments.seed, first + number, &mut ());
            let mut total = total.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match outcome {
                Ok(tally) => total.0.add(&tally),
                Err(failure) => {
                    stop.store(true, Ordering::Relaxed);
                    if total.1.as_ref().is_none_or(|earlier| failure.episode < earlier.episode) {
                        total.1 = Some(failure);
                    }
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(worker);
        }
    });
    total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Runs an episode and turns a panic into a failure.
fn guarded(seed: u64, episode: u64, watch: &mut impl Watch) -> Result<Tally, Failure> {
    let outcome = catch_unwind(AssertUnwindSafe(|| episode::run(seed, episode, watch)));
    let fault = match outcome {
        Ok(Ok(tally)) => return Ok(tally),
        Ok(Err(fault)) => fault,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            format!("panicked: {}", text.unwrap_or("without a message"))
        }
    };
    Err(Failure { episode, message: fault })
}

/// Runs the failing episode once more, noting its frames, and writes them down: a line `microseconds hex` each, the
/// last one being the frame that failed.
fn write_down(arguments: &Arguments, failure: &Failure) -> anyhow::Result<PathBuf> {
    struct Notes(String);
    impl Watch for Notes {
        fn frame(&mut self, now_us: u64, frame: &[u8]) {
            let _ = write!(self.0, "{now_us} ");
            for byte in frame {
                let _ = write!(self.0, "{byte:02x}");
            }
            self.0.push('\n');
        }
    }
    let Arguments { seed, out, .. } = arguments;
    let mut notes = Notes(String::new());
    let _ = guarded(*seed, failure.episode, &mut notes);
    let file = out.join(format!("seed-{seed}-episode-{}.txt", failure.episode));
    let head: String = failure.message.lines().fold(String::new(), |head, line| head + "# " + line + "\n");
    write(&file, &format!("{head}{}", notes.0))?;
    Ok(file)
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
