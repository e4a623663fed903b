//! Giving up, for good, what only the start needs.
//!
//! ```text
//! root: bind, load, attach, open ─► another user, no capability, Landlock, seccomp ─► listen, serve
//! ```
//!
//! Credentials belong to threads, and threads are running by then. The C library changes the user of all of them, the kernel
//! applies the seccomp filter to all of them; what it offers for one thread only is done by each in a signal handler
//! ([`threads`]). What came of it is not believed but read from `/proc`, thread by thread ([`proof`]).

mod account;
mod capability;
mod files;
mod landlock;
mod proof;
mod seccomp;
mod syscalls;
mod threads;

use std::io;

pub use account::{Account, AccountError};
pub use capability::Kept;
pub use files::FolderError;
pub(crate) use files::file_owner;
pub use landlock::Places;
pub use seccomp::refused_calls;

use threads::Step;
pub(crate) use threads::without_capabilities;

/// What is said where the bounding set could not be emptied. Nothing that can be used is left by it.
const UNBOUNDED: &str = "the bounding set of capabilities is not empty, which takes CAP_SETPCAP; nothing can be gained \
    from it, because new privileges are forbidden";

/// How much of its rights a process has given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// All.
    Dropped,
    /// None, because it was asked to keep them.
    Kept,
    /// Some are left; [`Standing::why`] says which and why.
    Partial,
}

/// How a process stands, as `/proc` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// In a word.
    pub state: State,
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Capabilities that a thread has or could get, by name.
    pub capabilities: Vec<String>,
    /// No thread can gain rights by executing a program.
    pub no_new_privs: bool,
    /// Every thread is under the filter of system calls.
    pub seccomp: bool,
    /// Version of Landlock that limits file access; `None`: nothing does.
    pub landlock: Option<i32>,
    /// What is left, and why, in words; empty if nothing is.
    pub why: Vec<String>,
}

/// Why rights could not be given up. Going on with them would be worse than ending.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// The kernel refused.
    #[error("cannot {action}; --keep-privileges goes on with all rights, which is not advised")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// A thread does not follow.
    #[error("not all threads gave up their rights within {0} s; start again")]
    Stuck(u64),
    /// `/proc` shows something else than was done.
    #[error("a thread still has rights that were to be gone ({0}); start again, and report this")]
    Left(String),
}

/// Gives everything up but `kept`, in all threads. What is opened later is opened as the account and only in `places`.
///
/// # Errors
/// When the kernel refuses what it should not, or a thread does not follow. The process must end then.
pub fn drop_all(account: &Account, kept: &[Kept], places: &Places) -> Result<Standing, PrivilegeError> {
    let mut why: Vec<String> = kept.iter().map(|kept| format!("{} is kept: {}", kept.name(), kept.why)).collect();
    why.extend(account.remark().map(str::to_owned));
    let mask = kept.iter().fold(0, |mask, kept| mask | kept.bit());
    read_once();
    no_core_dumps()?;
    let limits = landlock::ruleset(places);
    if let Err(error) = &limits {
        why.push(format!("file access is not limited: {error}"));
    }
    // A kernel without Landlock is no failure; one that has it and refuses is.
    let limits_failed = limits.is_err();
    let limits = limits.ok();
    threads::each(Step::Prepare { keep: mask })?;
    account.assume()?;
    threads::each(Step::Restrict { keep: mask, landlock: limits.as_ref().and_then(landlock::Limits::descriptor) })?;
    // It changes with the user.
    no_core_dumps()?;
    if let Err(error) = seccomp::install() {
        why.push(format!("system calls are not filtered: {error}"));
    }
    let found = proof::read().map_err(|source| PrivilegeError::Refused { action: "read /proc/self/task", source })?;
    let more = found.capabilities & !mask;
    if more != 0 || !found.users_agree || !found.no_new_privs || (account.changes() && found.uid != account.uid()) {
        return Err(PrivilegeError::Left(format!("{found:?}")));
    }
    if found.uid == 0 && account.remark().is_none() {
        why.push("the user is root, without a capability; choose another with --user".to_owned());
    }
    if found.bounding & !mask != 0 {
        why.push(UNBOUNDED.to_owned());
    }
    let whole = found.uid != 0 && found.capabilities == 0 && found.seccomp && !limits_failed;
    Ok(Standing {
        state: if whole { State::Dropped } else { State::Partial },
        uid: found.uid,
        gid: found.gid,
        capabilities: capability::names(found.capabilities),
        no_new_privs: found.no_new_privs,
        seccomp: found.seccomp,
        landlock: limits.map(|limits| limits.version).filter(|version| *version > 0),
        why,
    })
}

/// Keeps everything but the right to gain more, and core dumps.
///
/// # Errors
/// When the kernel refuses.
pub fn keep_all() -> Result<Standing, PrivilegeError> {
    no_core_dumps()?;
    threads::each(Step::NoNewPrivileges)?;
    let found = proof::read().map_err(|source| PrivilegeError::Refused { action: "read /proc/self/task", source })?;
    Ok(Standing {
        state: State::Kept,
        uid: found.uid,
        gid: found.gid,
        capabilities: capability::names(found.capabilities),
        no_new_privs: found.no_new_privs,
        seccomp: found.seccomp,
        landlock: None,
        why: vec!["--keep-privileges was given".to_owned()],
    })
}

/// Has libraries read what they read of the process once: it belongs to root from then on.
fn read_once() {
    let _ = (procfs::ticks_per_second(), procfs::page_size());
}

/// Tokens, keys and traffic are in memory: none of it goes to the disk when the process crashes, nor to a tracer of the same
/// user.
fn no_core_dumps() -> Result<(), PrivilegeError> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid limit; the other call takes numbers only.
    let (limited, hidden) = unsafe {
        (libc::setrlimit(libc::RLIMIT_CORE, &raw const none), libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0))
    };
    if limited != 0 || hidden != 0 {
        return Err(PrivilegeError::Refused { action: "switch core dumps off", source: io::Error::last_os_error() });
    }
    Ok(())
}
