//! The file: its schema, what is written to it, and what may be wrong with it.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, params};

use super::{
    super::record::{Alert, Ending, State},
    beside,
    query::readable,
};

/// `MLID`, so that no other program's file is taken for ours.
const APPLICATION: i32 = 0x4d4c_4944;
/// Version of the schema.
const VERSION: i32 = 1;
/// How long a write waits for another process that holds the file.
const BUSY: Duration = Duration::from_secs(1);
/// Bytes that the write-ahead log is cut to.
const LOG_BYTES: u32 = 8 << 20;
/// The alert itself is JSON; columns are what is asked for by.
const SCHEMA: &str = "
CREATE TABLE alerts (
    id INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL,
    state TEXT NOT NULL,
    label TEXT NOT NULL,
    severity INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    held_back INTEGER NOT NULL,
    body TEXT NOT NULL,
    acked_at INTEGER,
    acked_by TEXT,
    ack_note TEXT
) STRICT;
CREATE INDEX alerts_by_seq ON alerts (seq);
CREATE INDEX alerts_by_last_seen ON alerts (last_seen);
";
const WRITE: &str = "
INSERT INTO alerts (id, seq, state, label, severity, last_seen, held_back, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, state = excluded.state, label = excluded.label,
    severity = excluded.severity, last_seen = excluded.last_seen, held_back = excluded.held_back, body = excluded.body
WHERE excluded.seq >= alerts.seq";

/// What is wrong with the file.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// `SQLite` says no.
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file or its folder cannot be made.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Damaged.
    #[error("the file is damaged: {0}")]
    Corrupt(String),
    /// Of a later version of this program.
    #[error("the file has schema {0}, this program knows {VERSION}; use a newer one or another --alert-db")]
    Newer(i32),
    /// Of another program.
    #[error("the file belongs to another program; use another --alert-db")]
    Foreign,
    /// Another sensor writes to it.
    #[error("another sensor uses it; give each sensor its own --alert-db or --state-dir")]
    InUse,
    /// A row that is no alert.
    #[error("alert {0} in the file cannot be read: somebody or something else has changed it")]
    Unreadable(u64),
}

impl StoreError {
    /// Whether nothing but another file helps.
    pub(super) fn is_corrupt(&self) -> bool {
        match self {
            Self::Corrupt(_) => true,
            Self::Sqlite(error) => {
                matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
            }
            _ => false,
        }
    }
}

/// The open file.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    path: PathBuf,
    identity: (u64, u64),
    /// Held as long as this process writes to the file.
    _lock: File,
}

impl Database {
    /// Opens the file for writing; makes it, and its folder, if need be.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Io { path, source }
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::DirBuilder::new().recursive(true).mode(0o750).create(folder).map_err(at(folder))?;
        }
        let create = |path: &Path| OpenOptions::new().create(true).append(true).mode(0o640).open(path);
        let lock_path = beside(path, ".lock");
        let lock = create(&lock_path).map_err(at(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse),
            Err(TryLockError::Error(source)) => return Err(StoreError::Io { path: lock_path, source }),
        }
        let metadata = create(path).and_then(|file| file.metadata()).map_err(at(path))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
        // Once rights have ended there is no other folder to sort in.
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        migrate(&mut connection)?;
        let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if found != "ok" {
            return Err(StoreError::Corrupt(found));
        }
        Ok(Self { connection, path: path.to_owned(), identity: (metadata.dev(), metadata.ino()), _lock: lock })
    }

    /// Whether the path still names the open file; somebody may have removed or replaced it.
    pub(super) fn is_in_place(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity)
    }

    /// Writes alerts, all or none.
    pub(super) fn write<'a>(&mut self, alerts: impl Iterator<Item = &'a Arc<Alert>>) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        {
            let mut statement = transaction.prepare(WRITE)?;
            for alert in alerts {
                let Ok(body) = serde_json::to_string(&**alert) else { continue };
                statement.execute(params![
                    signed(alert.id),
                    signed(alert.seq),
                    alert.state.name(),
                    alert.label,
                    alert.severity.number(),
                    signed(alert.last_seen_us),
                    alert.held_back,
                    body,
                ])?;
            }
        }
        Ok(transaction.commit()?)
    }

    /// Closes what a sensor has left open that did not come to its end. Returns the highest number in the file.
    pub(super) fn close_lost(&mut self, now_us: u64) -> Result<u64, StoreError> {
        let last: Option<i64> = self.connection.query_row("SELECT max(seq) FROM alerts", [], |row| row.get(0))?;
        let mut last = last.map_or(0, i64::cast_unsigned);
        let mut lost = Vec::new();
        {
            let mut statement = self.connection.prepare("SELECT body FROM alerts WHERE state = 'open' ORDER BY seq")?;
            let mut bodies = statement.query([])?;
            while let Some(row) = bodies.next()? {
                let body = readable(row.get::<_, String>(0))?;
                let Some(alert) = body.and_then(|body| serde_json::from_str::<Alert>(&body).ok()) else { continue };
                last = (last + 1).max(now_us);
                let ended = Alert { seq: last, state: State::Closed, ending: Some(Ending::Lost), ..alert };
                lost.push(Arc::new(ended));
            }
        }
        if !lost.is_empty() {
            self.write(lost.iter())?;
        }
        Ok(last)
    }

    /// Removes the oldest alerts beyond `rows`, those first that were held back, and those last seen before `since_us`.
    /// Returns how many.
    pub(super) fn prune(&mut self, rows: u64, since_us: u64) -> Result<u64, StoreError> {
        let old = self
            .connection
            .execute("DELETE FROM alerts WHERE last_seen < ?1 AND state <> 'open'", params![signed(since_us)])?;
        let count: i64 = self.connection.query_row("SELECT count(*) FROM alerts", [], |row| row.get(0))?;
        let excess = count.saturating_sub(signed(rows));
        let many = if excess > 0 {
            // A flood that was held back must not push out what somebody was told.
            self.connection.execute(
                "DELETE FROM alerts WHERE id IN (SELECT id FROM alerts ORDER BY held_back DESC, id LIMIT ?1)",
                params![excess],
            )?
        } else {
            0
        };
        Ok(old as u64 + many as u64)
    }

    /// Gives the space of the write-ahead log back.
    pub(super) fn shrink(&self) -> Result<(), StoreError> {
        Ok(self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?)
    }
}

/// Makes the tables of a new file, and refuses those that are not ours.
fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let number = |name| transaction.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (application, version) {
        (APPLICATION, VERSION) => {}
        (APPLICATION, newer) => return Err(StoreError::Newer(newer)),
        (0, 0) if tables == 0 => {
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "application_id", APPLICATION)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        _ => return Err(StoreError::Foreign),
    }
    Ok(transaction.commit()?)
}

/// `SQLite` knows no unsigned numbers; ours are microseconds and far from the edge.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
