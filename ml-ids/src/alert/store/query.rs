//! Reading alerts back, and acknowledging them: for the API and the command line, while a sensor writes.

use std::{cell::RefCell, collections::BTreeSet, path::Path, time::Duration};

use rusqlite::{
    Connection, Error as SqlError, OpenFlags, OptionalExtension as _, Row, params_from_iter, types::Value as Sql,
};
use serde_json::{Map, Value, json};

use super::database::{StoreError, signed};
use crate::{
    alert::{class::Severity, record::Alert, text::AlertText},
    sink::timestamp,
};

/// Most alerts in one answer.
pub const MOST_ROWS: usize = 1000;
/// How long a reader waits for a writer; only an acknowledgement ever does.
const BUSY: Duration = Duration::from_secs(5);
const COLUMNS: &str = "id, body, acked_at, acked_by, ack_note";
/// What [`AlertText::is_in`] says of an alert. Not LIKE, so that nothing in the text is a wildcard.
const HOLDS_TEXT: &str = "(label IN (SELECT value FROM json_each(?)) OR CASE WHEN json_valid(body) THEN
    EXISTS (SELECT 1 FROM json_each(body, '$.sources.sample') WHERE instr(lower(value), ?))
    OR EXISTS (SELECT 1 FROM json_each(body, '$.targets.sample') WHERE instr(lower(value), ?))
    OR EXISTS (SELECT 1 FROM json_each(body, '$.ports.sample') WHERE instr(lower(value), ?))
ELSE 0 END)";

/// Which alerts are wanted, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Seen at this time or later, Unix time in microseconds.
    pub since_us: Option<u64>,
    /// The class, or how its name begins, in any case.
    pub label: Option<String>,
    /// What its class, an address, a port or a technique holds.
    pub text: Option<AlertText>,
    /// So grave or graver.
    pub severity: Option<Severity>,
    /// Opened before the alert of this number.
    pub before: Option<u64>,
    /// Those as well that have become part of another.
    pub merged: bool,
    /// Most of them.
    pub limit: usize,
}

/// Somebody has seen it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// When, Unix time in microseconds.
    pub at_us: u64,
    /// Who.
    pub by: String,
    /// What they say of it.
    pub note: String,
}

/// An alert from the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The alert.
    pub alert: Alert,
    /// Whether somebody has seen it.
    pub ack: Option<Ack>,
}

impl Stored {
    /// As the API and the command line give it.
    #[must_use]
    pub fn json(&self) -> Map<String, Value> {
        let mut fields = self.alert.json();
        let ack = self.ack.as_ref();
        let ack = ack.map(|ack| json!({ "at": timestamp(ack.at_us), "by": ack.by, "note": ack.note }));
        fields.insert("ack".to_owned(), ack.into());
        fields
    }

    /// The same with the event of the flow that opened it.
    #[must_use]
    pub fn json_in_full(&self) -> Map<String, Value> {
        let mut fields = self.json();
        fields.insert("event".to_owned(), (*self.alert.evidence).clone());
        fields
    }
}

/// The file, open for reading. A row that is no alert does not keep others from being read: it is left out and remembered.
#[derive(Debug)]
pub struct Archive {
    connection: Connection,
    /// Numbers of the rows that were left out.
    unreadable: RefCell<BTreeSet<i64>>,
}

impl Archive {
    /// Opens it for reading.
    ///
    /// # Errors
    /// When there is none or it cannot be read.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_as(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    /// Opens it for acknowledging, too.
    ///
    /// # Errors
    /// When there is none or it cannot be written.
    pub fn open_for_acks(path: &Path) -> Result<Self, StoreError> {
        Self::open_as(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
    }

    fn open_as(path: &Path, flags: OpenFlags) -> Result<Self, StoreError> {
        let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        Ok(Self { connection, unreadable: RefCell::default() })
    }

    /// The alerts that the filter lets through, the newest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn list(&self, filter: &Filter) -> Result<Vec<Stored>, StoreError> {
        let Filter { since_us, label, text, severity, before, merged, limit } = filter;
        let mut conditions = vec!["1"];
        let mut values: Vec<Sql> = Vec::new();
        let mut only = |condition, value: Option<Sql>| {
            if let Some(value) = value {
                conditions.push(condition);
                values.push(value);
            }
        };
        only("last_seen >= ?", since_us.map(|since| signed(since).into()));
        only("severity <= ?", severity.map(|severity| i64::from(severity.number()).into()));
        only("id < ?", before.map(|before| signed(before).into()));
        if let Some(label) = label {
            conditions.push("lower(substr(label, 1, length(?))) = lower(?)");
            values.extend([Sql::from(label.clone()), label.clone().into()]);
        }
        if let Some(text) = text {
            let labels = self.labels()?.into_iter().filter(|label| text.is_in_class(label)).collect::<Vec<_>>();
            conditions.push(HOLDS_TEXT);
            let needle = Sql::from(text.needle().to_owned());
            values.extend([json!(labels).to_string().into(), needle.clone(), needle.clone(), needle]);
        }
        if !merged {
            conditions.push("state <> 'merged'");
        }
        let conditions = conditions.join(" AND ");
        self.select(&format!("SELECT {COLUMNS} FROM alerts WHERE {conditions} ORDER BY id DESC"), values, *limit)
    }

