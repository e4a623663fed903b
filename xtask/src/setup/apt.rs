//! Debian packages.

use std::process::Command;

use anyhow::bail;

use crate::process;

/// Whether this system installs packages with apt.
pub(crate) fn available() -> bool {
    process::find("apt-get").is_some()
}

/// Those of `packages` that are not installed, in their order.
pub(crate) fn missing(packages: &[&'static str]) -> Vec<&'static str> {
    // It fails when any is unknown, and still prints the others.
    let output =
        Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status} ${Package}\n"]).args(packages).output();
    let known = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    not_installed(packages, &known)
}

fn not_installed(packages: &[&'static str], known: &str) -> Vec<&'static str> {
    let installed = |package: &&str| known.lines().any(|line| line.strip_prefix("installed ") == Some(*package));
    packages.iter().copied().filter(|package| !installed(package)).collect()
}

/// Installs packages.
///
/// # Errors
/// When this process is not root: the command for somebody who may.
pub(crate) fn install(packages: &[&str]) -> anyhow::Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let names = packages.join(" ");
    if !process::is_root() {
        bail!(
            "system packages are missing and only root can install them; run:\n  sudo apt-get update\n  sudo apt-get \
             install --no-install-recommends {names}"
        );
    }
    eprintln!("installing with apt-get: {names}");
    let mut install = apt_get(&["install", "--yes", "--no-install-recommends"]);
    install.args(packages);
    let first = install.output()?;
    if first.status.success() {
        return Ok(());
    }
    // Most often the package lists are old, or, on a fresh machine, not there at all.
    eprintln!("fetching the package lists anew");
    process::twice(&mut apt_get(&["--quiet", "update"]))?;
    process::twice(&mut install)
}

fn apt_get(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_and_unknown_packages_are_missing() {
        let known = "installed gcc\nconfig-files nmap\ninstalled gcc-12-base\n";
        assert_eq!(not_installed(&["gcc", "nmap", "gcc-12"], known), ["nmap", "gcc-12"]);
    }
}
