//! axe-core, which the page's tests run in the browser: one script from the npm registry, checked by its sum. It is not part
//! of the program and not in the repository (MPL-2.0).

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, bail};

use crate::{process, workspace};

const VERSION: &str = "4.14.1";
/// SHA-256 of the archive.
const SUM: &str = "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745";
/// What of it is used, and where it says who made it.
const FILES: [&str; 2] = ["axe.min.js", "LICENSE"];

/// Fetches it into `tools/axe-core` of the cache unless this version is there.
pub(super) fn provide() -> anyhow::Result<()> {
    let folder = workspace::cache()?.join("tools/axe-core");
    let stamp = folder.join("version");
    let is_there = FILES.iter().all(|file| folder.join(file).exists());
    if is_there && fs::read_to_string(&stamp).is_ok_and(|version| version == VERSION) {
        return Ok(());
    }
    eprintln!("fetching axe-core {VERSION} into {}", folder.display());
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let archive = folder.join("axe-core.tgz");
    let address = format!("https://registry.npmjs.org/axe-core/-/axe-core-{VERSION}.tgz");
    process::twice(
        Command::new("curl").args(["--silent", "--show-error", "--fail", "--output"]).arg(&archive).arg(address),
    )?;
    let checked = check(&archive).and_then(|()| unpack(&archive, &folder));
    // Whether it was what was expected or not, nobody needs it any more.
    fs::remove_file(&archive).with_context(|| format!("cannot remove {}", archive.display()))?;
    checked?;
    fs::write(&stamp, VERSION).with_context(|| format!("cannot write {}", stamp.display()))
}

fn check(archive: &Path) -> anyhow::Result<()> {
    let printed = process::stdout(Command::new("sha256sum").arg(archive)).context("sha256sum does not work")?;
    match printed.split_whitespace().next() {
        Some(SUM) => Ok(()),
        sum => bail!("what the npm registry calls axe-core {VERSION} has the sum {sum:?} instead of {SUM}; not used"),
    }
}

fn unpack(archive: &Path, folder: &Path) -> anyhow::Result<()> {
    let members = FILES.map(|file| format!("package/{file}"));
    let mut tar = Command::new("tar");
    tar.arg("--extract").arg("--file").arg(archive).arg("--directory").arg(folder);
    process::visible(tar.args(["--strip-components=1", "--no-same-owner"]).args(members))
}
