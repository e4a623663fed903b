//! Makes tarball and .deb of the same files, with the same owner and time for all of them, and lists the checksums.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};

use super::{
    compile::{Checkout, PROFILE},
    contents::{Manifest, Packaged},
    target::Target,
    tools,
};
use crate::process;

/// The list of checksums.
pub(super) const SUMS: &str = "SHA256SUMS";

/// Makes the tarball, which mirrors the file system of an installed package, checksums and all.
pub(super) fn tarball(
    checkout: &Checkout,
    target: Target,
    manifest: &Manifest,
    files: &[Packaged],
    out: &Path,
) -> anyhow::Result<PathBuf> {
    let name = format!("ml-ids-{}-{}", manifest.version()?, target.name());
    let stage = checkout.target_dir.join("stage");
    tools::remove(&stage)?;
    let root = stage.join(&name);
    for Packaged { from, to, mode } in files {
        let place = root.join(to);
        let folder = place.parent().context("a packaged file without a folder")?;
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        fs::copy(from, &place).with_context(|| format!("cannot copy {} to {}", from.display(), place.display()))?;
        fs::set_permissions(&place, fs::Permissions::from_mode(*mode))?;
    }
    let sums = sums(files.iter().map(|file| (file.to.as_str(), root.join(&file.to))))?;
    fs::write(root.join(SUMS), sums).with_context(|| format!("cannot write {SUMS}"))?;
    let file = out.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args(["--create", "--format=gnu", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
        .arg(format!("--mtime=@{}", checkout.epoch))
        // Whatever the umask of whoever builds.
        .args(["--mode=u=rwX,go=rX", "--directory"])
        .arg(&stage)
        .arg(&name)
        .stdout(Stdio::piped());
    let mut tar = tar.spawn().context("cannot start tar")?;
    let content = tar.stdout.take().context("tar has no output")?;
    let packed = File::create(&file).with_context(|| format!("cannot write {}", file.display()))?;
    let gzip = Command::new("gzip").args(["-9", "--no-name"]).stdin(content).stdout(packed).status();
    ensure!(gzip.context("cannot start gzip")?.success(), "gzip failed");
    ensure!(tar.wait().context("cannot wait for tar")?.success(), "tar failed");
    tools::remove(&stage)?;
    Ok(file)
}

/// Makes the .deb; `fast`, it is larger.
pub(super) fn deb(
    checkout: &Checkout,
    target: Target,
    manifest: &Manifest,
    fast: bool,
    out: &Path,
) -> anyhow::Result<PathBuf> {
    let file = out.join(format!("ml-ids_{}-1_{}.deb", manifest.version()?, target.debian()));
    let mut command = process::cargo(["deb", "--no-build", "--no-strip", "--locked", "--quiet", "--package", "ml-ids"]);
    command.args(["--profile", PROFILE, "--target", target.triple(), "--output"]).arg(&file);
    if fast {
        command.arg("--fast");
    }
    checkout.settle(&mut command)?;
    process::visible(&mut command)?;
    Ok(file)
}

/// Writes the checksums of what was made.
pub(super) fn write_sums(out: &Path, files: &[PathBuf]) -> anyhow::Result<PathBuf> {
    let name = |file: &PathBuf| file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let names: Vec<String> = files.iter().map(name).collect();
    let sums = sums(names.iter().map(String::as_str).zip(files.iter().cloned()))?;
    let file = out.join(SUMS);
    fs::write(&file, sums).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// As `sha256sum --check` reads them.
fn sums<'name>(files: impl Iterator<Item = (&'name str, PathBuf)>) -> anyhow::Result<String> {
    let mut list = String::new();
    for (name, file) in files {
        list += &format!("{}  {name}\n", sha256(&file)?);
    }
    Ok(list)
}

/// SHA-256 of a file, in hex.
pub(super) fn sha256(file: &Path) -> anyhow::Result<String> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(hex(&bytes))
}

/// SHA-256 of bytes, in hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_sha256sum() {
        assert_eq!(hex(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
