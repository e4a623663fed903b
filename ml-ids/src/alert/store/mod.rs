//! Alerts on disk, so that they are still there after a restart: one SQLite file, written by a thread of its own.
//!
//! Scoring never waits for it: what finds the queue full is lost to the store and counted. While the file cannot be
//! written (locked, disk full, gone), the newest state of each alert waits in memory, bounded, and is tried again.

mod database;
mod query;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

pub use database::StoreError;
pub use query::{Ack, Archive, Filter, MOST_ROWS, Stored};

use super::record::Alert;
use writer::Writer;

/// The file's name in the state directory.
pub const ALERT_DB: &str = "alerts.db";
/// Most changes that wait for the thread.
const QUEUE: usize = 4096;

/// Where alerts are kept, and how many of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// The file.
    pub path: PathBuf,
    /// Most alerts; the oldest go first.
    pub keep_rows: u64,
    /// Alerts that ended longer ago go.
    pub keep: Duration,
}

impl StoreOptions {
    /// This file with the ordinary bounds.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path, keep_rows: 50_000, keep: Duration::from_secs(90 * 86_400) }
    }
}

/// How the store is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreHealth {
    /// Changes written.
    pub written: u64,
    /// Changes that found the queue full, or were too many while the file could not be written.
    pub lost: u64,
    /// Writes that failed and were tried again.
    pub retries: u64,
    /// Alerts that wait for the file.
    pub waiting: usize,
    /// Alerts removed because of their number or age.
    pub removed: u64,
    /// Files that were found damaged and moved aside.
    pub corrupt: u64,
    /// Rows met so far that are no alerts, and are left out of what is read.
    pub unreadable: usize,
    /// Why it cannot be written now.
    pub failing: Option<String>,
}

/// The running store.
pub struct Store {
    sender: SyncSender<Arc<Alert>>,
    thread: JoinHandle<()>,
    watch: StoreWatch,
    last_number: u64,
}

/// How the store is, for those that look on.
#[derive(Clone, Debug, Default)]
pub struct StoreWatch(Arc<Mutex<StoreHealth>>);

impl StoreWatch {
    /// How it is now.
    #[must_use]
    pub fn health(&self) -> StoreHealth {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, StoreHealth> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Opens the file and starts the thread. A file that cannot be opened is no error: it is tried again and again, and
    /// [`StoreHealth::failing`] says why. `now_us` is Unix time in microseconds.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(options: StoreOptions, now_us: u64) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE);
        let watch = StoreWatch::default();
        let mut writer = Writer::new(options, watch.clone());
        let last_number = writer.begin(now_us);
        let thread = thread::Builder::new().name("ml-ids-alerts".to_owned()).spawn(move || writer.work(&receiver))?;
        Ok(Self { sender, thread, watch, last_number })
    }

    /// The highest number that the file knows; those of new alerts must be beyond.
    #[must_use]
    pub const fn last_number(&self) -> u64 {
        self.last_number
    }

    /// How it is, also after [`Self::finish`].
    #[must_use]
    pub fn watch(&self) -> StoreWatch {
        self.watch.clone()
    }

    /// Gives it an alert that has changed. Returns at once.
    pub fn keep(&self, alert: &Arc<Alert>) {
        match self.sender.try_send(Arc::clone(alert)) {
            Ok(()) => {}
            // A thread that has ended did so by a panic, which its hook has shown.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.watch.lock().lost += 1,
        }
    }

    /// Writes what waits, for a bounded time, and ends.
    pub fn finish(self) {
        drop(self.sender);
        if self.thread.join().is_err() {
            log::error!(
                "the thread of the alert store ended with a panic; alerts may be missing from it, restart the sensor and report this with the lines above"
            );
        }
    }
}

/// The file that goes with a database: `alerts.db-wal`.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
