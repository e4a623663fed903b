//! The folder of the pins: a BPF file system, folders and locks on them, and what may be wrong with it.

use std::{
    ffi::CString,
    fs::{self, File},
    io,
    os::{fd::AsRawFd as _, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
};

use aya::{maps::MapError, pin::PinError};
use log::info;

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

/// What the system said of a path.
fn at(path: &Path) -> impl FnOnce(io::Error) -> PinsError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::PermissionDenied => PinsError::Permission { path },
        io::ErrorKind::NotFound => PinsError::NoSensor { path },
        _ => PinsError::Io { path, source },
    }
}

/// Makes a folder unless it is there.
pub(super) fn make(folder: &Path) -> Result<(), PinsError> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(at(folder)(error)),
        _ => Ok(()),
    }
}

/// Opens a folder, to lock it.
pub(super) fn open(folder: &Path) -> Result<File, PinsError> {
    File::open(folder).map_err(at(folder))
}

/// Locks or unlocks by `flock`. False if that cannot be done at once.
pub(super) fn lock(file: &File, operation: libc::c_int) -> bool {
    // SAFETY: an open descriptor.
    unsafe { libc::flock(file.as_raw_fd(), operation) == 0 }
}

/// Mounts a BPF file system if there is none.
pub(super) fn mount(path: &Path) -> Result<(), PinsError> {
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
