//! Reading alerts back, and acknowledging them: for the API and the command line, while a sensor writes.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, params_from_iter, types::Value as Sql};
use serde_json::{Map, Value, json};

use super::database::{StoreError, signed};
use crate::{
    alert::{class::Severity, record::Alert},
    sink::timestamp,
};

/// Most alerts in one answer.
pub const MOST_ROWS: usize = 1000;
/// How long a reader waits for a writer; only an acknowledgement ever does.
const BUSY: Duration = Duration::from_secs(5);
const COLUMNS: &str = "id, body, acked_at, acked_by, ack_note";

/// Which alerts are wanted, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Seen at this time or later, Unix time in microseconds.
    pub since_us: Option<u64>,
    /// The class, or how its name begins, in any case.
    pub label: Option<String>,
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

/// The file, open for reading.
#[derive(Debug)]
pub struct Archive(Connection);

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
        Ok(Self(connection))
    }

    /// The alerts that the filter lets through, the newest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn list(&self, filter: &Filter) -> Result<Vec<Stored>, StoreError> {
        let Filter { since_us, label, severity, before, merged, limit } = filter;
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
        if !merged {
            conditions.push("state <> 'merged'");
        }
        values.push(signed((*limit).min(MOST_ROWS) as u64).into());
        let conditions = conditions.join(" AND ");
        self.select(&format!("SELECT {COLUMNS} FROM alerts WHERE {conditions} ORDER BY id DESC LIMIT ?"), values)
    }

    /// Alerts that were told and have changed after the change of this number, in the order of their changes.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn changed_after(&self, seq: u64, limit: usize) -> Result<Vec<Stored>, StoreError> {
        let query = format!("SELECT {COLUMNS} FROM alerts WHERE seq > ? AND held_back = 0 ORDER BY seq LIMIT ?");
        self.select(&query, vec![signed(seq).into(), signed(limit.min(MOST_ROWS) as u64).into()])
    }

    /// The alert of this number.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn get(&self, id: u64) -> Result<Option<Stored>, StoreError> {
        let query = format!("SELECT {COLUMNS} FROM alerts WHERE id = ?");
        Ok(self.select(&query, vec![signed(id).into()])?.pop())
    }

    /// Notes that somebody has seen the alert, in place of who did before; whether there is such an alert.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn acknowledge(&self, id: u64, ack: &Ack) -> Result<bool, StoreError> {
        let Ack { at_us, by, note } = ack;
        let changed = self.0.execute(
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
        let count: Option<i64> = self.0.query_row("SELECT count(*) FROM alerts", [], |row| row.get(0)).optional()?;
        Ok(count.map_or(0, i64::cast_unsigned))
    }

    fn select(&self, query: &str, values: Vec<Sql>) -> Result<Vec<Stored>, StoreError> {
        let mut statement = self.0.prepare(query)?;
        let rows = statement.query_map(params_from_iter(values), raw)?;
        rows.map(|row| stored(row?)).collect()
    }
}

type Raw = (i64, String, Option<Ack>);

fn raw(row: &Row<'_>) -> rusqlite::Result<Raw> {
    let at: Option<i64> = row.get(2)?;
    let text = |column| row.get::<_, Option<String>>(column).map(Option::unwrap_or_default);
    let ack = at.map(|at| Ok::<_, rusqlite::Error>(Ack { at_us: at.cast_unsigned(), by: text(3)?, note: text(4)? }));
    Ok((row.get(0)?, row.get(1)?, ack.transpose()?))
}

fn stored((id, body, ack): Raw) -> Result<Stored, StoreError> {
    let alert = serde_json::from_str(&body).map_err(|error| StoreError::Row { id, error })?;
    Ok(Stored { alert, ack })
}
