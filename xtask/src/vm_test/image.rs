//! The initial file system of the test machine: shell, network tools, kernel modules, the sensor, and a script that is the
//! whole user space.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use super::{
    cpio::Cpio,
    packages::{KernelFiles, Tools},
};
use crate::process;

const INIT: &str = include_str!("init.sh");

/// In the order of loading. A kernel that has one built in brings no file of it.
const MODULES: [&str; 3] = ["veth", "sch_ingress", "cls_bpf"];

/// Where Debian's libraries of the network tools go, apart from those of the sensor, which are this system's.
const TOOLS: &str = "/tools";

/// Makes the file system.
pub(super) fn build(tools: &Tools, kernel: &KernelFiles, sensor: &Path) -> anyhow::Result<Vec<u8>> {
    let mut image = Cpio::default();
    for folder in ["bin", "dev", "proc", "sys"] {
        image.folder(folder);
    }
    // Before the script has mounted anything, the kernel opens this for it.
    image.device("dev/console", 5, 1);
    image.file("init", INIT.as_bytes());
    image.file("bin/busybox", &read(&tools.busybox())?);
    network_tool(&mut image, tools)?;
    modules(&mut image, tools, kernel)?;
    self::sensor(&mut image, sensor)?;
    Ok(image.finish())
}

/// iproute2's `ip` as `iproute`, with loader and libraries of its own: the shell has a lesser `ip` built in.
fn network_tool(image: &mut Cpio, tools: &Tools) -> anyhow::Result<()> {
    let program = tools.file("usr/bin/ip");
    let mut list = Command::new(tools.loader());
    list.arg("--library-path").arg(tools.libraries()).arg("--list").arg(&program);
    for library in libraries(&mut list)? {
        let name = library.file_name().unwrap_or_default().to_string_lossy().into_owned();
        image.file(&format!("{TOOLS}/{name}"), &read(&library)?);
    }
    image.file(&format!("{TOOLS}/ip"), &read(&program)?);
    image.file(&format!("{TOOLS}/loader"), &read(&tools.loader())?);
    let start = format!("#!/bin/busybox sh\nexec {TOOLS}/loader --library-path {TOOLS} {TOOLS}/ip \"$@\"\n");
    image.file("bin/iproute", start.as_bytes());
    Ok(())
}

fn modules(image: &mut Cpio, tools: &Tools, kernel: &KernelFiles) -> anyhow::Result<()> {
    let mut found = Vec::new();
    walk(&kernel.modules, &mut found)?;
    for (index, module) in MODULES.iter().enumerate() {
        let plain = format!("{module}.ko");
        let packed = format!("{module}.ko.xz");
        let named = |file: &&PathBuf| file.file_name().is_some_and(|name| name == &*plain || name == &*packed);
        let Some(file) = found.iter().find(named) else { continue };
        let content = if file.extension().is_some_and(|extension| extension == "xz") {
            unpack(tools, file)?
        } else {
            read(file)?
        };
        image.file(&format!("modules/{index}-{plain}"), &content);
    }
    Ok(())
}

fn unpack(tools: &Tools, file: &Path) -> anyhow::Result<Vec<u8>> {
    let mut command = Command::new(tools.busybox());
    let output = command.args(["xz", "-dc"]).arg(file).output().context("cannot start busybox")?;
    if !output.status.success() {
        bail!("cannot unpack {}", file.display());
    }
    Ok(output.stdout)
}

/// The agent, with this system's loader and libraries where it looks for them.
fn sensor(image: &mut Cpio, sensor: &Path) -> anyhow::Result<()> {
    for library in libraries(Command::new("ldd").arg(sensor))? {
        image.file(&library.to_string_lossy(), &read(&library)?);
    }
    image.file("bin/ml-ids", &stripped(sensor)?);
    Ok(())
}

/// Without what debuggers read, which is most of it: emulated machines are slow to unpack.
fn stripped(program: &Path) -> anyhow::Result<Vec<u8>> {
    let small = program.with_extension("stripped");
    let done = Command::new("strip").arg("-o").arg(&small).arg(program).status();
    if done.is_ok_and(|status| status.success()) { read(&small) } else { read(program) }
}

/// Files that a program's loader says it needs, loader included.
fn libraries(list: &mut Command) -> anyhow::Result<BTreeSet<PathBuf>> {
    let output = process::stdout(list).with_context(|| format!("{} failed", process::shown(list)))?;
    Ok(output.lines().filter_map(library).collect())
}

/// `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f…)`, or without the arrow.
fn library(line: &str) -> Option<PathBuf> {
    let file = line.split_once("=> ").map_or(line, |(_, file)| file).trim().split(' ').next()?;
    file.starts_with('/').then(|| PathBuf::from(file))
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
        // A link may lead out of the tree.
        let kind = entry.file_type().with_context(|| format!("cannot look at {}", entry.path().display()))?;
        if kind.is_dir() {
            walk(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_off_with_their_loader_and_without_what_is_no_file() {
        let lines = [
            "\tlinux-vdso.so.1 (0x00007ffd)",
            "\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f12)",
            "\t/lib64/ld-linux-x86-64.so.2 (0x00007f34)",
            "\tlibmissing.so => not found",
        ];
        let found: Vec<_> = lines.into_iter().filter_map(library).collect();
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(found, expected.map(PathBuf::from));
    }
}
