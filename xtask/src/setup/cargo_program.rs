//! Programs from crates.io that are built once and kept in the cache.

use anyhow::Context as _;

use crate::{process, workspace};

/// A program, its version, and further options of `cargo install`.
pub(crate) struct CargoProgram {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) options: &'static [&'static str],
}

impl CargoProgram {
    /// Builds it into `tools` of the cache unless this version is there.
    pub(crate) fn provide(&self) -> anyhow::Result<()> {
        let Self { name, version, options } = self;
        let tools = workspace::cache()?.join("tools");
        let list =
            process::cargo(["install", "--list", "--root"]).arg(&tools).output().context("cannot start cargo")?;
        if String::from_utf8_lossy(&list.stdout).contains(&format!("{name} v{version}:")) {
            return Ok(());
        }
        eprintln!("building {name} {version} (takes some minutes)");
        let mut install = process::cargo(["install", "--locked", name, "--version", version, "--force", "--root"]);
        process::twice(install.arg(&tools).args(*options))
    }
}
