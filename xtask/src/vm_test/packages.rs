//! What the test boots and boots with, kept in the cache: `vm/tools` (emulator, shell, network tools, with every library
//! that they need) and `vm/kernels/NAME` (kernel, modules, release).

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::kernels::{Kernel, TOOLS_SOURCE};
use crate::{archive::Archive, workspace};

/// Only named here are what the test starts itself; their dependencies come along.
const TOOLS: [&str; 3] = ["qemu-system-x86", "busybox-static", "iproute2"];

/// The libraries' folder of a Debian tree.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// Emulator and tools, unpacked. They run with the C library that they came with, so that the system's may be any.
pub(super) struct Tools {
    root: PathBuf,
}

/// A kernel, unpacked.
pub(super) struct KernelFiles {
    /// As `uname -r` says it.
    pub(super) release: String,
    pub(super) image: PathBuf,
    /// The folder that the modules are somewhere in.
    pub(super) modules: PathBuf,
}

impl Tools {
    /// Fetches what is not there.
    pub(super) fn provide() -> anyhow::Result<Self> {
        let root = cache()?.join("tools");
        fetch_once(&root, "the emulator and tools", TOOLS_SOURCE, |archive, folder| {
            archive.unpack_with_dependencies(&TOOLS, folder)
        })?;
        Ok(Self { root })
    }

    /// A file of the tree.
    pub(super) fn file(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// The dynamic loader that starts programs of the tree.
    pub(super) fn loader(&self) -> PathBuf {
        self.file("usr/lib64/ld-linux-x86-64.so.2")
    }

    /// The libraries that the loader is to look in.
    pub(super) fn libraries(&self) -> PathBuf {
        self.file(LIBRARIES)
    }

    /// A program without libraries.
    pub(super) fn busybox(&self) -> PathBuf {
        self.file("usr/bin/busybox")
    }
}

impl KernelFiles {
    /// Fetches a kernel if it is not there.
    pub(super) fn provide(kernel: &Kernel) -> anyhow::Result<Self> {
        let root = cache()?.join("kernels").join(kernel.name);
        fetch_once(&root, &format!("kernel {}", kernel.name), kernel.source, |archive, folder| {
            let names = archive.names("linux-")?;
            let release = kernel.newest_release(names.iter().map(String::as_str)).with_context(|| {
                format!("{} has no kernel {} for cloud machines any more", kernel.source, kernel.name)
            })?;
            // Newer ones come in three parts.
            let parts = ["image", "binary", "modules"].map(|part| format!("linux-{part}-{release}"));
            let parts: Vec<String> = parts.into_iter().filter(|part| names.contains(part)).collect();
            archive.unpack(&parts, folder)?;
            write(&folder.join("release"), release)
        })?;
        let release = fs::read_to_string(root.join("release")).context("cannot read a kernel's release")?;
        let places = [format!("boot/vmlinuz-{release}"), format!("usr/lib/modules/{release}/vmlinuz")];
        let image = places.iter().map(|place| root.join(place)).find(|image| image.is_file()).with_context(|| {
            format!("no kernel image in {}; remove the folder, then it is fetched again", root.display())
        })?;
        Ok(Self { release, image, modules: root })
    }
}

/// Fills a folder unless it is there. It appears under its name when it is complete.
fn fetch_once(
    folder: &Path,
    what: &str,
    source: &str,
    fetch: impl FnOnce(&Archive, &Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if folder.exists() {
        return Ok(());
    }
    eprintln!("fetching {what} from {source}");
    let mut scratch = folder.as_os_str().to_owned();
    scratch.push(".new");
    let scratch = PathBuf::from(scratch);
    remove(&scratch)?;
    let (apt, content) = (scratch.join("apt"), scratch.join("content"));
    let archive = Archive::open(apt, source)?;
    fetch(&archive, &content).with_context(|| format!("cannot fetch {what}"))?;
    fs::rename(&content, folder).with_context(|| format!("cannot create {}", folder.display()))?;
    remove(&scratch)
}

/// Removes what has been fetched of a kernel, so that the newest is fetched.
pub(super) fn forget(kernel: &Kernel) -> anyhow::Result<()> {
    remove(&cache()?.join("kernels").join(kernel.name))
}

fn cache() -> anyhow::Result<PathBuf> {
    Ok(workspace::cache()?.join("vm"))
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
