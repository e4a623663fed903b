//! Watches the input that runs: one that takes too long or too much memory is written down, and the process ends.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Longest that one input may take. None takes a second; a busy machine is forgiven.
const LONGEST: Duration = Duration::from_secs(20);
/// Most memory that the process may take, in bytes: models and tables of the largest inputs are far below.
const MOST_MEMORY: u64 = 4 << 30;
/// Bytes of a page, as `/proc/self/statm` counts on x86-64 and arm64 with usual kernels.
const PAGE: u64 = 4096;
const LOOK: Duration = Duration::from_millis(200);

/// What runs now.
struct Current {
    target: &'static str,
    input: Vec<u8>,
    since: Instant,
}

/// The watch over one thread's inputs.
#[derive(Clone)]
pub(crate) struct Guard {
    current: Arc<Mutex<Option<Current>>>,
    out: PathBuf,
}

impl Guard {
    /// Starts watching; findings go to files in `out`.
    pub(crate) fn start(out: &Path) -> Self {
        let guard = Self { current: Arc::default(), out: out.to_owned() };
        let watch = guard.clone();
        thread::spawn(move || {
            loop {
                thread::sleep(LOOK);
                watch.look();
            }
        });
        guard
    }

    /// Says what is about to run.
    pub(crate) fn begin(&self, target: &'static str, input: &[u8]) {
        *self.lock() = Some(Current { target, input: input.to_vec(), since: Instant::now() });
    }

    /// It has ended.
    pub(crate) fn end(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) {
        let current = self.lock();
        let Some(Current { target, input, since }) = current.as_ref() else { return };
        let fault = if since.elapsed() > LONGEST {
            format!("has not ended after {} s", LONGEST.as_secs())
        } else if resident() > MOST_MEMORY {
            format!("takes more than {} MiB of memory", MOST_MEMORY >> 20)
        } else {
            return;
        };
        match write_down(&self.out, target, input) {
            Ok(file) => eprintln!("{target}: an input {fault}: {}", file.display()),
            Err(error) => eprintln!("{target}: an input {fault}, and it cannot be written down: {error:#}"),
        }
        process::exit(1);
    }
}

fn resident() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE
}

/// Writes a finding to a file of its own.
pub(crate) fn write_down(out: &Path, target: &str, input: &[u8]) -> anyhow::Result<PathBuf> {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};

    use anyhow::Context as _;

    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let file = out.join(format!("{target}-{:016x}", hasher.finish()));
    fs::write(&file, input).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}
