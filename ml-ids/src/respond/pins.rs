//! How `ml-ids block` finds the sensor: its maps are pinned below a BPF file system while it runs.
//!
//! The sensor holds a lock on the folder for as long as it lives, however it ends: who gets the lock knows that pins are
//! left over. A second lock is held by whoever removes entries, so that nobody removes what another has just renewed.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsRawFd as _, unix::fs::fchown},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use aya::maps::{Array, LpmTrie, Map, MapData, MapError, Queue};
use log::{info, warn};
use ml_ids_common::{BlockEntry, PrefixData};

use super::{
    blocklist::{Blocklist, Protected, os_error},
    bpf_folder::{PinsError, lock, make, mount, open},
    note::{Note, Settings},
};

/// Where BPF file systems are mounted.
pub const BPFFS: &str = "/sys/fs/bpf";
/// The folder of everything that is pinned, below the BPF file system.
const PARENT: &str = "ml-ids";
/// The folder of these pins in it.
const FOLDER: &str = "block";
/// What whoever removes entries locks.
const TURN: &str = "turn";
const BLOCKED: &str = "blocked";
const PROTECTED: &str = "protected";
const SETTINGS: &str = "settings";
const NOTES: &str = "notes";
const FILES: [&str; 4] = [BLOCKED, PROTECTED, SETTINGS, NOTES];
/// Notes that wait for the agent at most, besides one for each entry: all of them can be removed at once.
const SPARE_NOTES: u32 = 1024;
/// How often the lock of a living sensor is tried, and how long to wait in between.
const LOCK_ATTEMPTS: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The maps that sensor and command work on.
pub struct Hands {
    /// What is blocked.
    pub list: Blocklist,
    /// What never is.
    pub protected: Protected,
    settings: Array<MapData, Settings>,
    notes: Queue<MapData, Note>,
    folder: PathBuf,
    turn: File,
}

/// The right to remove entries, until dropped.
#[derive(Debug)]
pub struct Turn(File);

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.0, libc::LOCK_UN);
    }
}

impl Hands {
    /// The maps of the sensor that has pinned them below `bpffs`.
    ///
    /// # Errors
    /// When there is none, or it may not be touched.
    pub fn open(bpffs: &Path) -> Result<Self, PinsError> {
        Self::open_folder(folder(bpffs))
    }

    fn open_folder(folder: PathBuf) -> Result<Self, PinsError> {
        let map = |name: &str| -> Result<(PathBuf, Map), PinsError> {
            let path = folder.join(name);
            let data = MapData::from_pin(&path).and_then(Map::from_map_data);
            match data {
                Ok(map) => Ok((path, map)),
                Err(source) => Err(match os_error(&source) {
                    Some(libc::ENOENT) => PinsError::NoSensor { path: folder.clone() },
                    Some(libc::EPERM | libc::EACCES) => PinsError::Permission { path: folder.clone() },
                    _ => PinsError::Map { path, source },
                }),
            }
        };
        let (blocked, protected) = (typed(map(BLOCKED)?)?, typed(map(PROTECTED)?)?);
        let (settings, notes) = (typed(map(SETTINGS)?)?, typed(map(NOTES)?)?);
        let turn = open(&folder.join(TURN))?;
        Ok(Self { list: Blocklist::new(blocked), protected: Protected::new(protected), settings, notes, folder, turn })
    }

    /// Waits until nobody else removes entries.
    ///
    /// # Errors
    /// When the folder is gone.
    pub fn turn(&self) -> Result<Turn, PinsError> {
        let turn = self.second_turn()?;
        lock(&turn, libc::LOCK_EX);
        Ok(Turn(turn))
    }

    /// The right to remove entries, if nobody else has it at the moment.
    #[must_use]
    pub fn try_turn(&self) -> Option<Turn> {
        let turn = self.second_turn().ok()?;
        lock(&turn, libc::LOCK_EX | libc::LOCK_NB).then_some(Turn(turn))
    }

    fn second_turn(&self) -> Result<File, PinsError> {
        self.turn.try_clone().map_err(|source| PinsError::Io { path: self.folder.join(TURN), source })
    }

    /// Whether the sensor that made the pins is alive.
    #[must_use]
    pub fn sensor_lives(&self) -> bool {
        open(&self.folder).is_ok_and(|folder| !lock(&folder, libc::LOCK_SH | libc::LOCK_NB))
    }

    /// How the sensor was started.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn settings(&self) -> Result<Settings, MapError> {
        self.settings.get(&0, 0)
    }

    /// Tells the sensor. False when it has not listened for so long that there is no room.
    pub fn tell(&mut self, note: Note) -> bool {
        self.notes.push(note, 0).is_ok()
    }

    /// The next thing that a command has told the sensor.
    pub fn next_note(&mut self) -> Option<Note> {
        self.notes.pop(0).ok()
    }
}

