//! `cargo xtask fuzz`: long runs, guided by coverage (cargo-fuzz). `--stable` takes the runner of the tests instead, which makes
//! inputs without looking at coverage. The targets are the same (`tests/fuzz/targets`).

use std::process::{Command, ExitCode};

use anyhow::Context as _;

use crate::{process, setup::CargoProgram, workspace};

const CARGO_FUZZ: CargoProgram = CargoProgram { name: "cargo-fuzz", version: "0.13.2", options: &[] };
/// Where cargo-fuzz's targets are.
const FOLDER: &str = "tests/fuzz/cargo-fuzz";

/// What to fuzz.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// One target; all of them, one after the other, when none is named
    target: Option<String>,
    /// For how long, each
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// Use the runner of the tests, which needs no instrumented build
    #[arg(long)]
    stable: bool,
    /// Print the targets and end
    #[arg(long)]
    list: bool,
}

/// Builds cargo-fuzz unless it is there.
pub(crate) fn provide() -> anyhow::Result<()> {
    CARGO_FUZZ.provide()
}

/// Fuzzes until the time is over or something is found.
pub(crate) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.list {
        process::visible(runner().arg("--list"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let names = match &arguments.target {
        Some(target) => vec![target.clone()],
        None => targets()?,
    };
    let guided = !arguments.stable;
    if guided {
        provide()?;
    }
    let seconds = arguments.seconds.to_string();
    for name in names {
        if guided {
            guided_run(&name, &seconds)?;
        } else {
            let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs().to_string();
            process::visible(runner().args([&name, "--seconds", &seconds, "--seed", &seed, "--out"]).arg(out()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The stable runner.
pub(crate) fn runner() -> Command {
    process::cargo(["run", "--quiet", "--package", "ml-ids-fuzz-targets", "--"])
}

/// Where findings go.
pub(crate) fn out() -> std::path::PathBuf {
    workspace::target().join("fuzz")
}

fn targets() -> anyhow::Result<Vec<String>> {
    let list =
        process::stdout(runner().arg("--list")).context("the runner does not build; `cargo xtask test build`")?;
    Ok(list.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

/// What it learns is kept in the build output; the corpus of the repository is only read.
fn guided_run(name: &str, seconds: &str) -> anyhow::Result<()> {
    let root = workspace::root();
    let learnt = out().join("corpus").join(name);
    std::fs::create_dir_all(&learnt).with_context(|| format!("cannot create {}", learnt.display()))?;
    // A workspace of its own has a lock file of its own: the same versions are fuzzed as are built.
    std::fs::copy(root.join("Cargo.lock"), root.join(FOLDER).join("Cargo.lock")).context("cannot copy Cargo.lock")?;
    let mut command = Command::new(workspace::cache()?.join("tools/bin/cargo-fuzz"));
    command
        .current_dir(&root)
        // Coverage and sanitizer are nightly's options; the workspace's own compiler takes them when it is told to.
        .env("RUSTC_BOOTSTRAP", "1")
        .args(["run", "--fuzz-dir", FOLDER, "--target-dir"])
        .arg(workspace::target().join("cargo-fuzz"))
        .arg(name)
        .arg(&learnt)
        .arg(root.join("tests/fuzz/corpus").join(name))
        .args(["--", &format!("-max_total_time={seconds}"), "-timeout=20", "-rss_limit_mb=4096"])
        .arg(format!("-artifact_prefix={}/{name}-", out().display()));
    process::visible(&mut command)
}
