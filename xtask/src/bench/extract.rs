//! Capture to features: how many packets a CPU second `ml-ids extract` reads, beside tcpdump copying the same file.

use std::{fs, path::PathBuf, process::Command};

use anyhow::Context as _;

use super::{
    figure::Figure,
    measure::{self, Cost},
    traffic,
};
use crate::{process, workspace};

/// Packets of the capture.
const PACKETS: u64 = 1_000_000;
const SEED: u64 = 1;
const RUNS: u32 = 3;
const NAME: &str = "extract";

/// Measures, making the capture first if it is not there.
pub(crate) fn run() -> anyhow::Result<Vec<Figure>> {
    let capture = capture()?;
    let mut extract = Command::new(workspace::agent("release"));
    extract.arg("extract").arg(&capture).args(["-o", "/dev/null"]);
    let own = measure::best_of(RUNS, &mut extract)?;
    let mut figures = figures("ml-ids extract", own);
    match process::find("tcpdump") {
        Some(tcpdump) => {
            let mut copy = Command::new(tcpdump);
            copy.arg("-r").arg(&capture).args(["-w", "/dev/null"]);
            let other = measure::best_of(RUNS, &mut copy)?;
            figures.extend(self::figures("tcpdump -w", other));
            let ratio = own.cpu.as_secs_f64() / other.cpu.as_secs_f64();
            figures.push(Figure::new(NAME, "CPU time over tcpdump's", ratio, "times"));
        }
        None => {
            eprintln!("tcpdump is not installed, so nothing to compare with: `cargo xtask setup --tests` brings it");
        }
    }
    Ok(figures)
}

fn figures(program: &str, Cost { wall, cpu }: Cost) -> Vec<Figure> {
    vec![
        Figure::new(NAME, &format!("{program}: wall"), wall.as_secs_f64(), "s"),
        Figure::new(NAME, &format!("{program}: CPU"), cpu.as_secs_f64(), "s"),
        Figure::new(NAME, &format!("{program}: rate"), PACKETS as f64 / cpu.as_secs_f64(), "packets/CPU s"),
    ]
}

/// The capture, kept from earlier runs.
fn capture() -> anyhow::Result<PathBuf> {
    let file = workspace::target().join("bench/big.pcap");
    if file.exists() {
        return Ok(file);
    }
    let folder = workspace::target().join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    eprintln!("writing a capture of {PACKETS} packets to {}", file.display());
    // Renamed when complete: an interrupted run leaves no half of a capture behind.
    let part = folder.join("big.pcap.part");
    traffic::write(&part, PACKETS, SEED).with_context(|| format!("cannot write {}", part.display()))?;
    fs::rename(&part, &file).with_context(|| format!("cannot rename {} to {}", part.display(), file.display()))?;
    Ok(file)
}
