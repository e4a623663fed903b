//! A small file beside the logs that says that a sensor runs and how many flows it watches. It is gone after an orderly end,
//! so one that is found says what a killed sensor, or a machine that went down, has taken with it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use log::{info, warn};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// How often the number is brought up to date.
pub(super) const PERIOD: Duration = Duration::from_secs(2);
const PREFIX: &str = "sensor-";
const SUFFIX: &str = ".state";

/// What the file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    pid: u32,
    /// Clock ticks from boot to the start of the process: another process with the same number has another.
    process_start: u64,
    boot_id: String,
    started: String,
    updated: String,
    live_flows: u64,
    /// Flows outlive the process, but not the machine's boot.
    pinned: bool,
}

/// The file of this process.
pub(super) struct Presence {
    path: PathBuf,
    note: Note,
    failed: bool,
}

impl Presence {
    /// Reports what earlier sensors with these logs have lost, and begins a file of this one.
    pub(super) fn begin(directory: &Path, pinned: bool) -> Self {
        let pid = std::process::id();
        let now = now();
        let note = Note {
            pid,
            process_start: process_start(pid).unwrap_or(0),
            boot_id: boot_id(),
            started: now.clone(),
            updated: now,
            live_flows: 0,
            pinned,
        };
        report_lost(directory, &note.boot_id);
        let mut presence = Self { path: directory.join(format!("{PREFIX}{pid}{SUFFIX}")), note, failed: false };
        presence.update(0);
        presence
    }

    /// Writes down how many flows are watched.
    pub(super) fn update(&mut self, live_flows: u64) {
        self.note.live_flows = live_flows;
        self.note.updated = now();
        if let Err(error) = self.write()
            && !std::mem::replace(&mut self.failed, true)
        {
            warn!("cannot write {}: {error}; a kill of this sensor would go unnoticed", self.path.display());
        }
    }

    /// The sensor ends in order. `live_flows` stay in a pinned table.
    pub(super) fn end(&mut self, live_flows: u64) {
        if self.note.pinned {
            self.update(live_flows);
        } else if let Err(error) = fs::remove_file(&self.path) {
            warn!("cannot remove {}: {error}", self.path.display());
        }
    }

    /// Replaces the file, so that a kill in between leaves a whole one.
    fn write(&self) -> io::Result<()> {
        let new = self.path.with_extension("new");
        fs::write(&new, serde_json::to_vec(&self.note)?)?;
        fs::rename(new, &self.path)
    }
}

/// Logs what sensors that are gone have lost, and removes their files.
fn report_lost(directory: &Path, boot_id: &str) {
    for entry in fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok) {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if !name.starts_with(PREFIX) || !name.ends_with(SUFFIX) {
            continue;
        }
        let path = entry.path();
        let Some(note) = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Note>(&bytes).ok()) else {
            warn!("{} is no note of a sensor, left alone", path.display());
            continue;
        };
        let same_boot = note.boot_id == boot_id;
        if same_boot && process_start(note.pid) == Some(note.process_start) {
            continue;
        }
        match judgement(&note, same_boot) {
            Some(lost) => warn!("{lost}"),
            None => info!("the previous sensor (process {}) left its flows in the kernel", note.pid),
        }
        if let Err(error) = fs::remove_file(&path) {
            warn!("cannot remove {}: {error}", path.display());
        }
    }
}

/// What a sensor that is gone has lost, if anything.
fn judgement(note: &Note, same_boot: bool) -> Option<String> {
    let Note { pid, live_flows, started, updated, pinned, .. } = note;
    if *pinned && same_boot {
        // Said where the table is taken over, given up or removed.
        return None;
    }
    let how = match (same_boot, pinned) {
        (true, _) => "ended without shutting down",
        (false, true) => "left its flows in a kernel that has been restarted",
        (false, false) => "ended with the machine",
    };
    Some(format!(
        "the previous sensor (process {pid}, started {started}) {how}; about {live_flows} flows that it watched were \
         lost (as of {updated})"
    ))
}

fn now() -> String {
    OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default()
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Field 22 of `/proc/PID/stat`, counted behind the command's name, which may hold anything. `None` if there is no such
/// process.
fn process_start(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(pinned: bool) -> Note {
        Note {
            // Larger than any process number.
            pid: u32::MAX,
            process_start: 5,
            boot_id: boot_id(),
            started: "2026-01-02T03:04:05Z".to_owned(),
            updated: "2026-01-02T03:05:05Z".to_owned(),
            live_flows: 321,
            pinned,
        }
    }

    #[test]
    fn what_a_sensor_has_lost_depends_on_where_its_flows_were() {
        let lost = judgement(&note(false), true).unwrap();
        assert!(lost.contains("about 321 flows") && lost.contains("without shutting down"), "{lost}");
        assert!(judgement(&note(false), false).unwrap().contains("with the machine"));
        assert_eq!(judgement(&note(true), true), None);
        assert!(judgement(&note(true), false).unwrap().contains("about 321 flows"));
    }

    #[test]
    fn files_of_sensors_that_are_gone_are_removed_and_those_of_others_stay() {
        let scratch = tempfile::tempdir().unwrap();
        let gone = scratch.path().join("sensor-1.state");
        fs::write(&gone, serde_json::to_vec(&note(false)).unwrap()).unwrap();
        let strange = scratch.path().join("sensor-x.state");
        fs::write(&strange, "no note").unwrap();
        let mut presence = Presence::begin(scratch.path(), false);
        assert!(!gone.exists() && strange.exists() && presence.path.exists());
        presence.update(17);
        let written: Note = serde_json::from_slice(&fs::read(&presence.path).unwrap()).unwrap();
        assert_eq!((written.live_flows, written.pid), (17, std::process::id()));
        // A second sensor with the same logs does not take the first for dead.
        report_lost(scratch.path(), &boot_id());
        assert!(presence.path.exists());
        presence.end(0);
        assert!(!presence.path.exists());
    }

    #[test]
    fn an_orderly_end_leaves_the_number_of_pinned_flows() {
        let scratch = tempfile::tempdir().unwrap();
        let mut presence = Presence::begin(scratch.path(), true);
        presence.end(9);
        let written: Note = serde_json::from_slice(&fs::read(&presence.path).unwrap()).unwrap();
        assert_eq!((written.live_flows, written.pinned), (9, true));
    }
}
