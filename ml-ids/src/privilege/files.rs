//! Files that are opened before the rights end and used afterwards: opened with the rights that will be left.
//!
//! Root that opens files in a folder of somebody else can be led by links to files that are not meant. So nothing is opened
//! as root there: a thread takes the account's file rights first. What works there works later, and what does not is an
//! error while it can still be told.

use std::{
    cell::Cell,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, fchown},
    path::{Path, PathBuf},
    thread,
};

use super::Account;

thread_local! {
    /// Whom the files belong to that this thread makes, if it is not the user of the process.
    static OWNER: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Why a folder cannot be used later.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It cannot be made.
    #[error("cannot make {path}")]
    Make {
        /// The folder.
        path: PathBuf,
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
    pub fn with_files<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        if !self.changes() {
            return act();
        }
        let (uid, gid) = (self.uid(), self.gid());
        let done = thread::scope(|scope| {
            let worker = scope.spawn(move || {
                take_file_rights(uid, gid);
                OWNER.set(Some(uid));
                act()
            });
            worker.join()
        });
        match done {
            Ok(value) => value,
            // Not ours to answer: as if it had been called here.
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Sees to a folder that this account can write to: makes it and gives it away if it is not there yet.
    ///
    /// # Errors
    /// When it cannot be made, or is there and not writable.
    pub fn folder(&self, path: &Path, mode: u32, flag: &'static str) -> Result<(), FolderError> {
        if !self.changes() {
            // It has to be there to be among the places that can be used later. What is wrong with it shows at its use.
            let _ = self.make(path, mode);
            return Ok(());
        }
        self.make(path, mode).map_err(|source| FolderError::Make { path: path.to_owned(), source })?;
        self.with_files(|| try_writing(path)).map_err(|source| FolderError::Refused {
            user: self.name().to_owned(),
            uid: self.uid(),
            gid: self.gid(),
            path: path.to_owned(),
            flag,
            source,
        })
    }

    fn make(&self, path: &Path, mode: u32) -> io::Result<()> {
        if path.exists() {
            return Ok(());
        }
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent)?;
        }
        match fs::DirBuilder::new().mode(mode).create(path) {
            // Somebody was faster; whether it is of use shows.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            made => made?,
        }
        if !self.changes() {
            return Ok(());
        }
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let folder = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        fchown(&folder, Some(self.uid()), Some(self.gid()))
    }

    /// Whether this account can read a file.
    #[must_use]
    pub fn can_read(&self, path: &Path) -> bool {
        // A pipe is not opened: that would wait for whoever writes to it.
        let open = || OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map(drop);
        self.with_files(open).is_ok()
    }
}

/// Takes the rights to files of another user and group, on this thread alone. The kernel takes those capabilities with them
/// that overrule permissions.
fn take_file_rights(uid: u32, gid: u32) {
    // The call itself: the C library's would leave the groups on all threads.
    // SAFETY: no pointers are read for an empty list; numbers otherwise.
    unsafe {
        libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>());
        libc::setfsgid(gid);
        libc::setfsuid(uid);
    }
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
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

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
        assert_eq!((owner(&folder.join("file")), seen, file_owner()), (account.uid(), account.uid(), 0));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "the trial stays behind");
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
