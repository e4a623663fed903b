//! Pictures of the page for documents: taken by the browser that tests it, so that what is on them has been checked.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::{process, setup, workspace};

/// Largest picture in the repository, in bytes.
const LARGEST: u64 = 250_000;

/// Lets a test that is ignored otherwise take pictures, and puts them into docs/images/. It has to take exactly these: one
/// that skips takes none.
pub(super) fn take(test: &str, function: &str, names: &[String]) -> Result<()> {
    setup::build_tools()?;
    setup::browser()?;
    process::visible(&mut process::cargo(["build", "--package", "ml-ids"]))?;
    let fresh = workspace::target().join("pictures");
    // Left by a test that failed.
    let _ = fs::remove_dir_all(&fresh);
    fs::create_dir_all(&fresh).with_context(|| format!("cannot make {}", fresh.display()))?;
    let mut command = process::cargo(["test", "--package", "ml-ids-tests", "--test", test, "--"]);
    command.args(["--exact", function, "--ignored", "--nocapture"]).env("ML_IDS_PICTURES", &fresh);
    process::visible(&mut command)?;
    let taken = fs::read_dir(&fresh)?.count();
    ensure!(taken == names.len(), "{taken} pictures instead of {}; the test above says why", names.len());
    let images = workspace::root().join("docs/images");
    fs::create_dir_all(&images).with_context(|| format!("cannot make {}", images.display()))?;
    for name in names {
        let picture = fresh.join(name);
        ensure!(picture.is_file(), "there is no {name}; the test above says why");
        process::visible(Command::new("optipng").args(["-quiet", "-strip", "all"]).arg(&picture))?;
        let bytes = fs::metadata(&picture)?.len();
        ensure!(bytes < LARGEST, "{name} has {bytes} bytes, more than {LARGEST}");
        let target = images.join(name);
        fs::copy(&picture, &target).with_context(|| format!("cannot write {}", target.display()))?;
        println!("{} is made anew, {bytes} bytes", target.display());
    }
    fs::remove_dir_all(&fresh).with_context(|| format!("cannot remove {}", fresh.display()))
}
