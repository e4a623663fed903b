//! The .deb on a fresh Debian 12: installed with apt, used, upgraded, run as a service by a systemd of its own, removed and purged,
//! in a root and namespaces of its own. Debian's base comes from debootstrap once and is kept in the cache.

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
/// What a fresh machine has beyond the smallest base.
const INCLUDED: &str = "systemd-sysv,iproute2";

/// What is done inside.
const SCRIPTS: [(&str, &str); 3] = [
    ("words.sh", include_str!("words.sh")),
    ("package.sh", include_str!("package.sh")),
    ("service.sh", include_str!("service.sh")),
];
/// What starts systemd, outside.
const BOOT: &str = include_str!("boot.sh");
/// What goes around everything else that is started in the root. Its mounts and processes end with it.
const ENTER: &str = "mount -t proc proc \"$0/proc\" && mount -t tmpfs tmpfs \"$0/tmp\" && exec chroot \"$0\" /usr/bin/env -i \
                     PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
                     sh /root/package.sh \"$1\"";

/// Goes through a package's life.
pub(super) fn run(deb: &Path) -> anyhow::Result<()> {
    if !process::is_root() {
        bail!("a package is installed as root, if only in a folder: run `cargo xtask dist --exercise` as root");
    }
    let base = base()?;
    let root = workspace::target().join("xtask/dist/debian");
    tools::remove(&root)?;
    fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
    process::visible(Command::new("tar").arg("--extract").arg("--file").arg(&base).arg("--directory").arg(&root))?;
    let home = root.join("root");
    let copy = |from: &Path, name: &str| {
        fs::copy(from, home.join(name)).with_context(|| format!("cannot copy {}", from.display()))
    };
    copy(deb, "ml-ids.deb")?;
    copy(&workspace::root().join("tests/data/handmade/random.pcap"), "capture.pcap")?;
    for (name, script) in SCRIPTS {
        fs::write(home.join(name), script).with_context(|| format!("cannot write {name}"))?;
    }
    enter(&root, "install")?;
    boot(&root)?;
    enter(&root, "remove")?;
    tools::remove(&root)
}

/// Runs a part of the package's life in the root.
fn enter(root: &Path, part: &str) -> anyhow::Result<()> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER]).arg(root).arg(part);
    process::visible(&mut command)
}

/// Boots the root, in which the service is enabled, and shows what became of it.
fn boot(root: &Path) -> anyhow::Result<()> {
    let ended = process::visible(Command::new("sh").args(["-c", BOOT, "boot"]).arg(root));
    let said = fs::read_to_string(root.join("root/service.out")).unwrap_or_default();
    eprint!("{said}");
    if said.ends_with("passed\n") {
        return Ok(());
    }
    let journal = root.join("root/journal.out");
    eprint!("{}", fs::read_to_string(journal).unwrap_or_default());
    ended.context("systemd did not end by itself")?;
    bail!("the service does not do what it should under systemd; the system is left in {}", root.display())
}

/// The base system's tarball, made unless it is there.
fn base() -> anyhow::Result<PathBuf> {
    let folder = workspace::cache()?.join("dist");
    let tarball = folder.join(format!("{SUITE}-systemd.tar"));
    if tarball.exists() {
        return Ok(tarball);
    }
    if process::find("debootstrap").is_none() {
        setup::install_packages(&["debootstrap"])?;
    }
    eprintln!("fetching Debian's {SUITE} (takes two minutes)");
    let root = folder.join(format!("{SUITE}.new"));
    tools::remove(&root)?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", &format!("--include={INCLUDED}"), SUITE]).arg(&root).arg(MIRROR);
    process::visible(debootstrap.stdout(std::process::Stdio::null()))?;
    let unfinished = tarball.with_extension("tar.new");
    let mut tar = Command::new("tar");
    tar.arg("--create").arg("--file").arg(&unfinished).arg("--exclude=./var/cache/apt/archives/*.deb");
    process::visible(tar.arg("--directory").arg(&root).arg("."))?;
    fs::rename(&unfinished, &tarball).with_context(|| format!("cannot create {}", tarball.display()))?;
    tools::remove(&root)?;
    Ok(tarball)
}
