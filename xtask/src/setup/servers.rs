//! Servers that the sensor's output goes to in the end-to-end tests. Debian's packages of them start services for the whole
//! machine, so they are not installed but unpacked into the cache, where nothing starts by itself.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use super::apt;
use crate::{process, workspace};

/// A server, where its package puts it, and the packages that bring it with libraries that a small system lacks.
struct Server {
    program: &'static str,
    packages: &'static [&'static str],
}

const SERVERS: [Server; 5] = [
    Server { program: "usr/sbin/rsyslogd", packages: &["rsyslog", "libestr0", "libfastjson4", "liblognorm5"] },
    Server { program: "usr/sbin/nats-server", packages: &["nats-server"] },
    Server { program: "usr/bin/prometheus", packages: &["prometheus"] },
    Server { program: "usr/bin/prometheus-alertmanager", packages: &["prometheus-alertmanager"] },
    // Reads Suricata's events, and ours.
    Server { program: "usr/bin/fever", packages: &["fever"] },
];

/// Unpacks those that are missing into `tools/servers` of the cache.
pub(super) fn provide() -> anyhow::Result<()> {
    let root = workspace::cache()?.join("tools/servers");
    let missing: Vec<&Server> = SERVERS.iter().filter(|server| !root.join(server.program).exists()).collect();
    let packages: Vec<&str> = missing.iter().flat_map(|server| server.packages).copied().collect();
    if packages.is_empty() {
        return Ok(());
    }
    if !apt::available() {
        bail!("the tests need servers that setup can only unpack from Debian's packages: {}", packages.join(", "));
    }
    eprintln!("unpacking into {}: {}", root.display(), packages.join(" "));
    let fetched = root.join(format!("fetched-{}", std::process::id()));
    fs::create_dir_all(&fetched).with_context(|| format!("cannot make {}", fetched.display()))?;
    let unpacked = fetch(&packages, &fetched).and_then(|()| unpack(&fetched, &root));
    // Left behind, it costs some space.
    let _ = fs::remove_dir_all(&fetched);
    unpacked?;
    match missing.iter().find(|server| !root.join(server.program).exists()) {
        Some(server) => bail!("the packages {} hold no {}", server.packages.join(", "), server.program),
        None => Ok(()),
    }
}

/// Downloads the packages' files, which takes no privileges.
fn fetch(packages: &[&str], folder: &Path) -> anyhow::Result<()> {
    let mut download = Command::new("apt-get");
    download
        .args(["--quiet", "-o", "APT::Sandbox::User=root", "download"])
        .args(packages)
        .current_dir(folder)
        .stdout(Stdio::null());
    if process::visible(&mut download).is_ok() {
        return Ok(());
    }
    if !process::is_root() {
        bail!("packages cannot be fetched; run:\n  sudo apt-get update\nthen this again");
    }
    // Most often the package lists are old, or, on a fresh machine, not there at all.
    eprintln!("fetching the package lists anew");
    process::twice(Command::new("apt-get").args(["--quiet", "update"]))?;
    process::twice(&mut download)
}

fn unpack(folder: &Path, root: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let file = entry?.path();
        if file.extension().is_some_and(|ending| ending == "deb") {
            process::visible(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(root))?;
        }
    }
    Ok(())
}
