//! How `ml-ids block` finds the sensor: its maps are pinned below a BPF file system while it runs.
//!
//! The sensor holds a lock on the folder for as long as it lives, however it ends: who gets the lock knows that pins are
//! left over. A second lock is held by whoever removes entries, so that nobody removes what another has just renewed.

use std::{
    ffi::CString,
    fs::{self, File},
    io,
    os::{
        fd::AsRawFd as _,
        unix::{ffi::OsStrExt as _, fs::fchown},
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use aya::{
    maps::{Array, LpmTrie, Map, MapData, MapError, Queue},
    pin::PinError,
};
use ipnet::IpNet;
use log::{info, warn};
use ml_ids_common::{BlockEntry, PrefixData};

use super::blocklist::{Blocklist, Protected, os_error};
use crate::sensor::prefix;

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
/// `BPF_FS_MAGIC` of include/uapi/linux/magic.h.
const BPF_FS_MAGIC: u32 = 0xcafe_4a11;

/// Why sensor and command cannot meet.
#[derive(Debug, thiserror::Error)]
pub enum PinsError {
    /// The file system is missing.
    #[error("{path} is no BPF file system; mount one with `mount -t bpf bpf {path}`")]
    NotMounted {
        /// Where it is expected.
        path: PathBuf,
    },
    /// Somebody else is there.
    #[error("another sensor with --block holds {path}; stop it, or give this one another place with --bpffs")]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// Nobody is there.
    #[error("no sensor runs with --block: there is no {path}; start one with `ml-ids run --block`")]
    NoSensor {
        /// The folder.
        path: PathBuf,
    },
    /// Only root may.
    #[error("no permission to use {path}; run as root")]
    Permission {
        /// The folder.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot use {path}")]
    Io {
        /// Folder or file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel refused to pin.
    #[error("cannot pin {path}")]
    Pin {
        /// The pin.
        path: PathBuf,
        /// Why.
        #[source]
        source: PinError,
    },
    /// A pinned map is not what it should be.
    #[error("cannot use {path}; are sensor and command of the same version?")]
    Map {
        /// The pin.
        path: PathBuf,
        /// Why.
        #[source]
        source: MapError,
    },
}

/// What the command needs to know of the sensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// Time to live of a block.
    pub ttl_us: u64,
    /// Most blocks.
    pub max: u32,
    /// 1 when nothing is dropped.
    pub dry_run: u32,
}

// SAFETY: repr(C), integers without padding; every bit pattern is valid.
unsafe impl aya::Pod for Settings {}

/// What the command tells the sensor of what it has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Note {
    /// When, in microseconds since boot.
    pub at_us: u64,
    /// When the block ends, if one was added.
    pub expires_us: u64,
    /// Packets that the block had met, if it was removed.
    pub packets: u64,
    data: PrefixData,
    bits: u32,
    /// 1 if a block was added, 0 if it was removed.
    pub added: u32,
}

const _: () = assert!(size_of::<Note>() == 56);

// SAFETY: as above.
unsafe impl aya::Pod for Note {}

impl Note {
    /// What became of a prefix. `expires_us` if it was added.
    #[must_use]
    pub fn new(net: &IpNet, at_us: u64, expires_us: Option<u64>) -> Self {
        let key = prefix::key(net);
        Self {
            at_us,
            expires_us: expires_us.unwrap_or(0),
            packets: 0,
            data: key.data(),
            bits: key.prefix_len(),
            added: u32::from(expires_us.is_some()),
        }
    }

    /// The same with the packets that the block had met.
    #[must_use]
    pub const fn packets(mut self, packets: u64) -> Self {
        self.packets = packets;
        self
    }

    /// The prefix.
    #[must_use]
    pub fn net(&self) -> Option<IpNet> {
        prefix::prefix(&aya::maps::lpm_trie::Key::new(self.bits, self.data))
    }
}

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

fn at(path: &Path) -> impl FnOnce(io::Error) -> PinsError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::PermissionDenied => PinsError::Permission { path },
        io::ErrorKind::NotFound => PinsError::NoSensor { path },
        _ => PinsError::Io { path, source },
    }
}

fn make(folder: &Path) -> Result<(), PinsError> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(at(folder)(error)),
        _ => Ok(()),
    }
}

fn open(folder: &Path) -> Result<File, PinsError> {
    File::open(folder).map_err(at(folder))
}

fn lock(file: &File, operation: libc::c_int) -> bool {
    // SAFETY: an open descriptor.
    unsafe { libc::flock(file.as_raw_fd(), operation) == 0 }
}

/// Mounts a BPF file system if there is none.
fn mount(path: &Path) -> Result<(), PinsError> {
    let missing = || PinsError::NotMounted { path: path.to_owned() };
    let target = CString::new(path.as_os_str().as_bytes()).map_err(|_| missing())?;
    if is_bpffs(&target) {
        return Ok(());
    }
    let kind = c"bpf";
    // SAFETY: C strings that outlive the call; this kind of file system takes options as a string.
    let mounted =
        unsafe { libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, c"mode=0700".as_ptr().cast()) };
    if mounted == 0 {
        info!("mounted a BPF file system on {}", path.display());
        Ok(())
    } else {
        Err(missing())
    }
}

fn is_bpffs(path: &CString) -> bool {
    let mut status = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: a C string and room for the answer.
    if unsafe { libc::statfs(path.as_ptr(), status.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: the call succeeded.
    let status = unsafe { status.assume_init() };
    status.f_type as u32 == BPF_FS_MAGIC
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::parse_prefix;

    #[test]
    fn a_note_leads_back_to_its_prefix() {
        let net = parse_prefix("10.1.0.0/16").unwrap();
        let note = Note::new(&net, 5, Some(9));
        assert_eq!((note.net(), note.added, note.expires_us), (Some(net), 1, 9));
        assert_eq!(Note::new(&net, 5, None).added, 0);
    }

    #[test]
    fn without_a_sensor_the_command_is_told_how_to_start_one() {
        let error = Hands::open(Path::new("/nonexistent")).err().unwrap().to_string();
        assert!(error.contains("ml-ids run --block") || error.contains("root"), "{error}");
    }
}
