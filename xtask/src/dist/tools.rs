//! What making packages takes beside the compilers: two programs of cargo's, and for packages of another kind of machine its
//! C compiler and an emulator. All but the C compiler go into the cache.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use super::target::Target;
use crate::{archive::Archive, process, setup, workspace};

/// Programs of cargo's, their versions, and what leaves out of them that needs libraries of the system.
const SUBCOMMANDS: [setup::CargoProgram; 2] = [
    // Without liblzma it calls `xz`, which compresses the same on any number of processors.
    setup::CargoProgram { name: "cargo-deb", version: "3.8.0", options: &["--no-default-features"] },
    // Puts the list of dependencies into the program, for scanners to read.
    setup::CargoProgram { name: "cargo-auditable", version: "0.7.7", options: &[] },
];

/// What the emulator is taken from. It is static: nothing of it need be installed.
const EMULATOR: &str = "qemu-user-static";
const EMULATOR_SOURCE: &str = "http://deb.debian.org/debian bookworm main";

/// Builds cargo's programs into the cache unless they are there.
pub(super) fn provide() -> anyhow::Result<()> {
    SUBCOMMANDS.iter().try_for_each(setup::CargoProgram::provide)
}

/// The search path with the cache's tools first.
pub(super) fn path() -> anyhow::Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let tools = workspace::cache()?.join("tools/bin");
    std::env::join_paths(std::iter::once(tools).chain(std::env::split_paths(&path))).context("PATH cannot be extended")
}

/// Installs the C compiler of another target.
pub(super) fn cross_compiler(target: Target) -> anyhow::Result<()> {
    if process::find(&target.compiler()).is_some() {
        return Ok(());
    }
    let packages = target.compiler_packages();
    if !setup::packages_can_be_installed() {
        bail!("{} is missing, the C compiler for {}; install it first", target.compiler(), target.name());
    }
    setup::install_packages(&packages.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The emulator of another target's processor, fetched unless it is there.
pub(super) fn emulator(target: Target) -> anyhow::Result<PathBuf> {
    let root = workspace::cache()?.join("dist/emulator");
    let program = root.join("usr/bin").join(format!("qemu-{}-static", target.name()));
    if program.exists() {
        return Ok(program);
    }
    eprintln!("fetching {EMULATOR} from {EMULATOR_SOURCE}");
    let lists = root.with_extension("apt");
    let archive = Archive::open(lists.clone(), EMULATOR_SOURCE)?;
    archive.unpack(&[EMULATOR.to_owned()], &root)?;
    remove(&lists)?;
    if program.exists() { Ok(program) } else { bail!("{EMULATOR} holds no {}", program.display()) }
}

/// Removes a folder, if it is there.
pub(super) fn remove(folder: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Standard output of a command that must succeed.
pub(super) fn output(command: &mut Command) -> anyhow::Result<Vec<u8>> {
    let output = command
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", process::shown(command)))?;
    if !output.status.success() {
        bail!("{} failed ({})", process::shown(command), output.status);
    }
    Ok(output.stdout)
}