    /// Alerts that were told and have changed after the change of this number, in the order of their changes.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn changed_after(&self, seq: u64, limit: usize) -> Result<Vec<Stored>, StoreError> {
        let query = format!("SELECT {COLUMNS} FROM alerts WHERE seq > ? AND held_back = 0 ORDER BY seq");
        self.select(&query, vec![signed(seq).into()], limit)
    }

    /// The alert of this number.
    ///
    /// # Errors
    /// When the file, or the alert in it, cannot be read.
    pub fn get(&self, id: u64) -> Result<Option<Stored>, StoreError> {
        let query = format!("SELECT {COLUMNS} FROM alerts WHERE id = ?");
        let found = self.select(&query, vec![signed(id).into()], 1)?.pop();
        if found.is_none() && self.unreadable.borrow().contains(&signed(id)) {
            return Err(StoreError::Unreadable(id));
        }
        Ok(found)
    }

    /// Notes that somebody has seen the alert, in place of who did before; whether there is such an alert.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn acknowledge(&self, id: u64, ack: &Ack) -> Result<bool, StoreError> {
        let Ack { at_us, by, note } = ack;
        let changed = self.connection.execute(
            "UPDATE alerts SET acked_at = ?2, acked_by = ?3, ack_note = ?4 WHERE id = ?1",
            rusqlite::params![signed(id), signed(*at_us), by, note],
        )?;
        Ok(changed > 0)
    }

    /// How many alerts there are.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn count(&self) -> Result<u64, StoreError> {
        let count: Option<i64> =
            self.connection.query_row("SELECT count(*) FROM alerts", [], |row| row.get(0)).optional()?;
        Ok(count.map_or(0, i64::cast_unsigned))
    }

    /// Numbers of the rows that were no alerts and were left out of what was read so far.
    #[must_use]
    pub fn unreadable(&self) -> BTreeSet<i64> {
        self.unreadable.borrow().clone()
    }

    /// The classes that occur.
    fn labels(&self) -> Result<Vec<String>, StoreError> {
        let mut statement = self.connection.prepare("SELECT DISTINCT label FROM alerts")?;
        let mut rows = statement.query([])?;
        let mut labels = Vec::new();
        while let Some(row) = rows.next()? {
            labels.extend(readable(row.get(0))?);
        }
        Ok(labels)
    }

    /// The first rows that are alerts. The query has no limit of its own, so that those left out do not count.
    fn select(&self, query: &str, values: Vec<Sql>, limit: usize) -> Result<Vec<Stored>, StoreError> {
        let mut statement = self.connection.prepare(query)?;
        let mut rows = statement.query(params_from_iter(values))?;
        let mut found = Vec::new();
        while found.len() < limit.min(MOST_ROWS)
            && let Some(row) = rows.next()?
        {
            let alert = readable(raw(row))?.and_then(|(body, ack)| Some((serde_json::from_str(&body).ok()?, ack)));
            match alert {
                Some((alert, ack)) => found.push(Stored { alert, ack }),
                None => drop(self.unreadable.borrow_mut().insert(row.get(0)?)),
            }
        }
        Ok(found)
    }
}

/// What was read; `None` if the row holds something else than it should, an error if the file cannot be read.
pub(super) fn readable<T>(read: rusqlite::Result<T>) -> Result<Option<T>, StoreError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(SqlError::FromSqlConversionFailure(..) | SqlError::InvalidColumnType(..) | SqlError::Utf8Error(..)) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn raw(row: &Row<'_>) -> rusqlite::Result<(String, Option<Ack>)> {
    let at: Option<i64> = row.get(2)?;
    let text = |column| row.get::<_, Option<String>>(column).map(Option::unwrap_or_default);
    let ack = at.map(|at| Ok::<_, rusqlite::Error>(Ack { at_us: at.cast_unsigned(), by: text(3)?, note: text(4)? }));
    Ok((row.get(1)?, ack.transpose()?))
}
