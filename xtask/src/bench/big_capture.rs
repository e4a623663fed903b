//! The capture of a million packets that the offline bench reads, kept from earlier runs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use super::traffic;
use crate::{process, workspace};

/// Packets of the capture.
pub(crate) const PACKETS: u64 = 1_000_000;
const SEED: u64 = 2;
/// A generator beside the repository, whose captures figures elsewhere were measured with.
const REFERENCE: &str = "../shared/reference/gen_big.py";

/// The capture's file, made if it is not there. Says which generator it is from, as figures of the two differ.
pub(crate) fn provide() -> anyhow::Result<PathBuf> {
    let reference = workspace::root().join(REFERENCE);
    let from_reference = reference.exists() && process::find("python3").is_some();
    let (name, origin) = if from_reference {
        ("reference.pcap", format!("{REFERENCE}, seed {SEED}"))
    } else {
        ("own.pcap", format!("the bench's own generator, seed {SEED}, as there is no {REFERENCE}"))
    };
    let folder = workspace::target().join("bench");
    let file = folder.join(name);
    eprintln!("capture of {PACKETS} packets: {}, made by {origin}", file.display());
    if file.exists() {
        return Ok(file);
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    // Renamed when complete: an interrupted run leaves no half of a capture behind.
    let part = file.with_extension("part");
    if from_reference {
        generate(&reference, &part)?;
    } else {
        traffic::write(&part, PACKETS, SEED).with_context(|| format!("cannot write {}", part.display()))?;
    }
    fs::rename(&part, &file).with_context(|| format!("cannot rename {} to {}", part.display(), file.display()))?;
    Ok(file)
}

fn generate(reference: &Path, file: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("python3");
    process::visible(command.arg(reference).arg(file).args([PACKETS.to_string(), SEED.to_string()]))
}
