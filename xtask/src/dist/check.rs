//! Whether a commit makes the same packages again: it is built a second time from scratch in another folder with other file
//! times, and the results are compared byte by byte. When they differ, the files inside that do are named.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};

use super::{
    compile::Checkout,
    make, pack,
    target::Target,
    tools::{self, output},
};

/// Builds the checkout's commit again and compares with what was made.
pub(super) fn run(checkout: &Checkout, target: Target, made: &[PathBuf]) -> anyhow::Result<()> {
    let mut status = Command::new("git");
    status.args(["status", "--porcelain", "--untracked-files=no"]).current_dir(&checkout.root);
    let changed = output(&mut status)?;
    ensure!(
        changed.is_empty(),
        "there are changes that are in no commit, and a commit is what is built again:\n{}",
        String::from_utf8_lossy(&changed)
    );
    let folder = std::env::temp_dir().join(format!("ml-ids-dist-{}", std::process::id()));
    let compared = again(checkout, target, made, &folder);
    // Several hundred MiB; what was wrong with the build is more important than what is wrong with that.
    let _ = tools::remove(&folder);
    compared
}

fn again(checkout: &Checkout, target: Target, made: &[PathBuf], folder: &Path) -> anyhow::Result<()> {
    let second = Checkout {
        root: folder.join("elsewhere/sources"),
        // Not below the sources, where the first one is.
        target_dir: folder.join("output"),
        epoch: checkout.epoch,
    };
    export(&checkout.root, &second.root)?;
    let out = folder.join("made");
    let again = make(&second, target, &out, None)?;
    let mut differing = Vec::new();
    for (first, second) in made.iter().zip([&again.deb, &again.tarball]) {
        if pack::sha256(first)? != pack::sha256(second)? {
            differing.push(format!("{}: {}", first.display(), difference(first, second)?.join(", ")));
        }
    }
    if differing.is_empty() {
        return Ok(());
    }
    bail!("two builds of one commit differ:\n{}", differing.join("\n"))
}

/// Writes what the commit holds, and nothing else.
fn export(root: &Path, into: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(into).with_context(|| format!("cannot make {}", into.display()))?;
    let mut git = Command::new("git");
    git.args(["archive", "--format=tar", "HEAD"]).current_dir(root).stdout(Stdio::piped());
    let mut git = git.spawn().context("cannot start git")?;
    let content = git.stdout.take().context("git has no output")?;
    // Times of now: what depends on them differs.
    let unpacked = Command::new("tar").args(["--extract", "--touch", "--directory"]).arg(into).stdin(content).status();
    ensure!(unpacked.context("cannot start tar")?.success(), "tar failed");
    ensure!(git.wait().context("cannot wait for git")?.success(), "git archive failed");
    Ok(())
}

/// Files inside of two packages that differ; none if it is the packing itself.
fn difference(first: &Path, second: &Path) -> anyhow::Result<Vec<String>> {
    let (first, second) = (contents(first)?, contents(second)?);
    let mut names: Vec<String> = first
        .iter()
        .filter(|(name, sum)| second.get(*name) != Some(*sum))
        .map(|(name, _)| name.clone())
        .chain(second.keys().filter(|name| !first.contains_key(*name)).cloned())
        .collect();
    if names.is_empty() {
        names.push("the files inside are the same, their order, times or owners are not".to_owned());
    }
    Ok(names)
}

/// Checksums of the files in a package.
fn contents(package: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let folder = package.with_extension("contents");
    tools::remove(&folder)?;
    fs::create_dir_all(&folder)?;
    let mut unpack = if package.extension().is_some_and(|ending| ending == "deb") {
        let mut command = Command::new("dpkg-deb");
        command.arg("--raw-extract").arg(package).arg(&folder);
        command
    } else {
        let mut command = Command::new("tar");
        command.arg("--extract").arg("--file").arg(package).arg("--directory").arg(&folder);
        command
    };
    output(&mut unpack)?;
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.clone()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).with_context(|| format!("cannot list {}", next.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(&folder).unwrap_or(&path).display().to_string();
                found.insert(name, pack::sha256(&path)?);
            }
        }
    }
    tools::remove(&folder)?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_that_differ_are_named() {
        let folder = std::env::temp_dir().join(format!("ml-ids-check-{}", std::process::id()));
        let packages = ["one", "other"].map(|side| {
            let inside = folder.join(side).join("inside");
            fs::create_dir_all(&inside).unwrap();
            fs::write(inside.join("same"), "same").unwrap();
            fs::write(inside.join("different"), side).unwrap();
            let package = folder.join(format!("{side}.tar.gz"));
            let mut tar = Command::new("tar");
            tar.arg("--create").arg("--gzip").arg("--file").arg(&package);
            output(tar.arg("--directory").arg(folder.join(side)).arg("inside")).unwrap();
            package
        });
        let found = difference(&packages[0], &packages[1]).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found, ["inside/different"]);
    }
}
