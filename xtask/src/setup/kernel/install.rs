//! Doing what the plan for the kernel programs asks for: packages, toolchains, `bpf-linker`.

use std::{path::Path, process::Command};

use anyhow::{Context as _, bail};

use super::{Action, BPF_LINKER, COMPILER_PACKAGES, LINKED_TOOLCHAIN, NIGHTLY, toolchain_at};
use crate::{process, setup::apt, workspace};

const BPF_LINKER_VERSION: &str = "0.13.0";
const DEBIAN_LLVM: u32 = 22;
const DEBIAN_LLVM_PREFIX: &str = "/usr/lib/llvm-22";
/// What bpf-linker is built with. g++ brings gcc, the C library's headers and libstdc++.
const LINKER_PACKAGES: [&str; 7] =
    ["g++", "libclang-22-dev", "libpolly-22-dev", "libzstd-dev", "llvm-22-dev", "pkg-config", "zlib1g-dev"];

/// Installs all system packages in one command, or says which one it would be.
pub(super) fn packages(actions: &[Action]) -> anyhow::Result<()> {
    let mut packages = Vec::new();
    if actions.contains(&Action::DebianCompiler) {
        packages.extend(apt::missing(&COMPILER_PACKAGES));
    }
    if actions.contains(&Action::DebianLinker) {
        packages.extend(apt::missing(&LINKER_PACKAGES));
    }
    apt::install(&packages)
}

pub(super) fn perform(action: Action) -> anyhow::Result<()> {
    match action {
        // Its packages are there by now; installing again repairs files that somebody removed.
        Action::DebianCompiler if !toolchain_at(Path::new("/usr")) => reinstall(),
        Action::DebianCompiler => Ok(()),
        Action::Link => process::visible(Command::new("rustup").args(["toolchain", "link", LINKED_TOOLCHAIN, "/usr"])),
        Action::Unlink => process::visible(Command::new("rustup").args(["toolchain", "uninstall", LINKED_TOOLCHAIN])),
        Action::FetchNightly => process::visible(Command::new("rustup").args([
            "toolchain",
            "install",
            NIGHTLY,
            "--profile",
            "minimal",
            "--component",
            "rust-src",
        ])),
        Action::DebianLinker => cargo_install_linker(DEBIAN_LLVM, Path::new(DEBIAN_LLVM_PREFIX)),
        Action::NightlyLinker => nightly_linker(),
    }
}

fn reinstall() -> anyhow::Result<()> {
    if !process::is_root() {
        bail!(
            "files of Debian's compiler are missing; run:\n  sudo apt-get install --reinstall {}",
            COMPILER_PACKAGES.join(" ")
        );
    }
    process::twice(Command::new("apt-get").args(["install", "--yes", "--reinstall"]).args(COMPILER_PACKAGES))
}

fn cargo_install_linker(llvm: u32, prefix: &Path) -> anyhow::Result<()> {
    let feature = format!("llvm-{llvm}");
    let mut command = process::cargo(["install", BPF_LINKER, "--version", BPF_LINKER_VERSION, "--locked"]);
    command
        .args(["--no-default-features", "--features", &feature, "--force", "--root"])
        .arg(workspace::cache()?.join("tools"))
        // Its build script looks at LLVM_PREFIX, that of llvm-sys at the other; either would fall back to another
        // LLVM's llvm-config on PATH.
        .env(format!("LLVM_SYS_{llvm}1_PREFIX"), prefix)
        .env("LLVM_PREFIX", prefix);
    process::twice(&mut command)
}

fn nightly_linker() -> anyhow::Result<()> {
    if process::find("cargo-binstall").is_some() {
        let root = workspace::cache()?.join("tools");
        return process::twice(process::cargo(["binstall", "--no-confirm", "--root"]).arg(root).arg(BPF_LINKER));
    }
    let llvm =
        nightly_llvm().context("cannot tell the LLVM version of rustup's nightly: `rustc -vV` does not say it")?;
    let config = format!("llvm-config-{llvm}");
    let prefix = process::find(&config)
        .and_then(|config| process::stdout(Command::new(config).arg("--prefix")))
        .with_context(|| {
            format!(
                "{BPF_LINKER} is missing, and {config} to build it with; install LLVM {llvm} with its development \
                 files, or cargo-binstall (https://github.com/cargo-bins/cargo-binstall), then run this again"
            )
        })?;
    cargo_install_linker(llvm, Path::new(prefix.trim()))
}

fn nightly_llvm() -> Option<u32> {
    let version = process::stdout(Command::new("rustup").args(["run", NIGHTLY, "rustc", "-vV"]))?;
    let line = version.lines().find_map(|line| line.strip_prefix("LLVM version: "))?;
    line.split('.').next()?.parse().ok()
}
