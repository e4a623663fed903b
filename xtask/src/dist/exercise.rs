//! The .deb on a fresh Debian 12: installed with apt, used, upgraded, removed and purged, in a root of its own with namespaces of
//! its own. Debian's base comes from debootstrap once and is kept in the cache.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use super::tools;
use crate::{process, setup, workspace};

const SUITE: &str = "bookworm";
const MIRROR: &str = "http://deb.debian.org/debian";
/// What is done inside.
const SCRIPT: &str = include_str!("exercise.sh");

/// Goes through a package's life.
pub(super) fn run(deb: &Path) -> anyhow::Result<()> {
    if !process::is_root() {
        bail!("a package is installed as root, if only in a folder: run `cargo xtask dist --exercise` as root");
    }
    let base = base()?;
    let root = workspace::target().join("dist/debian");
    tools::remove(&root)?;
    fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
    process::visible(Command::new("tar").arg("--extract").arg("--file").arg(&base).arg("--directory").arg(&root))?;
    let copy = |from: &Path, name: &str| {
        fs::copy(from, root.join("root").join(name)).with_context(|| format!("cannot copy {}", from.display()))
    };
    copy(deb, "ml-ids.deb")?;
    copy(&workspace::root().join("tests/data/handmade/random.pcap"), "capture.pcap")?;
    fs::write(root.join("root/exercise.sh"), SCRIPT)?;
    let mut command = Command::new("unshare");
    // Its mounts and processes end with it.
    command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c"]).arg(
        "mount -t proc proc \"$0/proc\" && mount -t tmpfs tmpfs \"$0/tmp\" && mount --bind /dev/null \"$0/dev/null\" && \
         exec chroot \"$0\" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
         DEBIAN_FRONTEND=noninteractive sh /root/exercise.sh",
    );
    process::visible(command.arg(&root))?;
    tools::remove(&root)
}

/// The base system's tarball, made unless it is there.
fn base() -> anyhow::Result<PathBuf> {
    let folder = workspace::cache()?.join("dist");
    let tarball = folder.join(format!("{SUITE}.tar"));
    if tarball.exists() {
        return Ok(tarball);
    }
    if process::find("debootstrap").is_none() {
        setup::install_packages(&["debootstrap"])?;
    }
    eprintln!("fetching Debian's {SUITE} (takes a minute)");
    let root = folder.join(format!("{SUITE}.new"));
    tools::remove(&root)?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    process::visible(Command::new("debootstrap").args(["--variant=minbase", SUITE]).arg(&root).arg(MIRROR))?;
    let unfinished = tarball.with_extension("tar.new");
    let mut tar = Command::new("tar");
    tar.arg("--create").arg("--file").arg(&unfinished).arg("--exclude=./var/cache/apt/archives/*.deb");
    process::visible(tar.arg("--directory").arg(&root).arg("."))?;
    fs::rename(&unfinished, &tarball).with_context(|| format!("cannot create {}", tarball.display()))?;
    tools::remove(&root)?;
    Ok(tarball)
}
