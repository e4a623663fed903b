//! What building the kernel programs needs: a compiler with `core`'s source, and `bpf-linker` made for its LLVM.
//!
//! There are two ways. An ordinary machine has rustup's nightly with rust-src. Where rustup can fetch nothing, Debian's
//! security archive carries one compiler with its library source and the LLVM it was made with; linked into rustup it
//! serves the kernel programs and nothing else. `ml-ids/build.rs` looks for both in the same places.

mod install;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::bail;
use install::{packages, perform};

use super::apt;
use crate::{process, workspace};

/// Name under which rustup knows Debian's compiler.
const LINKED_TOOLCHAIN: &str = "ml-ids-ebpf";
const NIGHTLY: &str = "nightly";
const BPF_LINKER: &str = "bpf-linker";
/// rustc 1.96 with its source.
const COMPILER_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// How the kernel programs are built on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// rustup's nightly with rust-src.
    Nightly,
    /// Debian's compiler, linked into rustup.
    Debian,
}

impl Way {
    /// The toolchain's name for `rustup run`.
    pub(crate) const fn toolchain(self) -> &'static str {
        match self {
            Self::Nightly => NIGHTLY,
            Self::Debian => LINKED_TOOLCHAIN,
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nightly => formatter.write_str("by rustup's nightly"),
            Self::Debian => formatter.write_str("by Debian's compiler"),
        }
    }
}

/// What matters of a rustup toolchain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Toolchain {
    listed: bool,
    /// It has a compiler and `core`'s source.
    complete: bool,
}

/// What is on this machine.
#[derive(Clone, Copy, Debug, Default)]
struct Machine {
    rustup: bool,
    debian: bool,
    /// Debian's compiler is installed, linked into rustup or not.
    debian_compiler: bool,
    linked: Toolchain,
    nightly: Toolchain,
    /// bpf-linker is there and starts.
    linker: bool,
    /// bpf-linker can be fetched ready-made.
    binstall: bool,
    /// rustup has been asked for rust-src in vain.
    fetch_failed: bool,
}

/// One thing to do. Each is announced before the first is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// Debian's compiler.
    DebianCompiler,
    /// Make it a rustup toolchain.
    Link,
    /// Remove a link that leads nowhere, which would win over nightly.
    Unlink,
    /// rust-src for nightly, and nightly itself.
    FetchNightly,
    /// bpf-linker with Debian's LLVM.
    DebianLinker,
    /// bpf-linker for nightly.
    NightlyLinker,
}

impl Action {
    const fn describe(self) -> &'static str {
        match self {
            Self::DebianCompiler => {
                "Debian packages rustc-web, cargo-web, rust-web-src: the compiler of the kernel programs"
            }
            Self::Link => "a rustup toolchain named ml-ids-ebpf that stands for them",
            Self::Unlink => "(removing the rustup toolchain ml-ids-ebpf, which is incomplete)",
            Self::FetchNightly => "the rustup toolchain nightly with the component rust-src",
            Self::DebianLinker => {
                "bpf-linker 0.13.0, built with Debian's LLVM 22 and its development packages (takes some minutes)"
            }
            Self::NightlyLinker => "bpf-linker, for nightly's LLVM",
        }
    }
}

/// Why setup cannot help.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    NoRustup,
    NothingOffered,
}

impl Refusal {
    const fn message(&self) -> &'static str {
        match self {
            Self::NoRustup => {
                "rustup is missing: the kernel programs need a second compiler beside the stable one, and rustup is \
                 what keeps them apart; install it from https://rustup.rs (or your distribution's package `rustup`), \
                 then run this again"
            }
            Self::NothingOffered => {
                "neither way to build the kernel programs is open here: rustup cannot fetch rust-src for nightly, \
                 and this is not Debian, whose archive has a compiler with its source; run `rustup toolchain install \
                 nightly --component rust-src` when there is a network, then this again"
            }
        }
    }
}

