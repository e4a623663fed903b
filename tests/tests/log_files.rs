//! Log files when their place fails them: on a full disk, without their folder, read-only. The sensor goes on, says it once,
//! and all events are there when the place is back, each on a whole line.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ml_ids::sink::{Event, EventKind, Hub, Kinds, LogFiles, Rotation, SinkState, log_files};
use ml_ids_tests::lab::wait_until;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

/// A small file system of its own, with the log files of a hub in a folder.
struct Place {
    mount: PathBuf,
    hub: Option<Hub>,
    /// Mounted on top of it.
    above: u32,
    _folder: tempfile::TempDir,
}

impl Place {
    /// `None`, said loudly, without root.
    fn make(rotation: Rotation) -> Result<Option<Self>> {
        // SAFETY: no preconditions.
        if unsafe { libc::geteuid() } != 0 {
            eprintln!("SKIPPED: mounting a file system needs root");
            return Ok(None);
        }
        let folder = tempfile::tempdir()?;
        let mount = folder.path().join("small");
        fs::create_dir(&mount)?;
        mount_on(&mount, "size=512k")?;
        let mut place = Self { mount, hub: None, above: 1, _folder: folder };
        let files = LogFiles { negative: false, block: false, eve: Kinds::of(&[EventKind::Alert]), rotation };
        place.hub = Some(Hub::start(log_files(&place.logs(), &files)?, |_| {})?);
        Ok(Some(place))
    }

    fn logs(&self) -> PathBuf {
        self.mount.join("logs")
    }

    fn state(&self) -> SinkState {
        let states = self.hub.iter().flat_map(Hub::states);
        states.into_iter().find(|state| state.name == "eve_log").expect("there is an event log")
    }

    fn emit(&self, numbers: std::ops::Range<u64>) {
        for number in numbers {
            let event = Event::new(EventKind::Alert, &json!({ "number": number, "padding": "x".repeat(500) }));
            self.hub.iter().for_each(|hub| hub.emit(&event));
        }
    }

    fn wait_for(&self, what: &str, condition: impl Fn(&SinkState) -> bool) -> Result<()> {
        wait_until(SOON, || condition(&self.state())).with_context(|| format!("not {what}: {:?}", self.state()))
    }

    fn fails_with(&self, words: &str) -> Result<()> {
        self.wait_for(words, |state| state.failure.as_ref().is_some_and(|failure| failure.contains(words)))
    }

    fn recovers(&self, events: u64) -> Result<()> {
        self.wait_for("well", |state| state.delivered == events && state.failure.is_none() && state.dropped == 0)
    }

    /// The numbers in all of its event logs, each of which holds whole lines only.
    fn numbers(&self) -> Result<Vec<u64>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.logs())? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("eve.json")) {
                found.extend(numbers(&path)?);
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.take() {
            hub.stop();
        }
        for _ in 0..self.above {
            let _ = Command::new("umount").arg("-l").arg(&self.mount).output();
        }
    }
}

fn mount_on(folder: &Path, options: &str) -> Result<()> {
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder).output()?;
    ensure!(mounted.status.success(), "cannot mount: {}", String::from_utf8_lossy(&mounted.stderr));
    Ok(())
}

fn numbers(path: &Path) -> Result<Vec<u64>> {
    let text = fs::read_to_string(path)?;
    ensure!(text.is_empty() || text.ends_with('\n'), "{} ends within a line", path.display());
    let number = |line: &str| -> Result<u64> {
        let event: Value = serde_json::from_str(line).with_context(|| format!("half a line: {line}"))?;
        event["number"].as_u64().context("no number")
    };
    text.lines().map(number).collect()
}

#[test]
fn a_full_disk_holds_whole_lines_and_gets_the_rest_when_there_is_room() -> Result<()> {
    let Some(place) = Place::make(Rotation::default())? else { return Ok(()) };
    let filler = place.mount.join("filler");
    fs::write(&filler, vec![0; 300 << 10])?;
    for round in 0..10 {
        place.emit(round * 100..round * 100 + 100);
        std::thread::sleep(Duration::from_millis(20));
    }
    place.fails_with("No space left")?;
    let full = place.numbers()?;
    ensure!(!full.is_empty() && full.len() < 1000, "{} events on a full disk", full.len());
    fs::remove_file(&filler)?;
    // What there is room for now comes; the disk is full again.
    wait_until(SOON, || place.numbers().is_ok_and(|found| found.len() > full.len())).context("no further event")?;
    fs::remove_file(place.logs().join("eve.json"))?;
    place.recovers(1000)?;
    let last = place.numbers()?;
    ensure!(last.last() == Some(&999), "{last:?}");
    Ok(())
}

#[test]
fn a_folder_that_is_removed_is_made_again() -> Result<()> {
    let Some(place) = Place::make(Rotation::default())? else { return Ok(()) };
    place.emit(0..10);
    place.recovers(10)?;
    fs::remove_dir_all(place.logs())?;
    place.emit(10..20);
    place.recovers(20)?;
    ensure!(place.numbers()? == (10..20).collect::<Vec<_>>(), "{:?}", place.numbers()?);
    Ok(())
}

#[test]
fn a_place_that_is_read_only_gets_everything_when_it_can_be_written_again() -> Result<()> {
    let Some(mut place) = Place::make(Rotation::default())? else { return Ok(()) };
    place.emit(0..10);
    place.recovers(10)?;
    // A file that is open for writing keeps the kernel from making its file system read-only, so another one hides it.
    mount_on(&place.mount, "ro")?;
    place.above += 1;
    place.emit(10..20);
    place.fails_with("Read-only file system")?;
    // It is busy for a moment whenever the sink tries.
    let gone = || Command::new("umount").arg(&place.mount).status().is_ok_and(|status| status.success());
    wait_until(SOON, gone).context("what hides it cannot be unmounted")?;
    place.above -= 1;
    place.recovers(20)?;
    ensure!(place.numbers()? == (0..20).collect::<Vec<_>>(), "{:?}", place.numbers()?);
    Ok(())
}

#[test]
fn rotation_under_load_loses_no_event_and_keeps_no_more_files_than_it_may() -> Result<()> {
    let rotation = Rotation { bytes: 20 << 10, age: None, keep: 3, gzip: true };
    let Some(place) = Place::make(rotation)? else { return Ok(()) };
    for round in 0..40 {
        place.emit(round * 25..round * 25 + 25);
        std::thread::sleep(Duration::from_millis(5));
    }
    place.recovers(1000)?;
    let files = || -> Result<Vec<String>> {
        let names = fs::read_dir(place.logs())?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let mut names: Vec<String> = names.collect::<Result<_>>()?;
        names.retain(|name| name.starts_with("eve.json."));
        names.sort();
        Ok(names)
    };
    let tidy = || files().is_ok_and(|names| names.len() == 3 && names.iter().all(|name| name.ends_with(".gz")));
    wait_until(SOON, tidy).with_context(|| format!("closed files: {:?}", files()))?;
    let mut found = Vec::new();
    for name in files()? {
        let text = Command::new("gzip").arg("-dc").arg(place.logs().join(&name)).output()?;
        ensure!(text.status.success(), "{name}: {}", String::from_utf8_lossy(&text.stderr));
        let plain = place.mount.join("plain");
        fs::write(&plain, text.stdout)?;
        found.extend(numbers(&plain)?);
    }
    found.extend(numbers(&place.logs().join("eve.json"))?);
    let first = *found.first().context("nothing")?;
    ensure!(found == (first..1000).collect::<Vec<_>>(), "a gap: {found:?}");
    Ok(())
}