fn typed<M: TryFrom<Map, Error = MapError>>((path, map): (PathBuf, Map)) -> Result<M, PinsError> {
    M::try_from(map).map_err(|source| PinsError::Map { path, source })
}

/// The pins of a running sensor. They are removed with the value.
pub(super) struct Pins {
    folder: PathBuf,
    /// Locked while the sensor lives, and the way to the pins: folders above may be closed to the account that the sensor
    /// becomes.
    alive: File,
    /// The folder above, and the way to that one.
    parent: File,
}

impl Pins {
    /// Pins the maps of the filter, and with them what sensor and command have to tell each other.
    pub(super) fn create(
        bpffs: &Path,
        blocked: LpmTrie<MapData, PrefixData, BlockEntry>,
        protected: LpmTrie<MapData, PrefixData, u64>,
        settings: Settings,
    ) -> Result<(Self, Hands), PinsError> {
        mount(bpffs)?;
        let folder = folder(bpffs);
        make(&bpffs.join(PARENT))?;
        make(&folder)?;
        let (alive, parent) = (open(&folder)?, open(&bpffs.join(PARENT))?);
        // A command that asks whether a sensor lives holds the lock for a moment.
        let free = (0..LOCK_ATTEMPTS).any(|_| {
            lock(&alive, libc::LOCK_EX | libc::LOCK_NB) || {
                thread::sleep(LOCK_PAUSE);
                false
            }
        });
        if !free {
            return Err(PinsError::Busy { path: folder });
        }
        // From here on the folder is cleared whatever happens.
        let pins = Self { folder: folder.clone(), alive, parent };
        if pins.clear() {
            info!("removed what a sensor that was killed had left in {}", folder.display());
        }
        make(&folder.join(TURN))?;
        let mut array = Array::<MapData, Settings>::create(1, 0).map_err(failed(&folder, SETTINGS))?;
        array.set(0, settings, 0).map_err(failed(&folder, SETTINGS))?;
        let queue = Queue::<MapData, Note>::create(settings.max.saturating_add(SPARE_NOTES), 0)
            .map_err(failed(&folder, NOTES))?;
        for (name, pinned) in [
            (BLOCKED, blocked.pin(folder.join(BLOCKED))),
            (PROTECTED, protected.pin(folder.join(PROTECTED))),
            (SETTINGS, array.pin(folder.join(SETTINGS))),
            (NOTES, queue.pin(folder.join(NOTES))),
        ] {
            pinned.map_err(|source| PinsError::Pin { path: folder.join(name), source })?;
        }
        let hands = Hands::open_folder(folder)?;
        Ok((pins, hands))
    }

    /// Lets another user and group remove them, and the folder above if nobody else has anything in it.
    pub(super) fn give(&self, uid: u32, gid: u32) -> io::Result<()> {
        fchown(&self.alive, Some(uid), Some(gid))?;
        if fs::read_dir(via(&self.parent))?.count() == 1 {
            fchown(&self.parent, Some(uid), Some(gid))?;
        }
        Ok(())
    }

    /// The file system that they are on: its owner's permissions say what is possible there.
    pub(super) fn bpffs(&self) -> Option<&Path> {
        self.folder.parent()?.parent()
    }

    /// Removes all pins. True when there were any.
    fn clear(&self) -> bool {
        let mut any = false;
        let via = via(&self.alive);
        for name in FILES {
            match fs::remove_file(via.join(name)) {
                Ok(()) => any = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => warn!("cannot remove {}: {error}", self.folder.join(name).display()),
            }
        }
        // Not there, or the next sensor's.
        let _ = fs::remove_dir(via.join(TURN));
        any
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        self.clear();
        let _ = fs::remove_dir(via(&self.parent).join(FOLDER));
        // Stays when others have pinned something beside it, and where nobody but root may remove it.
        if let Some(parent) = self.folder.parent() {
            let _ = fs::remove_dir(parent);
        }
        lock(&self.alive, libc::LOCK_UN);
    }
}

/// A folder by its descriptor.
fn via(folder: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

fn folder(bpffs: &Path) -> PathBuf {
    bpffs.join(PARENT).join(FOLDER)
}

fn failed(folder: &Path, name: &str) -> impl FnOnce(MapError) -> PinsError {
    let path = folder.join(name);
    move |source| PinsError::Map { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_sensor_the_command_is_told_how_to_start_one() {
        let error = Hands::open(Path::new("/nonexistent")).err().unwrap().to_string();
        assert!(error.contains("ml-ids run --block") || error.contains("root"), "{error}");
    }
}