/// What to do, and which way it leads. Nothing to do is the common case.
fn plan(machine: Machine) -> Result<(Way, Vec<Action>), Refusal> {
    let Machine { rustup, debian, debian_compiler, linked, nightly, linker, binstall, fetch_failed } = machine;
    if !rustup {
        return Err(Refusal::NoRustup);
    }
    // As in ml-ids/build.rs, a linked toolchain wins.
    if linked.complete && linker {
        return Ok((Way::Debian, Vec::new()));
    }
    // A linker cannot be built for nightly without an LLVM of its version, which no package brings; without a linker
    // Debian's compiler, which has its LLVM beside it, is the surer way.
    let nightly_is_open = !fetch_failed && (linker || binstall || !debian);
    if !(linked.complete || debian_compiler) && (nightly.complete || nightly_is_open) && (linker || binstall || !debian)
    {
        let mut actions = Vec::new();
        if linked.listed {
            actions.push(Action::Unlink);
        }
        if !nightly.complete {
            actions.push(Action::FetchNightly);
        }
        if !linker {
            actions.push(Action::NightlyLinker);
        }
        return Ok((Way::Nightly, actions));
    }
    if !debian {
        return Err(Refusal::NothingOffered);
    }
    let mut actions = Vec::new();
    if !linked.complete && !debian_compiler {
        actions.push(Action::DebianCompiler);
    }
    if !linker {
        actions.push(Action::DebianLinker);
    }
    if !linked.listed {
        actions.push(Action::Link);
    }
    Ok((Way::Debian, actions))
}

/// Looks, announces, installs.
pub(super) fn provide() -> anyhow::Result<Way> {
    let mut fetch_failed = false;
    let mut last = None;
    // The first round installs, a second one takes the other way if rustup could not fetch, the last one looks.
    for _ in 0..3 {
        let (way, actions) = match plan(Machine { fetch_failed, ..Machine::look()? }) {
            Ok(plan) => plan,
            Err(refusal) => bail!("{}", refusal.message()),
        };
        if actions.is_empty() {
            not_shadowed()?;
            return Ok(way);
        }
        if last.as_ref() == Some(&actions) {
            break;
        }
        eprintln!("setup is going to install:");
        for action in &actions {
            eprintln!("  {}", action.describe());
        }
        packages(&actions)?;
        for action in &actions {
            match perform(*action) {
                Err(error) if *action == Action::FetchNightly => {
                    eprintln!("{error:#}; looking for another way");
                    fetch_failed = true;
                    break;
                }
                done => done?,
            }
        }
        last = Some(actions);
    }
    bail!(
        "all that setup knows is installed, and yet it does not work; look at `rustup toolchain list --verbose` and `bpf-linker --version`"
    )
}

/// Debian's compiler must never be the one that builds the agent.
fn not_shadowed() -> anyhow::Result<()> {
    let Some(rustc) = process::find("rustc") else { return Ok(()) };
    let debian = Path::new("/usr/bin/rustc");
    let same = |left: &Path, right: &Path| match (fs::canonicalize(left), fs::canonicalize(right)) {
        (Ok(left), Ok(right)) => left == right,
        _ => false,
    };
    // Debian's own package of rustup puts its proxies into /usr/bin: those are fine.
    let proxied = process::find("rustup").is_some_and(|rustup| same(&rustup, debian));
    if same(&rustc, debian) && !proxied {
        bail!(
            "the first rustc on PATH is Debian's ({}), which is for the kernel programs only; put rustup's folder \
             (~/.cargo/bin) before /usr/bin on PATH",
            rustc.display()
        );
    }
    Ok(())
}

/// Whether a toolchain's folder holds a compiler and `core`'s source.
fn toolchain_at(folder: &Path) -> bool {
    ["bin/rustc", "bin/cargo", "lib/rustlib/src/rust/library/core/Cargo.toml"]
        .iter()
        .all(|file| folder.join(file).exists())
}

impl Machine {
    fn look() -> anyhow::Result<Self> {
        let list = process::stdout(Command::new("rustup").args(["toolchain", "list", "--verbose"]));
        let tools = workspace::cache()?.join("tools/bin").join(BPF_LINKER);
        let starts = |linker: &Path| process::stdout(Command::new(linker).arg("--version")).is_some();
        let linked = toolchain(list.as_deref().unwrap_or_default(), |name| name == LINKED_TOOLCHAIN);
        let debian = is_debian() && apt::available();
        Ok(Self {
            rustup: list.is_some(),
            debian,
            // Another rustc in /usr, with or without its source, is too old for what core's source asks for.
            debian_compiler: debian
                && (linked.complete
                    || (toolchain_at(Path::new("/usr")) && apt::missing(&COMPILER_PACKAGES).is_empty())),
            linked,
            nightly: toolchain(list.as_deref().unwrap_or_default(), is_nightly),
            linker: starts(&tools) || process::find(BPF_LINKER).is_some_and(|linker| starts(&linker)),
            binstall: process::find("cargo-binstall").is_some(),
            fetch_failed: false,
        })
    }
}

/// `nightly-x86_64-unknown-linux-gnu`, not the nightly of a day.
fn is_nightly(name: &str) -> bool {
    name == NIGHTLY
        || name.strip_prefix("nightly-").is_some_and(|rest| !rest.starts_with(|letter: char| letter.is_ascii_digit()))
}

