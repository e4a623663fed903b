//! `cargo xtask image`: builds the container image and tries it out: packets are seen, logs land in the mounted folder, it is
//! healthy, and ends when it is told to. Prints sizes and times.
//!
//! A Docker that answers is used as it is. Otherwise one is unpacked into the cache and runs only for this command, and where no
//! registry can be reached, the base images are made of Debian's packages and this machine's Rust ([`bases`]).

mod bases;
mod engine;
mod exercise;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use engine::Engine;

use crate::{process, setup, workspace};

/// What the image is called.
const TAG: &str = "ml-ids";
/// What the final stage starts from.
const BASE: &str = "debian:bookworm-slim";
/// What the Dockerfile gives the program's file, too.
const CAPABILITIES: &str = "cap_bpf,cap_net_admin,cap_perfmon=p";
/// Most that the sensor may add to its base, in bytes.
const OWN_LIMIT: u64 = 60_000_000;

/// What to do.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Try out the image that is there, without building it anew
    #[arg(long)]
    no_build: bool,
    /// Build up to this stage of the Dockerfile and end there, `toolchain` for example
    #[arg(long, value_name = "NAME", conflicts_with = "no_build")]
    stage: Option<String>,
    /// Put this release build of the sensor, made for Debian 12 or older, into the image instead of building one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["no_build", "stage"])]
    program: Option<PathBuf>,
}

/// Builds the image, then tries it out.
pub(crate) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if !process::is_root() {
        bail!("Docker and network namespaces take root; run `sudo -E env \"PATH=$PATH\" cargo xtask image`");
    }
    let mut times = Vec::new();
    if !arguments.no_build {
        let engine = timed(&mut times, "start Docker", || Engine::start(None))?;
        timed(&mut times, "base images", || bases::provide(&engine, arguments.program.is_none()))?;
        timed(&mut times, "build", || build(&engine, arguments))?;
        if arguments.stage.is_some() {
            return Ok(ExitCode::SUCCESS);
        }
        sizes(&engine)?;
    }
    // In a namespace of its own: the sensor watches the network that Docker runs in.
    let seen = timed(&mut times, "exercise", exercise::run)?;
    for line in seen {
        println!("{line}");
    }
    for (what, time) in times {
        println!("{what:<14} {:>7.1} s", time.as_secs_f64());
    }
    Ok(ExitCode::SUCCESS)
}

fn build(engine: &Engine, arguments: &Arguments) -> anyhow::Result<()> {
    let mut command = engine.docker(&["build", "--network", "host", "--progress", "plain"]);
    match &arguments.stage {
        Some(stage) => command.args(["--target", stage]),
        None => command.args(["--tag", TAG]),
    };
    if let Some(program) = &arguments.program {
        command.arg("--build-context").arg(format!("builder={}", built(program)?.display()));
    }
    process::visible(command.arg(workspace::root()))
}

/// A folder that stands for what the stage `builder` of the Dockerfile makes.
fn built(program: &Path) -> anyhow::Result<PathBuf> {
    let folder = workspace::target().join("xtask/image-builder");
    let out = folder.join("out");
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let copy = out.join("ml-ids");
    fs::copy(program, &copy).with_context(|| format!("cannot copy {}", program.display()))?;
    process::visible(Command::new("objcopy").arg("--strip-debug").arg(&copy))?;
    if process::find("setcap").is_none() {
        setup::install_packages(&["libcap2-bin"])?;
    }
    process::visible(Command::new("setcap").arg(CAPABILITIES).arg(&copy))?;
    Ok(folder)
}

/// Prints what the image weighs, and holds our part of it against the limit.
fn sizes(engine: &Engine) -> anyhow::Result<()> {
    let size = |image: &str| -> anyhow::Result<u64> {
        let printed = engine.said(&["image", "inspect", "--format", "{{.Size}}", image])?;
        printed.trim().parse().with_context(|| format!("docker gives {image} the size {printed:?}"))
    };
    let (whole, base) = (size(TAG)?, size(BASE)?);
    let binary = engine.said(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--entrypoint",
        "stat",
        TAG,
        "--format=%s",
        "/usr/local/bin/ml-ids",
    ])?;
    let binary: u64 = binary.trim().parse().context("stat prints no size")?;
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    println!(
        "image {:.1} MB: {BASE} {:.1} MB, ours {:.1} MB of which the sensor {:.1} MB",
        megabytes(whole),
        megabytes(base),
        megabytes(whole.saturating_sub(base)),
        megabytes(binary)
    );
    ensure!(binary < OWN_LIMIT, "the sensor is {:.1} MB, more than {:.0} MB", megabytes(binary), megabytes(OWN_LIMIT));
    Ok(())
}

fn timed<T>(
    times: &mut Vec<(&'static str, Duration)>,
    what: &'static str,
    run: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let started = Instant::now();
    let done = run()?;
    times.push((what, started.elapsed()));
    Ok(done)
}
