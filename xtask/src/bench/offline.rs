//! Capture to features: how many packets a CPU second `ml-ids extract` reads, on one thread and on two, beside programs
//! that read the same file: tcpdump copying it, and, where they are installed, argus and nfstream making flows of it.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    big_capture::{self, PACKETS},
    figure::Figure,
    measure::{self, Cost},
};
use crate::{process, setup, workspace};

const RUNS: u32 = 5;
const NAME: &str = "offline";
/// nfstream with its statistical features, each flow made and dropped. Its meters are processes of their own.
const NFSTREAM: &str = "
import sys
from nfstream import NFStreamer
if __name__ == '__main__':
    for flow in NFStreamer(source=sys.argv[1], statistical_analysis=True, n_dissections=0):
        pass
";

/// Measures, making the capture first if it is not there.
pub(crate) fn run() -> anyhow::Result<Vec<Figure>> {
    let capture = big_capture::provide()?;
    let mut figures = Vec::new();
    let [one, two] = ["1", "2"].map(|jobs| extract(&capture, jobs));
    let (one, two) = (one?, two?);
    figures.extend(self::figures("ml-ids extract", one));
    figures.extend(self::figures("ml-ids extract --jobs 2", two));
    figures.push(ratio("--jobs 2: gain on the wall", one.wall.as_secs_f64() / two.wall.as_secs_f64()));
    figures.push(ratio("--jobs 2: CPU time over that of one", two.cpu.as_secs_f64() / one.cpu.as_secs_f64()));
    for (name, command) in others(&capture) {
        let Some(mut command) = command else {
            eprintln!("{name} is not installed, so it is not compared with");
            continue;
        };
        let other = measure::best_of(RUNS, &mut command)?;
        figures.extend(self::figures(name, other));
        let times = one.cpu.as_secs_f64() / other.cpu.as_secs_f64();
        figures.push(ratio(&format!("CPU time over {name}'s"), times));
    }
    Ok(figures)
}

fn extract(capture: &Path, jobs: &str) -> anyhow::Result<Cost> {
    let mut extract = Command::new(workspace::agent("release"));
    extract.arg("extract").arg(capture).args(["--jobs", jobs, "-o", "/dev/null"]);
    measure::best_of(RUNS, &mut extract)
}

/// Programs to compare with, as far as they are installed.
fn others(capture: &Path) -> [(&'static str, Option<Command>); 3] {
    let reader = |program: PathBuf| {
        let mut command = Command::new(program);
        command.arg("-r").arg(capture).args(["-w", "/dev/null"]);
        command
    };
    let python = [setup::training_python().ok(), process::find("python3")].into_iter().flatten();
    let nfstream = python
        .map(|python| {
            let mut command = Command::new(python);
            command.arg("-c").arg(NFSTREAM).arg(capture);
            command
        })
        .find(has_nfstream);
    [
        ("tcpdump -w", process::find("tcpdump").map(reader)),
        ("argus", process::find("argus").map(reader)),
        ("nfstream", nfstream),
    ]
}

fn has_nfstream(command: &Command) -> bool {
    process::stdout(Command::new(command.get_program()).args(["-c", "import nfstream"])).is_some()
}

fn ratio(figure: &str, value: f64) -> Figure {
    Figure::new(NAME, figure, value, "times")
}

fn figures(program: &str, Cost { wall, cpu }: Cost) -> Vec<Figure> {
    vec![
        Figure::new(NAME, &format!("{program}: wall"), wall.as_secs_f64(), "s"),
        Figure::new(NAME, &format!("{program}: CPU"), cpu.as_secs_f64(), "s"),
        Figure::new(NAME, &format!("{program}: rate"), PACKETS as f64 / cpu.as_secs_f64(), "packets/CPU s"),
    ]
}
