//! `cargo xtask bench`: figures of a release build, as tables or as one JSON line a figure.

mod api;
mod big_capture;
mod figure;
mod live;
mod measure;
mod offline;
mod page;
mod page_alerts;
mod score;
mod traffic;

use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};
pub(crate) use figure::{Figure, table};

use crate::{process, setup, workspace};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// One bench; all of them when none is named
    bench: Option<Bench>,
    /// One JSON object a line and figure instead of tables
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Bench {
    /// Cost of the kernel programs, a packet (needs root)
    Kernel,
    /// Packets a CPU second from a capture to features, beside tcpdump and others
    #[value(alias = "extract")]
    Offline,
    /// Loss, CPU time and memory of the live sensor at rising rates (needs root)
    Live,
    /// Flows scored a CPU second, beside onnxruntime and scikit-learn (needs `setup --tests`)
    Score,
    /// What an open page costs a sensor with 100,000 open flows and 1,000 alerts (needs root)
    Page,
    /// Answers of `/predict` a second and their times with 256 clients, beside a server that only parses the JSON
    Api,
}

impl Bench {
    const ALL: [Self; 6] = [Self::Kernel, Self::Offline, Self::Live, Self::Page, Self::Score, Self::Api];

    const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Offline => "offline",
            Self::Live => "live",
            Self::Score => "score",
            Self::Page => "page",
            Self::Api => "api",
        }
    }
}

/// Builds a release and measures it.
pub(crate) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    setup::build_tools()?;
    process::visible(&mut process::cargo(["build", "--release", "--package", "ml-ids"]))?;
    let benches = arguments.bench.map_or_else(|| Bench::ALL.to_vec(), |bench| vec![bench]);
    let mut failed = false;
    for bench in benches {
        let figures = match bench {
            Bench::Offline => offline::run(),
            Bench::Live => live::run(),
            Bench::Score => score::run(),
            Bench::Page => page::run(),
            Bench::Api => api::run(),
            Bench::Kernel => kernel(),
        };
        match figures {
            Ok(figures) if arguments.json => figures.iter().for_each(|figure| println!("{}", figure.to_json())),
            Ok(figures) => print!("{}", table(bench.name(), &figures)),
            Err(error) => {
                eprintln!("bench {} failed: {error:#}", bench.name());
                failed = true;
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What the verifier makes of the programs (length, stack, time), and what they cost a packet.
fn kernel() -> anyhow::Result<Vec<Figure>> {
    let mut figures = ask_the_agent("verify")?;
    figures.extend(ask_the_agent("kernel")?);
    Ok(figures)
}

/// Benches that run inside the agent: it prints a JSON line a figure.
fn ask_the_agent(what: &str) -> anyhow::Result<Vec<Figure>> {
    let mut command = Command::new(workspace::agent("release"));
    command.args(["bench", what, "--json"]);
    figures_of(command)
}

/// What a program prints, a JSON line a figure.
fn figures_of(mut command: Command) -> anyhow::Result<Vec<Figure>> {
    command.stderr(std::process::Stdio::inherit());
    let output = command.output().with_context(|| format!("cannot start {}", process::shown(&command)))?;
    if !output.status.success() {
        bail!("{} failed ({})", process::shown(&command), output.status);
    }
    let text = String::from_utf8(output.stdout).context("what it printed is not UTF-8")?;
    let figures: Vec<Figure> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            Figure::from_json(line)
                .with_context(|| format!("{} printed something else than a figure: {line}", process::shown(&command)))
        })
        .collect::<anyhow::Result<_>>()?;
    if figures.is_empty() {
        bail!("{} printed no figure", process::shown(&command));
    }
    Ok(figures)
}
