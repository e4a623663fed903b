//! The steps of `cargo xtask test`, in their order.

use std::{
    env,
    fs::{self, File},
    io::Write as _,
    path::PathBuf,
    process::Command,
    time::SystemTime,
};

use anyhow::Context as _;

use super::{Outcome, object_file, tally::Counts};
use crate::{deploy, fuzz, process, setup, workspace};

/// Frames that the fuzzer of the engine runs, and the longest that it may take, in seconds.
const FUZZ_EXECUTIONS: &str = "10000000";
const FUZZ_SECONDS: &str = "85";
/// For how long the other targets' inputs are made, all together, in seconds.
const TARGETS_SECONDS: &str = "60";

/// One step.
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) counts: Counts,
    pub(super) run: fn(&Context) -> anyhow::Result<Outcome>,
}

/// What a step is given.
pub(super) struct Context {
    /// Where its output goes.
    pub(super) log: File,
    /// How the kernel programs are built here.
    pub(super) way: setup::Way,
}

pub(super) const STEPS: [Step; 12] = [
    Step { name: "format", about: "all Rust is formatted", counts: Counts::Itself, run: format },
    Step { name: "lint", about: "clippy finds nothing", counts: Counts::Itself, run: lint },
    Step {
        name: "lint-kernel",
        about: "the kernel programs compile without a warning",
        counts: Counts::Itself,
        run: lint_kernel,
    },
    Step { name: "build", about: "the agent builds, kernel programs included", counts: Counts::Itself, run: build },
    Step { name: "unit", about: "unit tests and documentation examples", counts: Counts::Libtest, run: unit },
    Step { name: "no-panic", about: "nothing in the kernel programs can panic", counts: Counts::Itself, run: no_panic },
    Step { name: "fuzz", about: "hostile frames, captures, bodies and models", counts: Counts::Itself, run: fuzz_all },
    Step {
        name: "deploy",
        about: "manifests, Compose project and CI files fit the schemas of those who read them",
        counts: Counts::Itself,
        run: deployed,
    },
    Step {
        name: "training",
        about: "tests of the Python training package, a real MLflow server among them",
        counts: Counts::Pytest,
        run: training,
    },
    Step { name: "notebooks", about: "the notebooks run on the shared flows", counts: Counts::Pytest, run: notebooks },
    Step { name: "end-to-end", about: "the agent under real traffic", counts: Counts::Libtest, run: end_to_end },
    Step {
        name: "soak",
        about: "nothing grows under load, and a sensor that is killed again and again loses nothing without a number",
        counts: Counts::Itself,
        run: soak,
    },
];

impl Context {
    /// Runs a command into the log.
    fn run(&self, command: &mut Command) -> anyhow::Result<Outcome> {
        writeln!(&self.log, "$ {}", process::shown(command)).context("cannot write the log")?;
        let status = process::logged(command, &self.log)?;
        Ok(if status.success() { Outcome::Passed } else { Outcome::Failed })
    }
}

fn format(context: &Context) -> anyhow::Result<Outcome> {
    context.run(&mut process::cargo(["fmt", "--all", "--check"]))
}

fn lint(context: &Context) -> anyhow::Result<Outcome> {
    let mut command = process::cargo(["clippy", "--workspace", "--exclude", "ml-ids-ebpf", "--all-targets"]);
    context.run(command.args(["--", "-D", "warnings"]))
}

/// By clippy where the kernel programs' compiler has one, otherwise by the compiler itself.
fn lint_kernel(context: &Context) -> anyhow::Result<Outcome> {
    let toolchain = context.way.toolchain();
    let has_clippy = process::stdout(Command::new("rustup").args(["run", toolchain, "cargo", "clippy", "--version"]));
    let check = if has_clippy.is_some() { "clippy" } else { "check" };
    let endian = if cfg!(target_endian = "big") { "bpfeb-unknown-none" } else { "bpfel-unknown-none" };
    let mut command = Command::new("rustup");
    command
        .current_dir(workspace::root())
        .args(["run", toolchain, "cargo", check, "--release", "--package", "ml-ids-ebpf", "--target", endian])
        .args(["-Z", "build-std=core", "--target-dir"])
        .arg(workspace::target().join("xtask/kernel"))
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", format!("--cfg=bpf_target_arch=\"{}\" -Dwarnings", env::consts::ARCH));
    context.run(&mut command)
}

