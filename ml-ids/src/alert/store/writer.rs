//! The thread that writes: gathers, writes in one transaction, tries again what failed, keeps within the bounds.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use log::{error, info, warn};
use time::{OffsetDateTime, macros::format_description};

use super::{
    StoreOptions, StoreWatch, beside,
    database::{Database, StoreError},
};
use crate::{
    alert::record::Alert,
    sensor::clock::{micros, now_us},
};

/// Most alerts that wait while the file cannot be written; of each only the newest state does.
const MOST_WAITING: usize = 8192;
/// Pauses between two tries.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Time between two looks for alerts that are too old or too many.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// Changes from which on it looks in between.
const PRUNE_ROWS: u64 = 1000;
/// Tries at the end.
const LAST_TRIES: u32 = 3;
/// Damaged files that are kept.
const MOST_CORRUPT: usize = 4;

/// The thread's state.
pub(super) struct Writer {
    options: StoreOptions,
    watch: StoreWatch,
    database: Option<Database>,
    /// What an earlier sensor has left open in the file is closed.
    begun: bool,
    /// By number.
    waiting: BTreeMap<u64, Arc<Alert>>,
    /// When to try again, and how long to wait after that.
    retry: Option<(Instant, Duration)>,
    pruned: Instant,
    written_since: u64,
}

impl Writer {
    pub(super) fn new(options: StoreOptions, watch: StoreWatch) -> Self {
        let pruned = Instant::now();
        let waiting = BTreeMap::new();
        Self { options, watch, database: None, begun: false, waiting, retry: None, pruned, written_since: 0 }
    }

    /// Opens the file, closes what was left open in it, and keeps it within its bounds. Returns its highest number, 0 if it
    /// cannot be read.
    pub(super) fn begin(&mut self, now_us: u64) -> u64 {
        let begun = self.open().and_then(|database| database.close_lost(now_us));
        match begun {
            Ok(last) => {
                self.begun = true;
                self.prune();
                last
            }
            Err(error) => {
                self.failed(&error);
                0
            }
        }
    }

    pub(super) fn work(mut self, receiver: &Receiver<Arc<Alert>>) {
        loop {
            let wait = match self.retry {
                Some((at, _)) => at.saturating_duration_since(Instant::now()),
                None => PRUNE_EVERY,
            };
            let ended = match receiver.recv_timeout(wait) {
                Ok(alert) => {
                    self.take(alert);
                    receiver.try_iter().take(MOST_WAITING).for_each(|alert| self.take(alert));
                    false
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            if ended {
                break;
            }
            if self.retry.is_none_or(|(at, _)| at <= Instant::now()) {
                self.write();
            }
            self.watch.lock().waiting = self.waiting.len();
        }
        for _ in 0..LAST_TRIES {
            if self.write() {
                break;
            }
            std::thread::sleep(FIRST_PAUSE);
        }
        let left = self.waiting.len();
        if left > 0 {
            warn!("{left} alerts could not be stored before the end");
        }
        let mut health = self.watch.lock();
        (health.lost, health.waiting) = (health.lost + left as u64, 0);
    }

    fn take(&mut self, alert: Arc<Alert>) {
        self.waiting.insert(alert.id, alert);
        if self.waiting.len() > MOST_WAITING {
            self.waiting.pop_first();
            self.watch.lock().lost += 1;
        }
    }

    /// Writes what waits. Whether that went well.
    fn write(&mut self) -> bool {
        if self.database.as_ref().is_some_and(|database| !database.is_in_place()) {
            warn!("{} has been removed or replaced; it is made again", self.options.path.display());
            self.database = None;
        }
        let (waiting, begun) = (std::mem::take(&mut self.waiting), self.begun);
        let written = self.open().and_then(|database| {
            // Before the first alert of this sensor is in the file, all that are open in it are others'.
            if !begun {
                let _last = database.close_lost(now_us())?;
            }
            database.write(waiting.values())
        });
        match written {
            Ok(()) => {
                self.begun = true;
                self.succeeded(waiting.len() as u64);
                if self.pruned.elapsed() >= PRUNE_EVERY || self.written_since >= PRUNE_ROWS {
                    self.prune();
                }
                true
            }
            Err(error) => {
                self.waiting = waiting;
                self.failed(&error);
                false
            }
        }
    }

    /// The open file. A damaged one is moved aside and another begun.
    fn open(&mut self) -> Result<&mut Database, StoreError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => match Database::open(&self.options.path) {
                Err(error) if error.is_corrupt() => {
                    self.move_aside(&error)?;
                    Database::open(&self.options.path)?
                }
                opened => opened?,
            },
        };
        Ok(self.database.insert(database))
    }