/// Looks for a toolchain in what `rustup toolchain list --verbose` prints: name, marks in parentheses, folder.
fn toolchain(list: &str, wanted: impl Fn(&str) -> bool) -> Toolchain {
    let line = list.lines().find(|line| line.split_whitespace().next().is_some_and(&wanted));
    let folder = line.and_then(|line| line.find('/').map(|at| PathBuf::from(line[at..].trim_end())));
    Toolchain { listed: line.is_some(), complete: folder.is_some_and(|folder| toolchain_at(&folder)) }
}

fn is_debian() -> bool {
    fs::read_to_string("/etc/os-release").is_ok_and(|text| text.lines().any(|line| line == "ID=debian"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPLETE: Toolchain = Toolchain { listed: true, complete: true };
    const BROKEN: Toolchain = Toolchain { listed: true, complete: false };

    fn debian() -> Machine {
        Machine { rustup: true, debian: true, ..Machine::default() }
    }

    #[test]
    fn nothing_is_done_where_either_way_is_ready() {
        let nightly = Machine { nightly: COMPLETE, linker: true, rustup: true, ..Machine::default() };
        assert_eq!(plan(nightly), Ok((Way::Nightly, vec![])));
        assert_eq!(plan(Machine { linked: COMPLETE, linker: true, ..debian() }), Ok((Way::Debian, vec![])));
    }

    #[test]
    fn a_fresh_debian_machine_gets_debians_compiler() {
        use Action::{DebianCompiler, DebianLinker, Link};
        assert_eq!(plan(debian()), Ok((Way::Debian, vec![DebianCompiler, DebianLinker, Link])));
        let nightly_without_source = Machine { nightly: BROKEN, ..debian() };
        assert_eq!(plan(nightly_without_source), Ok((Way::Debian, vec![DebianCompiler, DebianLinker, Link])));
    }

    #[test]
    fn only_what_is_missing_is_installed() {
        let without_linker = Machine { linked: COMPLETE, ..debian() };
        assert_eq!(plan(without_linker), Ok((Way::Debian, vec![Action::DebianLinker])));
        let unlinked = Machine { debian_compiler: true, linker: true, nightly: BROKEN, ..debian() };
        assert_eq!(plan(unlinked), Ok((Way::Debian, vec![Action::Link])));
        let without_source = Machine { linked: BROKEN, linker: true, fetch_failed: true, ..debian() };
        assert_eq!(plan(without_source), Ok((Way::Debian, vec![Action::DebianCompiler])));
    }

    #[test]
    fn another_distribution_gets_nightly_and_a_linker() {
        let fresh = Machine { rustup: true, ..Machine::default() };
        assert_eq!(plan(fresh), Ok((Way::Nightly, vec![Action::FetchNightly, Action::NightlyLinker])));
    }

    #[test]
    fn a_link_that_leads_nowhere_does_not_stand_in_nightlys_way() {
        let machine = Machine { rustup: true, linked: BROKEN, nightly: COMPLETE, linker: true, ..Machine::default() };
        assert_eq!(plan(machine), Ok((Way::Nightly, vec![Action::Unlink])));
    }

    #[test]
    fn when_rustup_can_fetch_nothing_debian_is_next_and_others_are_told() {
        let linker = Machine { linker: true, ..debian() };
        assert_eq!(plan(linker), Ok((Way::Nightly, vec![Action::FetchNightly])));
        let failed = Machine { fetch_failed: true, ..linker };
        assert_eq!(plan(failed), Ok((Way::Debian, vec![Action::DebianCompiler, Action::Link])));
        let elsewhere = Machine { rustup: true, linker: true, fetch_failed: true, ..Machine::default() };
        assert_eq!(plan(elsewhere), Err(Refusal::NothingOffered));
    }

    #[test]
    fn without_rustup_setup_says_so() {
        assert_eq!(plan(Machine { debian: true, ..Machine::default() }), Err(Refusal::NoRustup));
    }

    #[test]
    fn toolchains_are_read_from_rustups_list() {
        let list = "stable-x86_64-unknown-linux-gnu (active, default) /nowhere/stable\nml-ids-ebpf /nowhere/link\n\
                    nightly-2025-01-01-x86_64-unknown-linux-gnu /nowhere/dated\n";
        assert_eq!(toolchain(list, |name| name == LINKED_TOOLCHAIN), BROKEN);
        assert_eq!(toolchain(list, is_nightly), Toolchain::default());
        assert_eq!(toolchain("nightly-aarch64-unknown-linux-gnu\t/nowhere\n", is_nightly), BROKEN);
    }
}
