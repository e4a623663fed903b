//! docs/tour.md: what a newcomer sees, recorded from the programs themselves.

mod svg;
mod terminal;

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use self::terminal::Terminal;
use super::{demo, pictures, replace};
use crate::{process, setup, workspace};

/// Longest time that a recorded command may take: the demonstration takes a minute and a bit.
const PATIENCE: Duration = Duration::from_secs(240);

/// Size of the terminal: no line of the demonstration is broken.
const COLUMNS_ROWS: (u16, u16) = (122, 34);

/// The pictures of the page.
const PICTURES: [&str; 2] = ["tour-page.png", "tour-page-alert.png"];

/// Records the terminal, takes the pictures of the page, and prints the alerts into the document.
pub(super) fn main() -> Result<()> {
    ensure!(process::find("tmux").is_some(), "tmux is not there; `cargo xtask setup --tests` installs it");
    setup::build_tools()?;
    process::visible(&mut process::cargo(["build", "--package", "ml-ids"]))?;
    let images = workspace::root().join("docs/images");
    fs::create_dir_all(&images).with_context(|| format!("cannot make {}", images.display()))?;
    let place = workspace::target().join("tour");
    // Left by a recording that failed.
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
    fs::rename(demo::make()?, place.join("story.pcap")).context("cannot move the capture")?;
    let alerts = record(&place, &images)?;
    fs::remove_dir_all(&place).with_context(|| format!("cannot remove {}", place.display()))?;
    pictures::take("demo", "pictures_for_the_tour", &PICTURES.map(str::to_owned))?;
    replace(&workspace::root().join("docs/tour.md"), "story", &alerts)
}

/// Records the sessions. Returns the alerts of the ten minutes.
fn record(place: &Path, images: &Path) -> Result<String> {
    let write = |name: &str, terminal: &Terminal, title: &str| {
        let file = images.join(format!("tour-{name}.svg"));
        fs::write(&file, svg::draw(&terminal.screen()?, title))
            .with_context(|| format!("cannot write {}", file.display()))?;
        println!("{} is made anew", file.display());
        anyhow::Ok(())
    };
    let terminal = Terminal::open(place, "demo", COLUMNS_ROWS)?;
    terminal.enter("ml-ids demo")?;
    terminal.wait_for("the capture is over", PATIENCE)?;
    write("demo", &terminal, "ml-ids demo")?;
    drop(terminal);

    let terminal = Terminal::open(place, "top", COLUMNS_ROWS)?;
    let looping = Looping::start(place)?;
    terminal.wait_for_file(&place.join("demo.log"), "DoS Hulk", PATIENCE)?;
    terminal.enter("clear; ml-ids top")?;
    terminal.wait_for("packets", PATIENCE)?;
    // Until its lists and curves have something to show.
    thread::sleep(Duration::from_secs(5));
    write("top", &terminal, "ml-ids top")?;
    drop((terminal, looping));

    let terminal = Terminal::open(place, "alert", COLUMNS_ROWS)?;
    terminal.enter("ml-ids demo --speed max --once --keep demo >alerts.txt 2>said.txt; clear")?;
    let listed = fs::read_to_string(terminal.wait_for_file(&place.join("said.txt"), "alerts list", PATIENCE)?)?;
    // The prompt, with what came before cleared away.
    thread::sleep(Duration::from_secs(1));
    let said = fs::read_to_string(place.join("alerts.txt")).context("the demonstration has printed nothing")?;
    let id = said.lines().find(|line| line.contains("SSH-Patator")).and_then(|line| line.split_whitespace().next());
    let Some(id) = id else { bail!("no brute force is among the alerts:\n{said}\n{listed}") };
    terminal.enter(&format!("ml-ids alerts show {id} --db demo/alerts.db"))?;
    terminal.wait_for("because", PATIENCE)?;
    write("alert", &terminal, "ml-ids alerts show")?;
    drop(terminal);

    let terminal = Terminal::open(place, "score", COLUMNS_ROWS)?;
    terminal.enter("ml-ids score story.pcap -o verdicts.jsonl")?;
    terminal.wait_for("$ $", PATIENCE)?;
    write("score", &terminal, "ml-ids score")?;
    drop(terminal);

    let mut command = Command::new(workspace::agent("debug"));
    let output = command.args(["score", "story.pcap", "--alerts"]).current_dir(place).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// A demonstration in the background; killed when dropped. A hangup, which is what a terminal that closes sends, would only
/// make it read its files again.
struct Looping(Child);

impl Looping {
    fn start(place: &Path) -> Result<Self> {
        let log = File::create(place.join("demo.log")).context("cannot write the log")?;
        let mut command = Command::new(workspace::agent("debug"));
        command.args(["demo", "--loop"]).current_dir(place).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(Self(command.spawn().context("cannot start the agent")?))
    }
}

impl Drop for Looping {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
