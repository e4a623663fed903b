//! The capture that `ml-ids demo` replays: tests/data/story.py, compressed, as a part of the program.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{process, workspace};

/// How hard it is compressed.
const LEVEL: i32 = 19;

/// Makes it anew. What says the same stays, whichever library compressed it.
pub(super) fn main() -> Result<()> {
    let story = story()?;
    let packed = workspace::root().join("ml-ids/assets/demo.pcap.zst");
    let before = fs::read(&packed).ok().and_then(|bytes| zstd::decode_all(bytes.as_slice()).ok());
    if before.as_ref() == Some(&story) {
        println!("{} is up to date", packed.display());
        return Ok(());
    }
    let bytes = zstd::encode_all(story.as_slice(), LEVEL).context("cannot compress the capture")?;
    fs::write(&packed, &bytes).with_context(|| format!("cannot write {}", packed.display()))?;
    println!("{} is made anew, {} KiB", packed.display(), bytes.len() / 1024);
    Ok(())
}

fn story() -> Result<Vec<u8>> {
    let capture = make()?;
    let bytes = fs::read(&capture).with_context(|| format!("cannot read {}", capture.display()))?;
    fs::remove_file(&capture).with_context(|| format!("cannot remove {}", capture.display()))?;
    Ok(bytes)
}

/// Writes the capture and says where it is.
pub(super) fn make() -> Result<PathBuf> {
    let capture = workspace::target().join("story.pcap");
    let story = workspace::root().join("tests/data/story.py");
    process::visible(Command::new("python3").arg(story).arg(&capture))?;
    Ok(capture)
}
