//! A program for another processor, run by emulation beside this machine's own: it starts, and says the same of the same packets.
//! Its kernel programs are the same, too: they are made for the kernel's virtual machine, not for a processor.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use object::{Object as _, ObjectSection as _, SectionKind};

use super::{compile::Checkout, pack, target::Target, tools::output};
use crate::workspace;

/// A capture with everything that is odd in it.
const CAPTURE: &str = "tests/data/handmade/random.pcap";

/// What both must say the same of.
const COMMANDS: [&[&str]; 4] = [
    &["--version"],
    &["extract", CAPTURE, "--profile", "fixed"],
    &["score", CAPTURE, "--format", "csv"],
    &["model", "inspect", "embedded"],
];

/// Runs a target's program and this machine's, which is built if `cargo xtask dist` has not.
pub(super) fn run(target: Target, program: &Path) -> anyhow::Result<()> {
    let (native, here) = (Target::native()?, Checkout::here()?);
    let own = here.output(native).join("ml-ids");
    let own = if own.exists() { own } else { here.compile(native)? };
    for arguments in COMMANDS {
        let say = |target: Target, program: &Path| {
            let mut command = target.start(program)?;
            let said = output(command.args(arguments).current_dir(workspace::root()).env("RUST_LOG", "error"))?;
            anyhow::Ok(without_processor(&said))
        };
        let (theirs, ours) = (say(target, program)?, say(native, &own)?);
        ensure!(!theirs.is_empty(), "ml-ids {} says nothing on {}", arguments.join(" "), target.name());
        ensure!(
            theirs == ours,
            "ml-ids {} says something else on {} than on {}:\n{}",
            arguments.join(" "),
            target.name(),
            native.name(),
            first_difference(&theirs, &ours)
        );
        eprintln!(
            "ml-ids {}: the same {} bytes on {} and {}",
            arguments.join(" "),
            ours.len(),
            target.name(),
            native.name()
        );
    }
    let (theirs, ours) = (kernel_code(&here.output(target))?, kernel_code(&here.output(native))?);
    if theirs != ours {
        bail!("the kernel programs for {} and {} differ: {theirs} and {ours}", target.name(), native.name());
    }
    eprintln!("kernel programs: the same code for both, SHA-256 {ours}");
    Ok(())
}

/// What was said but for the lines of `model inspect` that name the instruction set and how fast it is.
fn without_processor(said: &[u8]) -> Vec<u8> {
    let own = |line: &[u8]| [&b"runtime "[..], b"speed "].iter().any(|name| line.starts_with(name));
    said.split_inclusive(|byte| *byte == b'\n').filter(|line| !own(line)).flatten().copied().collect()
}

/// The first line in which two texts differ.
fn first_difference(one: &[u8], other: &[u8]) -> String {
    let (one, other) = (String::from_utf8_lossy(one), String::from_utf8_lossy(other));
    let differing = one.lines().zip(other.lines()).find(|(one, other)| one != other);
    differing.map_or_else(|| "one is longer".to_owned(), |(one, other)| format!("{one}\n{other}"))
}

/// A hash of all that the kernel loads of the programs: their code, constants, maps and licence. Not of what names source files.
fn kernel_code(build: &Path) -> anyhow::Result<String> {
    let file = kernel_object(build)?;
    let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let object = object::File::parse(&*bytes).with_context(|| format!("{} is no object file", file.display()))?;
    let mut all = Vec::new();
    for section in object.sections() {
        let name = section.name()?;
        if section.kind() == SectionKind::Text || [".maps", ".rodata", "license"].contains(&name) {
            all.extend_from_slice(name.as_bytes());
            all.extend_from_slice(section.data()?);
        }
    }
    ensure!(!all.is_empty(), "{} holds no code", file.display());
    Ok(pack::hex(&all))
}

/// The object that the agent's build script made.
fn kernel_object(build: &Path) -> anyhow::Result<PathBuf> {
    let folder = build.join("build");
    let scripts = fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let objects = scripts.filter_map(Result::ok).map(|script| script.path().join("out/ml-ids"));
    let newest = objects
        .filter(|file| file.is_file())
        .max_by_key(|file| fs::metadata(file).and_then(|data| data.modified()).ok());
    newest.with_context(|| format!("no object of kernel programs in {}", folder.display()))
}
