//! What the kernel lets a thread do to itself only, done by all threads: each gets a signal and does it in the handler.
//!
//! A thread that is started meanwhile has the rights of the one that started it. So the list of threads is read until it
//! holds none that has not done it.

use std::{
    fs, io,
    os::fd::{AsRawFd as _, BorrowedFd},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI32, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::PrivilegeError;

/// Most threads.
const MOST: usize = 1024;
/// How long threads may take. One that is in a system call that no signal ends is nothing that the agent has for long.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(1);
/// Real-time signal, counted from the first that the C library leaves to programs.
const SIGNAL: i32 = 7;
/// `struct __user_cap_header_struct`: three sets of 64 bits (include/uapi/linux/capability.h).
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
/// Highest number that any kernel may know.
const LAST_CAPABILITY: u32 = 63;

/// What each thread does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'a> {
    /// Before the user changes: empties the bounding set where `CAP_SETPCAP` is there, and takes care that `keep` outlives the
    /// change.
    Prepare { keep: u64 },
    /// After it: no way to gain rights, limits of file access, no capability but `keep`.
    Restrict { keep: u64, landlock: Option<BorrowedFd<'a>> },
    /// Nothing else.
    NoNewPrivileges,
}

const PREPARE: i32 = 1;
const RESTRICT: i32 = 2;
const NO_NEW_PRIVILEGES: i32 = 3;

// What the handler reads. Written under `TURN` before any signal is sent.
static STEP: AtomicI32 = AtomicI32::new(0);
static KEEP: AtomicU64 = AtomicU64::new(0);
static LANDLOCK: AtomicI32 = AtomicI32::new(-1);
// What it writes.
static DONE: [AtomicI32; MOST] = [const { AtomicI32::new(0) }; MOST];
static FAILED: AtomicI32 = AtomicI32::new(0);
/// One step at a time.
static TURN: Mutex<()> = Mutex::new(());

/// Has every thread do it.
pub(super) fn each(step: Step<'_>) -> Result<(), PrivilegeError> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (number, keep, landlock, action) = match step {
        Step::Prepare { keep } => (PREPARE, keep, -1, "empty the bounding set of capabilities"),
        Step::Restrict { keep, landlock } => {
            (RESTRICT, keep, landlock.map_or(-1, |fd| fd.as_raw_fd()), "give up capabilities or limit file access")
        }
        Step::NoNewPrivileges => (NO_NEW_PRIVILEGES, 0, -1, "forbid new privileges"),
    };
    KEEP.store(keep, Ordering::SeqCst);
    LANDLOCK.store(landlock, Ordering::SeqCst);
    FAILED.store(0, Ordering::SeqCst);
    DONE.iter().for_each(|slot| slot.store(0, Ordering::SeqCst));
    STEP.store(number, Ordering::SeqCst);
    let refused = |source| PrivilegeError::Refused { action, source };
    let signal = libc::SIGRTMIN() + SIGNAL;
    handle(signal, on_signal as *const () as libc::sighandler_t).map_err(refused)?;
    act();
    let finished = all(signal, action);
    STEP.store(0, Ordering::SeqCst);
    // A thread that is late finds nothing to do, and one that somebody else signals is left alone.
    handle(signal, libc::SIG_IGN).map_err(refused)?;
    finished?;
    match FAILED.load(Ordering::SeqCst) {
        0 => Ok(()),
        number => Err(refused(io::Error::from_raw_os_error(number))),
    }
}

fn all(signal: i32, action: &'static str) -> Result<(), PrivilegeError> {
    let end = Instant::now() + PATIENCE;
    let mut told: Vec<i32> = Vec::new();
    loop {
        let threads = list().map_err(|source| PrivilegeError::Refused { action, source })?;
        let late: Vec<i32> = threads.into_iter().filter(|thread| !is_done(*thread)).collect();
        if late.is_empty() {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(PrivilegeError::Stuck(PATIENCE.as_secs()));
        }
        for thread in late {
            if !told.contains(&thread) {
                // SAFETY: numbers only. One that has ended meanwhile is no longer listed the next time.
                unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal) };
                told.push(thread);
            }
        }
        thread::sleep(PAUSE);
    }
}

