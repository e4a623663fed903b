//! `cargo xtask image`: builds the container image and tries it out: packets are seen, logs land in the mounted folder, it is
//! healthy, and ends when it is told to. Prints sizes and times.
//!
//! A Docker that answers is used as it is. Otherwise one is unpacked into the cache and runs only for this command, and where no
//! registry can be reached, the base images are made of Debian's packages and this machine's Rust ([`bases`]).

mod bases;
mod compose;
mod engine;
mod exercise;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use engine::Engine;

use crate::{process, workspace};

/// What the image is called.
const TAG: &str = "ml-ids";
/// What the final stage starts from.
const BASE: &str = "debian:bookworm-slim";
/// What stands for the stage `builder`, and how it is made.
const BUILDER: &str = "ml-ids-builder";
const BUILT: &str = "\
FROM debian:bookworm-slim
RUN apt-get update && apt-get install --yes --no-install-recommends binutils ca-certificates libcap2-bin
COPY ml-ids /out/ml-ids
RUN objcopy --strip-debug /out/ml-ids && cat /usr/share/ca-certificates/mozilla/*.crt > /out/ca-certificates.crt \\
    && setcap cap_bpf,cap_net_admin,cap_perfmon=p /out/ml-ids
";
/// Most that the image may add to its base, in bytes.
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
    /// Then bring up all of deploy/compose and use it: registry, store, metrics, alerts
    #[arg(long, conflicts_with = "stage")]
    compose: bool,
}

/// Builds the image, then tries it out.
pub(crate) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if !process::is_root() {
        bail!("Docker and network namespaces take root; run `sudo -E env \"PATH=$PATH\" cargo xtask image`");
    }
    let mut times = Vec::new();
    let mut weight = 0;
    if !arguments.no_build {
        let engine = timed(&mut times, "start Docker", || Engine::start(None))?;
        timed(&mut times, "base images", || bases::provide(&engine, bases_of(arguments)))?;
        timed(&mut times, "build", || build(&engine, arguments))?;
        if arguments.stage.is_some() {
            return Ok(ExitCode::SUCCESS);
        }
        weight = sizes(&engine)?;
    }
    if arguments.compose {
        let engine = Engine::start(None)?;
        timed(&mut times, "build compose", || compose::build(&engine))?;
    }
    // In a namespace of its own: the sensor watches the network that Docker runs in.
    let seen = timed(&mut times, "exercise", exercise::run)?;
    for line in seen {
        println!("{line}");
    }
    if arguments.compose {
        for line in timed(&mut times, "compose", compose::run)? {
            println!("compose: {line}");
        }
    }
    for (what, time) in times {
        println!("{what:<14} {:>7.1} s", time.as_secs_f64());
    }
    ensure!(weight < OWN_LIMIT, "the image adds {weight} bytes to {BASE}, more than {OWN_LIMIT}");
    Ok(ExitCode::SUCCESS)
}

/// A program that is there needs no compiler.
fn bases_of(arguments: &Arguments) -> &'static [&'static str] {
    if arguments.program.is_some() { &[BASE] } else { &[BASE, bases::RUST] }
}

fn build(engine: &Engine, arguments: &Arguments) -> anyhow::Result<()> {
    let mut command = engine.docker(&["build", "--network", "host", "--progress", "plain"]);
    match &arguments.stage {
        Some(stage) => command.args(["--target", stage]),
        None => command.args(["--tag", TAG]),
    };
    if let Some(program) = &arguments.program {
        built(engine, program)?;
        command.args(["--build-context", &format!("builder=docker-image://{BUILDER}")]);
        // Looked up although no stage that is built starts from it.
        command.args(["--build-context", &format!("{}=docker-image://{BASE}", bases::RUST)]);
    }
    process::visible(command.arg(workspace::root()))
}

/// An image that stands for what the stage `builder` of the Dockerfile makes. An image and not a folder, because what is
/// copied from a folder of the host loses its capabilities.
fn built(engine: &Engine, program: &Path) -> anyhow::Result<()> {
    let folder = workspace::target().join("xtask/image-builder");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fs::copy(program, folder.join("ml-ids")).with_context(|| format!("cannot copy {}", program.display()))?;
    fs::write(folder.join("Dockerfile"), BUILT)?;
    let mut command = engine.docker(&["build", "--network", "host", "--progress", "plain", "--tag", BUILDER]);
    process::visible(command.arg(folder))
}

/// Prints what the image weighs. Returns what it adds to its base, in bytes.
fn sizes(engine: &Engine) -> anyhow::Result<u64> {
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
    print!("{}", engine.said(&["history", "--format", "{{.Size}}\t{{.CreatedBy}}", TAG])?);
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    println!(
        "image {:.1} MB: {BASE} {:.1} MB, ours {:.1} MB of which the sensor {:.1} MB",
        megabytes(whole),
        megabytes(base),
        megabytes(whole.saturating_sub(base)),
        megabytes(binary)
    );
    Ok(whole.saturating_sub(base))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_given_is_treated_as_the_dockerfile_treats_its_own() {
        let dockerfile = fs::read_to_string(workspace::root().join("Dockerfile")).unwrap();
        let (_, treated) = BUILT.split_once("RUN objcopy").unwrap();
        for command in format!("objcopy{treated}").split("&&").map(|command| command.trim_matches([' ', '\\', '\n'])) {
            assert!(dockerfile.contains(command), "the Dockerfile has no {command}");
        }
    }
}
