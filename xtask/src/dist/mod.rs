//! `cargo xtask dist`: what is handed to others. A tarball and a .deb with the sensor, its unit, configuration, manual pages and
//! completions, the default model, the licences and the list of all that it is made of.
//!
//! The same commit makes the same bytes; `--check` builds it twice, in two folders, and compares. `--exercise` installs the .deb
//! on a fresh Debian 12, uses it and removes it, or runs a program for another processor by emulation.

mod check;
mod compile;
mod contents;
mod dependencies;
mod emulated;
mod exercise;
mod generated;
mod licences;
mod pack;
mod sbom;
#[cfg(test)]
mod service;
mod target;
mod tools;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use compile::Checkout;
use contents::Manifest;
use target::Target;

use crate::{
    bench::{self, Figure},
    setup, workspace,
};

/// What to make.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Processor to make it for [default: that of this machine]
    #[arg(long)]
    target: Option<Target>,
    /// Where it goes [default: target/dist]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Pack this program instead of building one, to try the packaging
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    program: Option<PathBuf>,
    /// Build the commit a second time in another folder, and fail unless both results are the same bytes
    #[arg(long)]
    check: bool,
    /// Install, use and remove the .deb on a fresh Debian (needs root); for another processor: run the program by emulation, and
    /// compare what it says with what this machine's says
    #[arg(long)]
    exercise: bool,
}

/// What was made, and how long each part took.
struct Made {
    tarball: PathBuf,
    deb: PathBuf,
    program: PathBuf,
    figures: Vec<Figure>,
}

/// Makes the packages and prints their sizes and times.
pub(crate) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let target = arguments.target.map_or_else(Target::native, Ok)?;
    let out = arguments.out.clone().unwrap_or_else(|| workspace::target().join("dist"));
    let out = std::path::absolute(&out).with_context(|| format!("cannot tell where {} is", out.display()))?;
    setup::build_tools()?;
    tools::provide()?;
    target.provide()?;
    let mut checkout = Checkout::here()?;
    if arguments.program.is_some() {
        // Apart from what a build has made.
        checkout.target_dir.set_extension("given");
    }
    let mut made = make(&checkout, target, &out, arguments.program.as_deref())?;
    let listed: Vec<PathBuf> = vec![made.deb.clone(), made.tarball.clone()];
    pack::write_sums(&out, &listed)?;
    if arguments.exercise {
        let started = Instant::now();
        if target.is_native() {
            exercise::run(&made.deb)?;
        } else {
            emulated::run(target, &made.program)?;
        }
        made.figures.push(seconds("exercise", started.elapsed()));
    }
    if arguments.check {
        let started = Instant::now();
        check::run(&checkout, target, &listed)?;
        made.figures.push(seconds("second build, compared", started.elapsed()));
    }
    print!("{}", bench::table(&format!("dist {}", target.name()), &made.figures));
    for file in &listed {
        println!("{}  {}", pack::sha256(file)?, file.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the bill of materials of this checkout on this machine.
pub(crate) fn write_bill(file: &Path) -> anyhow::Result<()> {
    let checkout = Checkout::here()?;
    let bill = sbom::bill(&dependencies::list(&checkout, Target::native()?)?, checkout.epoch)?;
    fs::write(file, serde_json::to_vec_pretty(&bill)?).with_context(|| format!("cannot write {}", file.display()))
}

/// Builds a checkout, or takes a program that was built, and packs it.
fn make(checkout: &Checkout, target: Target, out: &Path, given: Option<&Path>) -> anyhow::Result<Made> {
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let manifest = Manifest::read(&checkout.root)?;
    let mut figures = Vec::new();
    let program = match given {
        Some(program) => checkout.take(target, program)?,
        None => timed(&mut figures, "build", || checkout.compile(target))?,
    };
    timed(&mut figures, "manual pages, licences, bill of materials", || {
        generated::make(checkout, target, &program, &manifest)
    })?;
    let files = manifest.files(checkout, target)?;
    let tarball = timed(&mut figures, "tarball", || pack::tarball(checkout, target, &manifest, &files, out))?;
    let deb = timed(&mut figures, ".deb", || pack::deb(checkout, target, &manifest, given.is_some(), out))?;
    for (what, file) in [("program", &program), ("tarball", &tarball), (".deb", &deb)] {
        figures.push(mebibytes(what, file)?);
    }
    Ok(Made { tarball, deb, program, figures })
}

fn timed<T>(figures: &mut Vec<Figure>, what: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let started = Instant::now();
    let done = work()?;
    figures.push(seconds(what, started.elapsed()));
    Ok(done)
}

fn seconds(what: &str, time: Duration) -> Figure {
    Figure::new("dist", what, time.as_secs_f64(), "s")
}

fn mebibytes(what: &str, file: &Path) -> anyhow::Result<Figure> {
    let bytes = fs::metadata(file).with_context(|| format!("cannot look at {}", file.display()))?.len();
    Ok(Figure::new("dist", &format!("size of the {what}"), bytes as f64 / f64::from(1 << 20), "MiB"))
}