/// All threads of this process.
pub(super) fn list() -> io::Result<Vec<i32>> {
    let mut threads = Vec::new();
    for entry in fs::read_dir("/proc/self/task")? {
        threads.extend(entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    Ok(threads)
}

fn is_done(thread: i32) -> bool {
    DONE.iter().any(|slot| slot.load(Ordering::SeqCst) == thread)
}

fn handle(signal: i32, handler: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: all bytes zero is a valid, empty action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: a valid action, whose handler calls nothing but system calls and atomics.
    if unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

extern "C" fn on_signal(_: libc::c_int) {
    // SAFETY: the calling thread's own; what was interrupted may be about to read it.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        act();
        *errno = before;
    }
}

/// The step, on this thread. Nothing here may allocate or take a lock.
fn act() {
    let keep = KEEP.load(Ordering::SeqCst);
    let done = match STEP.load(Ordering::SeqCst) {
        PREPARE => prepare(keep),
        RESTRICT => restrict(keep, LANDLOCK.load(Ordering::SeqCst)),
        NO_NEW_PRIVILEGES => no_new_privileges(),
        _ => return,
    };
    if let Err(number) = done {
        FAILED.store(number, Ordering::SeqCst);
    }
    // SAFETY: no preconditions.
    let thread = unsafe { libc::gettid() };
    for slot in &DONE {
        if slot.compare_exchange(0, thread, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            return;
        }
    }
    FAILED.store(libc::E2BIG, Ordering::SeqCst);
}

/// Zero, or the error number of the calling thread.
fn outcome(result: libc::c_long) -> Result<(), i32> {
    if result >= 0 {
        return Ok(());
    }
    // SAFETY: the calling thread's own.
    Err(unsafe { *libc::__errno_location() })
}

fn prepare(keep: u64) -> Result<(), i32> {
    for capability in 0..=LAST_CAPABILITY {
        if keep >> capability & 1 == 0 {
            // Refused beyond the last that the kernel knows, and to those without CAP_SETPCAP, who cannot gain anything by it
            // once new privileges are forbidden.
            // SAFETY: numbers only.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) };
        }
    }
    let held = libc::c_ulong::from(keep != 0);
    // SAFETY: numbers only.
    outcome(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, held, 0, 0, 0) }.into())
}

fn restrict(keep: u64, landlock: i32) -> Result<(), i32> {
    no_new_privileges()?;
    if landlock >= 0 {
        // SAFETY: numbers only.
        outcome(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, landlock, 0) })?;
    }
    // Refused by kernels that have no such set.
    // SAFETY: numbers only.
    unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    set_capabilities(keep)
}

fn no_new_privileges() -> Result<(), i32> {
    // SAFETY: numbers only.
    outcome(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())
}

/// Leaves this thread those of its capabilities that are in `keep`.
fn set_capabilities(keep: u64) -> Result<(), i32> {
    let header = [CAPABILITY_VERSION_3, 0];
    // Effective, permitted, inheritable, twice: the lower half and the upper half.
    let mut data = [0u32; 6];
    // SAFETY: header and data as the kernel defines them for this version.
    outcome(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) })?;
    // Those that are permitted: the change of the user has taken them out of the effective set.
    let [_, low, _, _, high, _] = data;
    let (low, high) = (low & keep as u32, high & (keep >> 32) as u32);
    let data = [low, low, 0, high, high, 0];
    // SAFETY: as above.
    outcome(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) })
}

/// Does something on a thread that has no capability, whatever this one has. What is tried there shows what will work later.
pub(crate) fn without_capabilities<T: Send>(act: impl FnOnce() -> T + Send) -> io::Result<T> {
    let tried = thread::scope(|scope| {
        scope.spawn(|| set_capabilities(0).map_err(io::Error::from_raw_os_error).map(|()| act())).join()
    });
    tried.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
