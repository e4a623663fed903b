//! The table with named columns that releases 0.1 of the Python client post: `{"columns": […], "data": [[…]]}`.
//!
//! pandas writes this shape too (`orient="split"`), and a NaN in it as `null`, which is therefore an absent value here.

use serde::de::{MapAccess, SeqAccess};

use super::{
    error::Fault,
    limits::{COLUMNS, QUOTED_CHARACTERS},
    predict_body::{FlowKey, next_row},
    row::{ClientKey, Row},
    walk::{Cursor, Step, Walk},
};
use crate::features::Dialect;

/// The responder's port, a feature that the client's display wants back.
const DESTINATION_PORT: usize = 0;

/// Rows and who talked to whom in each.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) rows: Vec<Row>,
    /// Ends of the last flow: release 0.1 posts one at a time and formats them, so none may be null.
    pub(crate) ends: Ends,
}

/// Addresses and ports in the client's own words; `-` where there are none.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) src_ip: String,
    pub(crate) src_port: String,
    pub(crate) dst_ip: String,
    pub(crate) dst_port: String,
}

/// One column's name.
pub(crate) struct Column {
    name: String,
    key: FlowKey,
}

/// One value of a row.
pub(crate) enum Cell {
    Number(f64),
    Text(String),
    Null,
    Other(&'static str),
}

impl Table {
    /// Puts values under their names.
    pub(crate) fn new(columns: Vec<Column>, data: Vec<Vec<Cell>>) -> Result<Self, Fault> {
        let none = || "-".to_owned();
        let mut ends = Ends { src_ip: none(), src_port: none(), dst_ip: none(), dst_port: none() };
        let mut rows = Vec::with_capacity(data.len());
        for (number, cells) in data.iter().enumerate() {
            let fault = |field, problem| Fault { row: number, field, problem };
            if cells.len() != columns.len() {
                let problem = format!("{} values for {} columns", cells.len(), columns.len());
                return Err(fault(None, problem));
            }
            let mut row = Row::new();
            for (column, cell) in columns.iter().zip(cells) {
                match (column.key, cell) {
                    (FlowKey::Feature(..), Cell::Null) => {}
                    (FlowKey::Feature(feature, dialect), Cell::Number(value)) => {
                        row.set(feature, dialect, *value);
                        if feature == DESTINATION_PORT && dialect == Dialect::Python {
                            ends.dst_port = value.to_string();
                        }
                    }
                    (FlowKey::Feature(..), cell) => {
                        return Err(fault(Some(column.name.clone()), format!("is {}, not a number", cell.kind())));
                    }
                    (FlowKey::Client(key), cell) => {
                        row.set_client_key(key);
                        match key {
                            ClientKey::SrcIp => ends.src_ip = cell.words(),
                            ClientKey::DstIp => ends.dst_ip = cell.words(),
                            ClientKey::SrcPort => ends.src_port = cell.words(),
                            ClientKey::Protocol | ClientKey::Timestamp => {}
                        }
                    }
                    (FlowKey::Unknown, _) => {}
                }
            }
            rows.push(row);
        }
        if rows.is_empty() {
            return Err(Fault { row: 0, field: Some("data".to_owned()), problem: "the list is empty".to_owned() });
        }
        Ok(Self { rows, ends })
    }
}

impl Cell {
    fn kind(&self) -> &'static str {
        match self {
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::Null => "null",
            Self::Other(kind) => kind,
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Number(value) => value.to_string(),
            Self::Text(text) => text.clone(),
            Self::Null | Self::Other(_) => "-".to_owned(),
        }
    }
}

/// `columns`: a list of names.
pub(crate) struct Columns<'a>(pub(crate) &'a Cursor);

impl<'de> Walk<'de> for Columns<'_> {
    type Value = Vec<Column>;
    const WANTED: &'static str = "a list of names";
    fn cursor(&self) -> &Cursor {
        self.0
    }
    fn list<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<Column>, A::Error> {
        let mut columns = Vec::new();
        while let Some(column) = items.next_element_seed(Step(ColumnName(self.0)))? {
            if columns.len() == COLUMNS {
                return Err(self.0.fail(format!("more than {COLUMNS} columns")));
            }
            columns.push(column);
        }
        Ok(columns)
    }
}

struct ColumnName<'a>(&'a Cursor);

impl Walk<'_> for ColumnName<'_> {
    type Value = Column;
    const WANTED: &'static str = "a name";
    fn cursor(&self) -> &Cursor {
        self.0
    }
    fn text<E: serde::de::Error>(self, name: &str) -> Result<Column, E> {
        Ok(Column { name: super::error::quoted(name), key: FlowKey::find(name) })
    }
}

/// `data`: a list of rows.
pub(crate) struct Data<'a>(pub(crate) &'a Cursor);

impl<'de> Walk<'de> for Data<'_> {
    type Value = Vec<Vec<Cell>>;
    const WANTED: &'static str = "a list of lists";
    fn cursor(&self) -> &Cursor {
        self.0
    }
    fn list<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut rows = Vec::new();
        while let Some(row) = next_row(self.0, rows.len(), &mut items, Cells(self.0))? {
            rows.push(row);
        }
        Ok(rows)
    }
}

struct Cells<'a>(&'a Cursor);

impl<'de> Walk<'de> for Cells<'_> {
    type Value = Vec<Cell>;
    const WANTED: &'static str = "a list of values";
    fn cursor(&self) -> &Cursor {
        self.0
    }
    fn list<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<Cell>, A::Error> {
        let mut cells = Vec::new();
        loop {
            self.0.enter_field(&format!("data[][{}]", cells.len()));
            let Some(cell) = items.next_element_seed(Step(AnyCell(self.0)))? else { return Ok(cells) };
            if cells.len() == COLUMNS {
                return Err(self.0.fail(format!("more than {COLUMNS} values in a row")));
            }
            cells.push(cell);
        }
    }
}

struct AnyCell<'a>(&'a Cursor);

impl<'de> Walk<'de> for AnyCell<'_> {
    type Value = Cell;
    const WANTED: &'static str = "a value";
    fn cursor(&self) -> &Cursor {
        self.0
    }
    fn number<E: serde::de::Error>(self, value: f64) -> Result<Cell, E> {
        self.0.number(value).map(Cell::Number)
    }
    fn text<E: serde::de::Error>(self, text: &str) -> Result<Cell, E> {
        // Long enough for any address; what is longer is not needed again.
        Ok(Cell::Text(text.chars().take(QUOTED_CHARACTERS).collect()))
    }
    fn boolean<E: serde::de::Error>(self) -> Result<Cell, E> {
        Ok(Cell::Other("a boolean"))
    }
    fn null<E: serde::de::Error>(self) -> Result<Cell, E> {
        Ok(Cell::Null)
    }
    fn object<A: MapAccess<'de>>(self, _entries: A) -> Result<Cell, A::Error> {
        self.mistyped("an object")
    }
}
