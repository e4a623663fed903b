//! `cargo xtask test`: every check and test in a row, a table of what became of each, and a line of totals.
//!
//! A step's output goes to a log; it is shown in full when the step fails. What was skipped is listed with its reason,
//! so that it never reads as passed.

mod junit;
mod object_file;
mod steps;
mod tally;

use std::{
    fs::{self, File},
    io::Read as _,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use steps::{STEPS, Step};
use tally::Tally;

use crate::{setup, workspace};

/// What to test.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Print the steps and end
    #[arg(long)]
    list: bool,
    /// Also write what became of each test to this file, as JUnit's XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Only the steps whose name contains this
    filter: Option<String>,
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    Skipped(String),
}

impl Outcome {
    const fn word(&self) -> &'static str {
        match self {
            Self::Passed => "PASS",
            Self::Failed => "FAIL",
            Self::Skipped(_) => "SKIPPED",
        }
    }
}

/// A step that has been run.
struct Done {
    step: &'static Step,
    outcome: Outcome,
    tally: Tally,
    time: Duration,
    /// What it printed.
    log: String,
}

/// Runs the steps. Fails when any of them fails.
pub(crate) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.list {
        for step in &STEPS {
            println!("{:<12} {}", step.name, step.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let filter = arguments.filter.as_deref().unwrap_or_default();
    let steps: Vec<&'static Step> = STEPS.iter().filter(|step| step.name.contains(filter)).collect();
    if steps.is_empty() {
        bail!("no step's name contains {filter:?}; `cargo xtask test --list` prints them");
    }
    let way = setup::build_tools()?;
    setup::test_tools()?;
    let mut done = Vec::new();
    for step in steps {
        done.push(run(step, way)?);
    }
    if let Some(file) = &arguments.junit {
        let suites = done.iter().map(|Done { step, outcome, time, log, .. }| junit::Suite {
            name: step.name,
            counts: step.counts,
            outcome,
            time: *time,
            log,
        });
        junit::write(file, &suites.collect::<Vec<_>>())?;
    }
    Ok(report(&done))
}

fn run(step: &'static Step, way: setup::Way) -> anyhow::Result<Done> {
    println!("{}: {}", step.name, step.about);
    let path = log_file(step)?;
    let log = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let started = Instant::now();
    let outcome = (step.run)(&steps::Context { log, way });
    let time = started.elapsed();
    let mut text = String::new();
    File::open(&path)
        .and_then(|mut log| {
            let mut bytes = Vec::new();
            log.read_to_end(&mut bytes)?;
            text = String::from_utf8_lossy(&bytes).into_owned();
            Ok(())
        })
        .with_context(|| format!("cannot read {}", path.display()))?;
    let outcome = outcome.unwrap_or_else(|error| {
        text += &format!("{error:#}\n");
        Outcome::Failed
    });
    let tally = Tally::of(step.counts, &outcome, &text);
    if outcome == Outcome::Failed {
        println!("{text}");
    }
    println!("{}: {} in {:.1} s", step.name, outcome.word(), time.as_secs_f64());
    Ok(Done { step, outcome, tally, time, log: text })
}

fn log_file(step: &Step) -> anyhow::Result<PathBuf> {
    let folder = workspace::target().join("xtask");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder.join(format!("test-{}.log", step.name)))
}

fn report(done: &[Done]) -> ExitCode {
    println!("\nlogs: {}\n", workspace::target().join("xtask").display());
    let mut total = Tally::default();
    for Done { step, outcome, tally, time, .. } in done {
        let Tally { passed, failed, skipped, .. } = tally;
        let reason = match outcome {
            Outcome::Skipped(reason) => format!("({reason})"),
            _ => String::new(),
        };
        let line = format!(
            "{:<12} {:<7} {:>7.1} s  {passed} passed, {failed} failed, {} skipped {reason}",
            step.name,
            outcome.word(),
            time.as_secs_f64(),
            skipped
        );
        println!("{}", line.trim_end());
        total.add(tally);
    }
    if !total.reasons.is_empty() {
        println!("\nskipped or cut short:");
        for reason in &total.reasons {
            println!("  {reason}");
        }
    }
    println!("\n{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    let failed = done.iter().any(|done| done.outcome == Outcome::Failed);
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
