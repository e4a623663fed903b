//! Runs the corpus of every target, then mutations of it for a while, on any stable toolchain.
//!
//! ```text
//! cargo run --package ml-ids-fuzz-targets -- --seconds 60
//! cargo run --package ml-ids-fuzz-targets -- pcap target/fuzz/pcap-0123456789abcdef     a finding again
//! ```
//!
//! The `dev` profile has every arithmetic check on and optimised dependencies.

mod guard;
mod mutation;

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::Parser;
use guard::Guard;
use ml_ids_fuzz::random::Random;
use ml_ids_fuzz_targets::{TARGETS, Target, find};

/// Fuzzes what strangers send.
#[derive(Parser)]
struct Arguments {
    /// One target; all of them when none is named
    target: Option<String>,
    /// Run these files and nothing else
    files: Vec<PathBuf>,
    /// For how long inputs are made by mutation, all targets together
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Names the mutations
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where findings are written
    #[arg(long, default_value = "target/fuzz")]
    out: PathBuf,
    /// Print the targets and end
    #[arg(long)]
    list: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.list {
        for target in &TARGETS {
            println!("{:<8} {}", target.name, target.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let targets: Vec<&'static Target> = match &arguments.target {
        Some(name) => vec![find(name).with_context(|| format!("no target is called {name}; --list prints them"))?],
        None => TARGETS.iter().collect(),
    };
    let guard = Guard::start(&arguments.out);
    let time = Duration::from_secs(arguments.seconds) / u32::try_from(targets.len()).unwrap_or(u32::MAX);
    for target in targets {
        let corpus = if arguments.files.is_empty() { corpus(target)? } else { read(&arguments.files)? };
        let run = |input: &[u8]| guarded(&guard, target, input);
        let started = Instant::now();
        let mut inputs = 0_u64;
        let mut failure = corpus.iter().find_map(|input| run(input).err().map(|fault| (input.clone(), fault)));
        if arguments.files.is_empty() {
            let mut random = Random::new(arguments.seed, 0);
            while failure.is_none() && started.elapsed() < time {
                let input = mutation::mutated(&mut random, target, &corpus);
                inputs += 1;
                failure = run(&input).err().map(|fault| (input, fault));
            }
        }
        let (seeds, seconds) = (corpus.len(), started.elapsed().as_secs());
        println!("{:<8} {seeds} inputs of the corpus, {inputs} made of them, {seconds} s", target.name);
        if let Some((input, fault)) = failure {
            let file = guard::write_down(&arguments.out, target.name, &input)?;
            eprintln!("{} failed: {fault}", target.name);
            eprintln!(
                "run it again with: cargo run --package ml-ids-fuzz-targets -- {} {}",
                target.name,
                file.display()
            );
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs an input and turns a panic into a fault.
fn guarded(guard: &Guard, target: &Target, input: &[u8]) -> Result<(), String> {
    guard.begin(target.name, input);
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    guard.end();
    outcome.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message").to_owned()
    })
}

/// The files of the target's folder, and those of the repository that serve as well.
fn corpus(target: &Target) -> anyhow::Result<Vec<Vec<u8>>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let folder = root.join("tests/fuzz/corpus").join(target.name);
    let mut files = target.seeds.iter().map(|seed| root.join(seed)).collect::<Vec<_>>();
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        files.push(entry?.path());
    }
    if files.is_empty() {
        bail!("{} holds no seed", folder.display());
    }
    // The same order on every machine: a seed names a run.
    files.sort();
    read(&files)
}

fn read(files: &[PathBuf]) -> anyhow::Result<Vec<Vec<u8>>> {
    files.iter().map(|file| fs::read(file).with_context(|| format!("cannot read {}", file.display()))).collect()
}
