//! `kubectl`, of which the tests use `kustomize`: the one on PATH, else Debian 13's, unpacked into the cache. Debian 12's
//! cannot read what today's manifests say.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, bail};

use crate::{archive::Archive, process, workspace};

const PACKAGE: &str = "kubernetes-client";
const SOURCE: &str = "http://deb.debian.org/debian trixie main";
const PROGRAM: &str = "usr/bin/kubectl";

/// Fetches it unless there is one.
pub(super) fn provide() -> anyhow::Result<()> {
    if find()?.is_some() {
        return Ok(());
    }
    let root = folder()?;
    eprintln!("fetching {PACKAGE} from {SOURCE}");
    let lists = root.with_extension("apt");
    Archive::open(lists.clone(), SOURCE)?.unpack(&[PACKAGE.to_owned()], &root)?;
    fs::remove_dir_all(&lists).with_context(|| format!("cannot remove {}", lists.display()))?;
    if root.join(PROGRAM).exists() { Ok(()) } else { bail!("the package {PACKAGE} holds no {PROGRAM}") }
}

/// Where it is.
pub(crate) fn find() -> anyhow::Result<Option<PathBuf>> {
    let own = folder()?.join(PROGRAM);
    Ok(process::find("kubectl").or_else(|| own.exists().then_some(own)))
}

fn folder() -> anyhow::Result<PathBuf> {
    Ok(workspace::cache()?.join("tools/kubectl"))
}