    fn succeeded(&mut self, count: u64) {
        self.retry = None;
        self.written_since += count;
        let mut health = self.watch.lock();
        health.written += count;
        if health.failing.take().is_some() {
            info!("alerts are stored in {} again; {} are missing from it", self.options.path.display(), health.lost);
        }
    }

    /// Notes a failure and when to try again. It is said when it begins.
    fn failed(&mut self, error: &StoreError) {
        let pause = self.retry.map_or(FIRST_PAUSE, |(_, pause)| (pause * 2).min(LONGEST_PAUSE));
        if error.is_corrupt() {
            // It went bad while it was open: the next try begins another.
            self.database = None;
            if let Err(error) = self.move_aside(error) {
                error!("{error}");
            }
        } else if let Some(database) = &self.database {
            // On a full disk the log's space may be what lacks; if not even that works, nothing is lost by it.
            if database.shrink().is_err() {
                self.database = None;
            }
        }
        self.retry = Some((Instant::now() + pause, pause));
        let reason = error.to_string();
        let mut health = self.watch.lock();
        health.retries += 1;
        if health.failing.is_none() {
            let path = self.options.path.display();
            error!("alerts cannot be stored in {path}: {reason}; they wait, and further failures are counted only");
        }
        health.failing = Some(reason);
    }

    fn move_aside(&self, error: &StoreError) -> Result<(), StoreError> {
        let path = &self.options.path;
        let format = format_description!("[year][month][day]T[hour][minute][second]Z");
        let time = OffsetDateTime::now_utc().format(format).unwrap_or_default();
        let aside = beside(path, &format!(".corrupt-{time}"));
        let moved = |from: &Path, to: &Path| {
            fs::rename(from, to).map_err(|source| StoreError::Io { path: from.to_owned(), source })
        };
        for suffix in ["-wal", "-shm"] {
            // They exist only if the file was in use.
            if beside(path, suffix).exists() {
                moved(&beside(path, suffix), &beside(&aside, suffix))?;
            }
        }
        moved(path, &aside)?;
        error!("{}: {error}; moved to {}, and another one begun", path.display(), aside.display());
        self.watch.lock().corrupt += 1;
        forget_oldest(path);
        Ok(())
    }

    fn prune(&mut self) {
        let Self { options: StoreOptions { keep_rows, keep, .. }, database, .. } = self;
        let Some(database) = database else { return };
        match database.prune(*keep_rows, now_us().saturating_sub(micros(*keep))) {
            Ok(removed) => {
                self.watch.lock().removed += removed;
                (self.pruned, self.written_since) = (Instant::now(), 0);
            }
            Err(error) => self.failed(&error),
        }
    }
}

/// Removes the oldest damaged files, so that they do not fill the disk.
fn forget_oldest(path: &Path) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else { return };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(entries) = fs::read_dir(folder) else { return };
    let start = format!("{name}.corrupt-");
    let of_ours = |name: &str| name.starts_with(&start) && !name.ends_with("-wal") && !name.ends_with("-shm");
    let mut damaged: Vec<_> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).filter(|name| of_ours(name)).collect();
    damaged.sort();
    for name in damaged.iter().rev().skip(MOST_CORRUPT) {
        for suffix in ["", "-wal", "-shm"] {
            let old = folder.join(format!("{name}{suffix}"));
            if old.exists() && fs::remove_file(&old).is_ok() {
                info!("removed {}: there are newer damaged files", old.display());
            }
        }
    }
}
