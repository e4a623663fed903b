//! `cargo xtask vm-test`: the sensor on the kernels of several Debian releases, each in an emulated machine.
//!
//! Kernels, emulator and tools are Debian's packages, fetched once into the cache. Nothing is installed and no root is needed.

mod cpio;
mod image;
mod judge;
mod kernels;
mod machine;
mod packages;
mod report;

use std::{fs, process::ExitCode};

use anyhow::{Context as _, bail};
use judge::Check;
use kernels::{KERNELS, Kernel};
use packages::{KernelFiles, Tools};
use report::Report;

use crate::{
    bench::{self, Figure},
    process, setup, workspace,
};

/// What to boot.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Kernels by name; all of them when none is named
    #[arg(value_name = "KERNEL", value_parser = Kernel::named)]
    kernels: Vec<Kernel>,
    /// One JSON object a line and figure instead of tables
    #[arg(long)]
    json: bool,
    /// Print the kernels and end
    #[arg(long)]
    list: bool,
    /// Fetch the newest release of each kernel instead of the one in the cache
    #[arg(long)]
    refresh: bool,
}

/// Boots one kernel after the other. Fails when any check of any kernel fails.
pub(crate) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.list {
        for Kernel { name, source, .. } in KERNELS {
            println!("{name:<5} {source}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        bail!("the emulated machines are x86-64 and run this build's own sensor, so it takes a build for x86-64");
    }
    setup::build_tools()?;
    process::visible(&mut process::cargo(["build", "--package", "ml-ids"]))?;
    let tools = Tools::provide()?;
    let kernels = if arguments.kernels.is_empty() { &KERNELS[..] } else { &arguments.kernels };
    let mut failed = Vec::new();
    for kernel in kernels {
        if arguments.refresh {
            packages::forget(kernel)?;
        }
        match test(&tools, kernel) {
            Ok(run) => {
                run.print(arguments.json);
                if run.checks.iter().any(|check| check.fault.is_some()) {
                    failed.push(kernel.name);
                }
            }
            Err(error) => {
                eprintln!("kernel {}: {error:#}", kernel.name);
                failed.push(kernel.name);
            }
        }
    }
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("failed on: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

/// A run, judged.
struct Run {
    kernel: &'static str,
    release: String,
    checks: Vec<Check>,
    /// How each direction was watched, by attach mode.
    hooks: Vec<String>,
    figures: Vec<Figure>,
    /// The ends of the machine's outputs, to be shown when something failed.
    tail: String,
}

fn test(tools: &Tools, kernel: &Kernel) -> anyhow::Result<Run> {
    let files = KernelFiles::provide(kernel)?;
    let folder = workspace::target().join("xtask/vm");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let image = folder.join(format!("{}.cpio", kernel.name));
    let content = image::build(tools, &files, &workspace::agent("debug"))?;
    fs::write(&image, content).with_context(|| format!("cannot write {}", image.display()))?;
    let ended = machine::run(tools, &files, &image)?;
    let tail = machine::tail(&ended.console, &ended.report);
    let report = Report::parse(&ended.report).with_context(|| tail.clone())?;
    let mut checks = judge::judge(&report, &ended.console);
    checks.push(Check {
        what: "the machine runs the kernel that was fetched".to_owned(),
        fault: (report.release != files.release).then(|| format!("{} instead of {}", report.release, files.release)),
    });
    let mut figures: Vec<Figure> = report.verified.iter().map(|figure| renamed(kernel, figure)).collect();
    figures.push(Figure::new(&bench_name(kernel), "the whole run", ended.time.as_secs_f64(), "s"));
    let hooks = report.phases.iter().map(|phase| {
        let hook = |direction| phase.moments.first().and_then(|moment| moment.hook(direction)).unwrap_or("none");
        format!("{}: {} and {}", phase.mode, hook("ingress"), hook("egress"))
    });
    Ok(Run { kernel: kernel.name, release: report.release.clone(), checks, hooks: hooks.collect(), figures, tail })
}

fn bench_name(kernel: &Kernel) -> String {
    format!("vm-test {}", kernel.name)
}

fn renamed(kernel: &Kernel, figure: &Figure) -> Figure {
    Figure { bench: bench_name(kernel), ..figure.clone() }
}

impl Run {
    /// Figures to standard output; in JSON mode what failed goes to standard error.
    fn print(&self, json: bool) {
        let Self { kernel, release, checks, hooks, figures, tail } = self;
        let faults: Vec<String> = checks
            .iter()
            .filter_map(|Check { what, fault }| fault.as_ref().map(|fault| format!("  FAIL {what}: {fault}")))
            .collect();
        if json {
            figures.iter().for_each(|figure| println!("{}", figure.to_json()));
        } else {
            print!("{}", bench::table(&format!("kernel {kernel} ({release})"), figures));
            println!("  hooks: {}", hooks.join("; "));
            println!("  {} of {} checks passed", checks.len() - faults.len(), checks.len());
        }
        if !faults.is_empty() {
            eprintln!("kernel {kernel} ({release})\n{}\n{tail}", faults.join("\n"));
        }
    }
}
