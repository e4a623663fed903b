//! Rows of flows in any format: made by any thread, written in order by one.

use std::{
    io::{self, Write},
    path::Path,
};

use ml_ids_common::FlowRecord;

use super::{
    columns::{Columns, Spec},
    row_groups::RowGroups,
    rows::{RowFormat, TextFormat, Value},
};
use crate::features::FeatureVector;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Comma separated values with a header line (RFC 4180, lines end in LF)
    Csv,
    /// A JSON object a line, with the CSV's column names as keys
    Jsonl,
    /// Parquet with typed columns, packed by zstd
    Parquet,
}

impl Format {
    /// The format that the name of a file asks for.
    #[must_use]
    pub fn of_name(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        match ending.as_str() {
            "csv" => Some(Self::Csv),
            "jsonl" | "ndjson" => Some(Self::Jsonl),
            "parquet" | "pq" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// Makes rows of flows, with columns of its own after the label.
#[derive(Clone, Debug)]
pub enum FlowTable {
    /// Lines.
    Text(RowFormat),
    /// Typed columns.
    Columns(Vec<Spec>),
}

/// Rows that are to be written together.
#[derive(Clone, Debug)]
pub enum Rows {
    /// Lines.
    Text(Vec<u8>),
    /// Typed columns.
    Columns(Columns),
}

impl FlowTable {
    /// Rows with these additional columns.
    #[must_use]
    pub fn new(format: Format, extra: &[Spec]) -> Self {
        let text = |format| {
            let names: Vec<_> = extra.iter().map(|spec| spec.name).collect();
            Self::Text(RowFormat::new(format, &names))
        };
        match format {
            Format::Csv => text(TextFormat::Csv),
            Format::Jsonl => text(TextFormat::Jsonl),
            Format::Parquet => Self::Columns(Spec::of_flows(extra)),
        }
    }

    /// No rows, with space for `usual` bytes of text.
    #[must_use]
    pub fn rows(&self, usual: usize) -> Rows {
        match self {
            Self::Text(_) => Rows::Text(Vec::with_capacity(usual)),
            Self::Columns(specs) => Rows::Columns(Columns::new(specs)),
        }
    }

    /// Adds a flow's row. `label` is empty for an unlabelled flow; `extra` are the values of the additional columns.
    pub fn row(&self, rows: &mut Rows, record: &FlowRecord, vector: &FeatureVector, label: &str, extra: &[Value<'_>]) {
        match (self, rows) {
            (Self::Text(format), Rows::Text(bytes)) => format.row(bytes, record, vector, label, extra),
            (Self::Columns(_), Rows::Columns(columns)) => columns.flow(record, vector, label, extra),
            // Rows are made by the table that they are given to.
            _ => {}
        }
    }

    /// Starts what is written.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn writer<W: Write + Send>(&self, mut out: W) -> io::Result<RowWriter<W>> {
        match self {
            Self::Text(format) => {
                out.write_all(format.header().as_bytes())?;
                Ok(RowWriter::Text(out))
            }
            Self::Columns(specs) => Ok(RowWriter::Columns(Box::new(RowGroups::new(out, specs)?))),
        }
    }
}

/// Writes rows in order.
pub enum RowWriter<W: Write + Send> {
    /// Lines.
    Text(W),
    /// Typed columns.
    Columns(Box<RowGroups<W>>),
}

impl<W: Write + Send> RowWriter<W> {
    /// Adds rows.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn write(&mut self, rows: Rows) -> io::Result<()> {
        match (self, rows) {
            (Self::Text(out), Rows::Text(bytes)) => out.write_all(&bytes),
            (Self::Columns(out), Rows::Columns(columns)) => out.write(columns),
            // Rows and writer are of one table.
            _ => Ok(()),
        }
    }

    /// Writes what is left, and returns what is written to.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::Text(mut out) => {
                out.flush()?;
                Ok(out)
            }
            Self::Columns(out) => out.finish(),
        }
    }
}
