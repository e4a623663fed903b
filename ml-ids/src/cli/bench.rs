//! `ml-ids bench`, hidden: the measurements behind `cargo xtask bench`, one JSON line a figure.

use std::{
    fs,
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;

use super::{
    exit::{Exit, is_broken_pipe},
    load, speed,
};
use crate::{
    features::{FEATURE_COUNT, FeatureVector},
    model::{InstructionSet, Model, Source},
    sensor::{
        bench::{Figure, Generator, Traffic, kernel},
        verify::verify,
    },
};

/// Rows of a scoring measurement.
const ROWS: usize = 16_384;
/// Measurements of which the best is taken.
const ROUNDS: usize = 5;

/// Measure
#[derive(clap::Args)]
pub(super) struct Args {
    /// What to measure
    what: What,
    /// Model to score with
    #[arg(long, default_value = "embedded")]
    model: Source,
    /// One JSON line a figure (the only format; accepted for symmetry)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    score: ScoreArgs,
    #[command(flatten)]
    traffic: TrafficArgs,
    #[command(flatten)]
    clients: ClientArgs,
}

/// What `clients` ask.
#[derive(clap::Args)]
struct ClientArgs {
    /// Server to ask
    #[arg(long, default_value = "127.0.0.1:8000")]
    address: SocketAddr,
    /// Connections
    #[arg(long, default_value_t = 256)]
    count: usize,
}

/// What `score` scores.
#[derive(clap::Args)]
struct ScoreArgs {
    /// Rows of 78 little-endian float64 [default: made up]
    #[arg(long)]
    rows: Option<PathBuf>,
    /// Where the class of each row goes, one a line; `.` and the instruction set are appended
    #[arg(long)]
    classes: Option<PathBuf>,
}

/// What `generate` sends.
#[derive(clap::Args)]
struct TrafficArgs {
    /// Interface to send through
    #[arg(long, default_value = "cli0")]
    interface: String,
    /// Flows at a time
    #[arg(long, default_value_t = 10_000)]
    flows: u64,
    /// Packets of a flow
    #[arg(long, default_value_t = 1 << 40)]
    packets: u64,
    /// First byte of the source addresses
    #[arg(long, default_value_t = 10)]
    network: u8,
    /// Packets a second [default: as many as possible]
    #[arg(long)]
    rate: Option<u64>,
    /// How long
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Nanoseconds a packet in the kernel, beside an empty and a floor program
    Kernel,
    /// Flows per second of scoring, on each instruction set
    Score,
    /// What this kernel's verifier makes of each program
    Verify,
    /// Send live frames through an interface
    Generate,
    /// Serve HTTP that parses JSON and does nothing with it
    Bare,
    /// Post single flows to a server from many connections
    Clients,
}

/// Prints the figures.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let mut failed = None;
    let mut report = |figure: Figure| {
        let written = serde_json::to_string(&figure).map_err(anyhow::Error::from);
        if let Err(error) = written.and_then(|line| Ok(writeln!(io::stdout(), "{line}")?)) {
            failed.get_or_insert(error);
        }
    };
    match args.what {
        What::Kernel => kernel(&mut report)?,
        What::Verify => verify(&mut report)?,
        What::Bare => load::bare()?,
        What::Clients => clients(&args.clients, args.traffic.seconds, &mut report)?,
        What::Generate => generate(&args.traffic, &mut report)?,
        What::Score => score(Model::load(&args.model)?, &args.score, &mut report)?,
    }
    failed.filter(|error| !is_broken_pipe(error)).map_or(Ok(Exit::Done), Err)
}

fn clients(args: &ClientArgs, seconds: f64, report: &mut impl FnMut(Figure)) -> Result<()> {
    let seen = load::clients(args.address, args.count, Duration::try_from_secs_f64(seconds)?)?;
    let mut figure =
        |name: &str, value, unit| report(Figure { bench: "clients", figure: name.to_owned(), value, unit });
    figure("rate", seen.rate, "requests/s");
    figure("p50", seen.median.as_secs_f64() * 1e3, "ms");
    figure("p99", seen.p99.as_secs_f64() * 1e3, "ms");
    Ok(())
}

fn generate(args: &TrafficArgs, report: &mut impl FnMut(Figure)) -> Result<()> {
    let &TrafficArgs { ref interface, flows, packets, network, rate, seconds } = args;
    let mut generator = Generator::new(interface, Traffic { flows, packets, network, rate })?;
    let (sent, time) = generator.run(Duration::try_from_secs_f64(seconds)?)?;
    let mut figure =
        |name: &str, value, unit| report(Figure { bench: "generate", figure: name.to_owned(), value, unit });
    figure("sent", sent as f64, "packets");
    figure("rate", sent as f64 / time.as_secs_f64(), "packets/s");
    Ok(())
}

/// The model on each instruction set that this CPU has.
fn score(mut model: Model, args: &ScoreArgs, report: &mut impl FnMut(Figure)) -> Result<()> {
    let rows = match &args.rows {
        Some(path) => read_rows(path)?,
        None => speed::rows(ROWS),
    };
    for instructions in InstructionSet::ALL.into_iter().filter(|set| set.is_available()) {
        model = model.on(instructions);
        for batch in [1, 16, 256, 4096] {
            // A batch of one is slow enough for fewer rows.
            let rows = rows.get(..if batch == 1 { rows.len() / 8 } else { rows.len() }).unwrap_or(&rows);
            let value = speed::rate(&model, rows, batch, ROUNDS)?;
            report(Figure {
                bench: "score",
                figure: format!("{instructions}, batch {batch}"),
                value,
                unit: "flows/CPU s",
            });
        }
        if let Some(path) = &args.classes {
            let path = format!("{}.{instructions}", path.display());
            let classes: Vec<String> = model.score(&rows)?.iter().map(|score| score.class.to_string()).collect();
            fs::write(&path, classes.join("\n")).with_context(|| format!("cannot write {path}"))?;
        }
    }
    Ok(())
}

/// Rows of 78 little-endian float64, one behind the other.
fn read_rows(path: &Path) -> Result<Vec<FeatureVector>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (values, rest) = bytes.as_chunks();
    let values: Vec<f64> = values.iter().map(|value| f64::from_le_bytes(*value)).collect();
    let (rows, values) = values.as_chunks();
    ensure!(
        rest.is_empty() && values.is_empty() && !rows.is_empty(),
        "{} does not hold rows of {FEATURE_COUNT} float64",
        path.display()
    );
    Ok(rows.to_vec())
}
