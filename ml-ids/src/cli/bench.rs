//! `ml-ids bench`, hidden: the measurements behind `cargo xtask bench`, one JSON line a figure.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use clap::ValueEnum;

use super::exit::Exit;
use crate::{
    features::{FEATURE_COUNT, FeatureVector},
    model::{Model, Source},
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
    traffic: TrafficArgs,
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
    /// Flows per second of scoring
    Score,
    /// What this kernel's verifier makes of each program
    Verify,
    /// Send live frames through an interface
    Generate,
}

/// Prints the figures.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let mut failed = None;
    let mut report = |figure: Figure| match serde_json::to_string(&figure) {
        Ok(line) => println!("{line}"),
        Err(error) => failed = Some(error),
    };
    match args.what {
        What::Kernel => kernel(&mut report)?,
        What::Verify => verify(&mut report)?,
        What::Generate => generate(&args.traffic, &mut report)?,
        What::Score => score(&Model::load(&args.model)?, &mut report)?,
    }
    failed.map_or(Ok(Exit::Done), |error| Err(anyhow!(error)))
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

fn score(model: &Model, report: &mut impl FnMut(Figure)) -> Result<()> {
    let rows = rows();
    for batch in [1, 16, 256, 4096] {
        let mut best = 0.0_f64;
        // A batch of one is slow enough for fewer rows.
        let rows = rows.get(..if batch == 1 { ROWS / 8 } else { ROWS }).unwrap_or(&rows);
        for _ in 0..ROUNDS {
            let started = Instant::now();
            for chunk in rows.chunks(batch) {
                black_box(model.score(black_box(chunk))?);
            }
            best = best.max(rows.len() as f64 / started.elapsed().as_secs_f64());
        }
        report(Figure { bench: "score", figure: format!("batch {batch}"), value: best, unit: "flows/s" });
    }
    Ok(())
}

/// Made-up rows whose values spread over the magnitudes that flows have, so that trees are walked along many paths.
fn rows() -> Vec<FeatureVector> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut value = || {
        let magnitude = (next() % 28) as i32;
        if magnitude < 6 { 0.0 } else { ((next() % 1000) as f64 / 1000.0) * 2.0_f64.powi(magnitude) }
    };
    (0..ROWS).map(|_| std::array::from_fn::<f64, FEATURE_COUNT, _>(|_| value())).collect()
}
