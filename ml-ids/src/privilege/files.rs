//! Files that are opened before the rights end and used afterwards: opened with the rights that will be left.
//!
//! Root that opens files in a folder of somebody else can be led by links to files that are not meant. So nothing is opened
//! as root there: a thread takes the account's file rights first. What works there works later, and what does not is an
//! error while it can still be told.

use std::{
    cell::Cell,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
    thread,
};

use super::Account;

/// Links on the way to a folder that root makes, at most.
const MOST_LINKS: u32 = 8;

thread_local! {
    /// Whom the files belong to that this thread makes, if it is not the user of the process.
    static OWNER: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Why a folder cannot be used later.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It cannot be made.
    #[error(
        "cannot make {path} for {user}; make it with install -d -o {uid} -g {gid}, or choose another place with {flag}"
    )]
    Make {
        /// The account.
        user: String,
        /// Its number.
        uid: u32,
        /// Its group's.
        gid: u32,
        /// The folder.
        path: PathBuf,
        /// The flag that chooses it.
        flag: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It belongs to somebody else.
    #[error(
        "{user}, whom the sensor becomes, cannot write to {path}; chown -R {uid}:{gid} it and let {user} through \
         the folders above, choose another place with {flag}, another account with --user, or keep root's rights with \
         --keep-privileges"
    )]
    Refused {
        /// The account.
        user: String,
        /// Its number.
        uid: u32,
        /// Its group's.
        gid: u32,
        /// The folder.
        path: PathBuf,
        /// The flag that chooses it.
        flag: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// The user whose rights files are opened with on this thread.
pub(crate) fn file_owner() -> u32 {
    // SAFETY: no preconditions.
    OWNER.get().unwrap_or_else(|| unsafe { libc::geteuid() })
}

impl Account {
    /// Does something with this account's rights to files. The threads that it starts have these, too.
    ///
    /// # Errors
    /// When the kernel does not let it have these rights. Then nothing is done.
    pub fn with_files<T: Send>(&self, act: impl FnOnce() -> T + Send) -> io::Result<T> {
        if !self.changes() {
            return Ok(act());
        }
        let (uid, gid) = (self.uid(), self.gid());
        let done = thread::scope(|scope| {
            let worker = scope.spawn(move || {
                take_file_rights(uid, gid)?;
                OWNER.set(Some(uid));
                Ok(act())
            });
            worker.join()
        });
        // A panic is not ours to answer: as if it had been called here.
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Sees to a folder that this account can write to: has it made if it is not there yet, by the account itself or, where
    /// that may not, by root in a folder that root has to itself.
    ///
    /// # Errors
    /// When it cannot be made, or is there and not writable.
    pub fn folder(&self, path: &Path, mode: u32, flag: &'static str) -> Result<(), FolderError> {
        if !self.changes() {
            // It has to be there to be among the places that can be used later. What is wrong with it shows at its use.
            let _ = make(path, mode);
            return Ok(());
        }
        let (user, uid, gid) = (self.name().to_owned(), self.uid(), self.gid());
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let made = match self.make_for(&path, mode) {
            Ok(made) => made,
            Err(source) => return Err(FolderError::Make { user, uid, gid, path, flag, source }),
        };
        self.with_files(|| try_writing(&path)).flatten().map_err(|source| {
            // What was made for nothing; the last first. One that is not empty stays.
            for folder in made.iter().rev() {
                let _ = fs::remove_dir(folder);
            }
            FolderError::Refused { user, uid, gid, path, flag, source }
        })
    }

    /// Makes a folder. Returns those that root has made, the last of which belongs to the account.
    fn make_for(&self, path: &Path, mode: u32) -> io::Result<Vec<PathBuf>> {
        if path.exists() {
            return Ok(Vec::new());
        }
        let refused = match self.with_files(|| make(path, mode)).flatten() {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => error,
            made => return made.map(|()| Vec::new()),
        };
        let missing: Vec<&Path> = path.ancestors().take_while(|part| fs::symlink_metadata(part).is_err()).collect();
        let above = missing.last().and_then(|part| part.parent());
        if !above.is_some_and(|above| is_roots_alone(above, MOST_LINKS)) {
            return Err(refused);
        }
        let made: Vec<PathBuf> = missing.iter().rev().map(|part| (*part).to_owned()).collect();
        make(path, mode)?;
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let folder = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        fchown(&folder, Some(self.uid()), Some(self.gid()))?;
        Ok(made)
    }

    /// Whether this account can read a file.
    #[must_use]
    pub fn can_read(&self, path: &Path) -> bool {
        // A pipe is not opened: that would wait for whoever writes to it.
        let open = || OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map(drop);
        self.with_files(open).flatten().is_ok()
    }
}

/// Makes a folder and those above it.
fn make(path: &Path, mode: u32) -> io::Result<()> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    match fs::DirBuilder::new().mode(mode).create(path) {
        // Somebody was faster; whether it is of use shows.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Whether nobody but root decides what is found at a path: each folder of it, and of what its links lead to, belongs to root
/// and can be written to by nobody else. In folders above, others may make what is theirs (`/tmp`).
fn is_roots_alone(path: &Path, links: u32) -> bool {
    path.ancestors().all(|part| match fs::symlink_metadata(part) {
        Ok(found) if found.uid() != 0 => false,
        Ok(found) if found.is_symlink() => {
            let target = fs::read_link(part).map(|target| part.parent().unwrap_or(part).join(target));
            links > 0 && target.is_ok_and(|target| is_roots_alone(&target, links - 1))
        }
        Ok(found) => {
            let group = if found.gid() == 0 { 0 } else { libc::S_IWGRP };
            let sticky = part != path && found.mode() & libc::S_ISVTX != 0;
            found.is_dir() && (sticky || found.mode() & (libc::S_IWOTH | group) == 0)
        }
        Err(_) => false,
    })
}

/// Takes the rights to files of another user and group, on this thread alone. The kernel takes those capabilities with them
/// that overrule permissions.
fn take_file_rights(uid: u32, gid: u32) -> io::Result<()> {
    // The call itself: the C library's would leave the groups on all threads.
    // SAFETY: no pointers are read for an empty list.
    if unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // These say who it was before, whether they have changed it or not. Asked for nobody, they change nothing.
    // SAFETY: numbers only.
    let now = unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
        (libc::setfsuid(libc::uid_t::MAX), libc::setfsgid(libc::gid_t::MAX))
    };
    if now != (uid.cast_signed(), gid.cast_signed()) {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    Ok(())
}

/// Makes a file and removes it.
fn try_writing(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".ml-ids-{}.tmp", std::process::id()));
    let made = File::options().write(true).create_new(true).mode(0o600).open(&path);
    match made {
        Ok(_) => fs::remove_file(&path),
        // Left behind by a process of the same number, which could write here.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::remove_file(&path),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    /// `None`, said loudly, without root.
    fn nobody() -> Option<Account> {
        let account = Account::find(None).unwrap();
        if !account.changes() {
            eprintln!("SKIPPED: another user's rights take root");
            return None;
        }
        Some(account)
    }

    #[test]
    fn a_folder_that_is_made_belongs_to_the_account_and_so_does_what_is_made_in_it() {
        let Some(account) = nobody() else { return };
        let scratch = tempfile::tempdir().unwrap();
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let folder = scratch.path().join("a/b");
        account.folder(&folder, 0o750, "--log-dir").unwrap();
        let owner = |path: &Path| fs::metadata(path).unwrap().uid();
        assert_eq!((owner(&folder), owner(&scratch.path().join("a"))), (account.uid(), 0));
        let seen = account.with_files(|| {
            fs::write(folder.join("file"), "x").unwrap();
            file_owner()
        });
        let seen = seen.unwrap();
        assert_eq!((owner(&folder.join("file")), seen, file_owner()), (account.uid(), account.uid(), 0));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "the trial stays behind");
    }

    #[test]
    fn root_makes_nothing_where_somebody_else_decides_what_a_path_leads_to() {
        let Some(account) = nobody() else { return };
        let scratch = tempfile::tempdir().unwrap();
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (roots, others) = (scratch.path().join("roots"), scratch.path().join("others"));
        for folder in [&roots, &others] {
            fs::create_dir(folder).unwrap();
        }
        chown(&others, Some(4123), Some(4123)).unwrap();
        symlink(&roots, others.join("link")).unwrap();
        symlink(others.join("link"), scratch.path().join("through")).unwrap();
        symlink(&roots, scratch.path().join("honest")).unwrap();
        for refused in ["others/new", "others/link/new", "through/new"] {
            let error = account.folder(&scratch.path().join(refused), 0o755, "--log-dir").unwrap_err().to_string();
            assert!(error.contains("cannot make") && error.contains("install -d -o"), "{refused}: {error}");
        }
        assert_eq!((fs::read_dir(&roots).unwrap().count(), fs::read_dir(&others).unwrap().count()), (0, 1));
        account.folder(&scratch.path().join("honest/new"), 0o755, "--log-dir").unwrap();
        assert_eq!(fs::metadata(roots.join("new")).unwrap().uid(), account.uid());
    }

    #[test]
    fn what_was_made_for_nothing_is_removed_again() {
        let Some(account) = nobody() else { return };
        // Private to root: the account gets through to nothing in it.
        let private = fs::Permissions::from_mode(0o700);
        let scratch = tempfile::Builder::new().permissions(private).tempdir().unwrap();
        let error = account.folder(&scratch.path().join("a/b"), 0o755, "--log-dir").unwrap_err().to_string();
        assert!(error.contains("cannot write to") && error.contains("a/b"), "{error}");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_of_somebody_else_is_refused_in_words_and_left_as_it_is() {
        let Some(account) = nobody() else { return };
        // Private to root.
        let private = fs::Permissions::from_mode(0o700);
        let scratch = tempfile::Builder::new().permissions(private).tempdir().unwrap();
        let error = account.folder(scratch.path(), 0o755, "--log-dir").unwrap_err().to_string();
        assert!(error.contains("--log-dir") && error.contains("chown") && error.contains(account.name()), "{error}");
        assert_eq!(fs::metadata(scratch.path()).unwrap().uid(), 0);
        let secret = scratch.path().join("secret");
        fs::write(&secret, "x").unwrap();
        assert!(!account.can_read(&secret) && Account::current().can_read(&secret));
    }
}
