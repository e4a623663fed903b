//! The directory that pins live in: on a BPF file system, and in the hands of one sensor at a time.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::AsRawFd as _,
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use log::{info, warn};

use super::PinError;

/// Where the BPF file system belongs.
const MOUNT_POINT: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` (include/uapi/linux/magic.h).
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// A directory that no other sensor uses as long as this value lives.
pub(super) struct Lock {
    _directory: File,
}

/// Makes the directory, and what it needs: mounts the BPF file system if it belongs there and is not.
pub(super) fn prepare(directory: &Path) -> Result<(), PinError> {
    let existing = directory.ancestors().find(|ancestor| ancestor.is_dir()).unwrap_or(Path::new("/"));
    if !is_bpffs(existing) {
        let refused = |source| PinError::NotBpffs { directory: directory.to_owned(), source };
        if !directory.starts_with(MOUNT_POINT) {
            return Err(refused(io::Error::from_raw_os_error(libc::EINVAL)));
        }
        mount(Path::new(MOUNT_POINT)).map_err(refused)?;
        info!("mounted the BPF file system at {MOUNT_POINT}");
        if is_private_mount() {
            warn!(
                "the mount belongs to this process and its children alone (a private mount namespace): what is pinned is \
                 gone when they end; mount it outside: mount -t bpf bpf {MOUNT_POINT}"
            );
        }
    }
    fs::create_dir_all(directory).map_err(|source| PinError::Io { action: "make", path: directory.to_owned(), source })
}

fn is_bpffs(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    let mut found = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: a C string and room for the answer.
    if unsafe { libc::statfs(path.as_ptr(), found.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: filled by the successful call.
    let found = unsafe { found.assume_init() };
    found.f_type == BPF_FS_MAGIC
}

/// Whether this process sees other mounts than the machine's first one.
fn is_private_mount() -> bool {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    namespace("1").is_some_and(|first| namespace("self") != Some(first))
}

fn mount(at: &Path) -> io::Result<()> {
    let at = CString::new(at.as_os_str().as_bytes())?;
    let (kind, options) = (c"bpf", c"mode=0700");
    // SAFETY: C strings, all of them.
    let mounted = unsafe { libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast()) };
    if mounted == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl Lock {
    /// Takes the directory, or says that somebody has it.
    pub(super) fn take(directory: &Path) -> Result<Option<Self>, PinError> {
        let failed = |source| PinError::Io { action: "lock", path: directory.to_owned(), source };
        loop {
            let file = OpenOptions::new().read(true).open(directory).map_err(failed)?;
            // SAFETY: an open descriptor.
            if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
                let error = io::Error::last_os_error();
                return if error.raw_os_error() == Some(libc::EWOULDBLOCK) { Ok(None) } else { Err(failed(error)) };
            }
            // Whoever had it may have removed it.
            let locked = file.metadata().map_err(failed)?.ino();
            match fs::metadata(directory) {
                Ok(now) if now.ino() == locked => return Ok(Some(Self { _directory: file })),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => prepare(directory)?,
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

/// The entries of a directory, sorted; empty if it is not there.
pub(super) fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_elsewhere_is_refused_with_the_command_that_makes_it_one() {
        let scratch = tempfile::tempdir().unwrap();
        let error = prepare(&scratch.path().join("pins")).unwrap_err().to_string();
        assert!(error.contains("mount -t bpf"), "{error}");
        assert!(!scratch.path().join("pins").exists());
    }

    #[test]
    fn a_directory_is_taken_once() {
        let scratch = tempfile::tempdir().unwrap();
        let first = Lock::take(scratch.path()).unwrap();
        assert!(first.is_some());
        assert!(Lock::take(scratch.path()).unwrap().is_none());
        drop(first);
        assert!(Lock::take(scratch.path()).unwrap().is_some());
    }
}