fn build(context: &Context) -> anyhow::Result<Outcome> {
    context.run(&mut process::cargo(["build", "--package", "ml-ids"]))
}

fn unit(context: &Context) -> anyhow::Result<Outcome> {
    let mut command = process::cargo(["test", "--workspace", "--exclude", "ml-ids-ebpf", "--exclude", "ml-ids-tests"]);
    context.run(command.args(["--no-fail-fast", "--", "--show-output"]))
}

fn no_panic(context: &Context) -> anyhow::Result<Outcome> {
    if env::var_os("AYA_BUILD_SKIP").is_some_and(|skip| skip == "1" || skip.eq_ignore_ascii_case("true")) {
        return Ok(Outcome::Skipped("AYA_BUILD_SKIP is set, so there is no eBPF object to look into".into()));
    }
    let object = newest_object()
        .context("no eBPF object found in the build output; run `cargo xtask test build` and look at its log")?;
    let findings = object_file::check(&object)?;
    let object_file::Findings { functions, calls, faults } = findings;
    let mut log = &context.log;
    writeln!(log, "{}: {functions} functions, {calls} calls between them", object.display())?;
    if functions == 0 {
        writeln!(log, "an object without functions proves nothing")?;
        return Ok(Outcome::Failed);
    }
    for fault in &faults {
        writeln!(log, "{fault}")?;
    }
    Ok(if faults.is_empty() { Outcome::Passed } else { Outcome::Failed })
}

/// The object that the agent's build script made last.
fn newest_object() -> Option<PathBuf> {
    let folders = fs::read_dir(workspace::target().join("debug/build")).ok()?;
    let objects = folders
        .filter_map(Result::ok)
        .filter(|folder| folder.file_name().to_string_lossy().starts_with("ml-ids-"))
        .map(|folder| folder.path().join("out/ml-ids"))
        .filter(|file| file.is_file());
    let changed =
        |file: &PathBuf| fs::metadata(file).and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    objects.max_by_key(changed)
}

fn fuzz_all(context: &Context) -> anyhow::Result<Outcome> {
    let mut command = process::cargo(["run", "--profile", "fuzz", "--package", "ml-ids-fuzz", "--"]);
    command.args(["--executions", FUZZ_EXECUTIONS, "--seconds", FUZZ_SECONDS, "--out"]);
    match context.run(command.arg(fuzz::out()))? {
        Outcome::Passed => context.run(fuzz::runner().args(["--seconds", TARGETS_SECONDS, "--out"]).arg(fuzz::out())),
        other => Ok(other),
    }
}

fn deployed(context: &Context) -> anyhow::Result<Outcome> {
    let mut log = &context.log;
    for line in deploy::check()? {
        writeln!(log, "{line}")?;
    }
    Ok(Outcome::Passed)
}

/// The tests of the notebooks, a step of their own: they take as long as all others together.
const NOTEBOOK_TESTS: &str = "tests/test_notebooks.py";

fn training(context: &Context) -> anyhow::Result<Outcome> {
    pytest(context, &["--ignore", NOTEBOOK_TESTS])
}

fn notebooks(context: &Context) -> anyhow::Result<Outcome> {
    pytest(context, &[NOTEBOOK_TESTS])
}

fn pytest(context: &Context, arguments: &[&str]) -> anyhow::Result<Outcome> {
    let folder = workspace::root().join("training");
    if !folder.join("requirements.txt").exists() {
        return Ok(Outcome::Skipped("there is no training/ in this checkout".into()));
    }
    let mut command = Command::new(setup::training_python()?);
    context.run(command.current_dir(folder).args(["-m", "pytest", "-rs", "--color=no"]).args(arguments))
}

fn end_to_end(context: &Context) -> anyhow::Result<Outcome> {
    let mut command = process::cargo(["test", "--package", "ml-ids-tests", "--no-fail-fast"]);
    context.run(command.args(["--", "--test-threads=1", "--show-output"]))
}

/// Shorter than `cargo xtask soak` by itself, with the agent that the tests before have built.
fn soak(context: &Context) -> anyhow::Result<Outcome> {
    if !process::is_root() {
        return Ok(Outcome::Skipped("network namespaces and eBPF programs take root".into()));
    }
    let mut command = Command::new(env::current_exe().context("cannot tell where this program is")?);
    command.current_dir(workspace::root());
    context.run(command.args(["soak", "--debug", "--minutes", "0.5", "--kills", "5", "--rate", "20000"]))
}
