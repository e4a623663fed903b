//! A small file beside the logs that says that a sensor runs and how many flows it watches. It is gone after an orderly end,
//! so one that is found says what a killed sensor, or a machine that went down, has taken with it.
//!
//! A sensor holds a lock on its file, which ends with the process however that ends. `/proc` would be no proof: it may hide the
//! processes of others (`ProtectProc=invisible`, PID namespaces).

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
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
    /// The file, locked.
    held: Option<File>,
    failed: bool,
}

impl Presence {
    /// Reports what earlier sensors with these logs have lost, and begins a file of this one.
    pub(super) fn begin(directory: &Path, pinned: bool) -> Self {
        let pid = std::process::id();
        let now = now();
        let note = Note { pid, boot_id: boot_id(), started: now.clone(), updated: now, live_flows: 0, pinned };
        report_lost(directory, &note.boot_id);
        let mut presence =
            Self { path: directory.join(format!("{PREFIX}{pid}{SUFFIX}")), note, held: None, failed: false };
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

    /// Replaces the file, so that a kill in between leaves a whole one. It has its name when it is locked already.
    fn write(&mut self) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        match file.try_lock() {
            // Where locks are not to be had, a later sensor is told of a loss that was none.
            Ok(()) | Err(TryLockError::Error(_)) => {}
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::ResourceBusy.into()),
        }
        file.write_all(&serde_json::to_vec(&self.note)?)?;
        fs::rename(new, &self.path)?;
        self.held = Some(file);
        Ok(())
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
        if is_held(&path) {
            continue;
        }
        let same_boot = note.boot_id == boot_id;
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

/// Whether the sensor whose file this is lives. One that cannot be told is left alone.
fn is_held(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return true };
    match file.try_lock() {
        // Of one that was replaced meanwhile, the lock says nothing.
        Ok(()) => !matches!((file.metadata(), fs::metadata(path)), (Ok(ours), Ok(named)) if ours.ino() == named.ino()),
        Err(TryLockError::WouldBlock) => true,
        // Locks are not to be had here, so none is held.
        Err(TryLockError::Error(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(pinned: bool) -> Note {
        Note {
            // Larger than any process number.
            pid: u32::MAX,
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
        // A second sensor with the same logs does not take the first for dead, wherever that runs.
        assert!(is_held(&presence.path));
        report_lost(scratch.path(), &boot_id());
        assert!(presence.path.exists());
        presence.end(0);
        assert!(!presence.path.exists());
    }

    #[test]
    fn a_sensor_that_was_killed_is_told_by_its_lock_and_not_by_its_number() {
        let scratch = tempfile::tempdir().unwrap();
        let mut presence = Presence::begin(scratch.path(), false);
        presence.update(3);
        // What a kill does: the process, which has this number and is there, no longer holds the file.
        presence.held = None;
        assert!(!is_held(&presence.path));
        report_lost(scratch.path(), &boot_id());
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
