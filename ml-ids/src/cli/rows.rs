//! Rows to be scored, wherever they come from.

use thiserror::Error;

use crate::features::FeatureVector;

/// The columns that say which flow a row is, in the order and spelling in which they are written.
pub(super) const ID_COLUMNS: [&str; 7] =
    ["Flow ID", "Src IP", "Src Port", "Dst IP", "Dst Port", "Protocol", "Timestamp"];

/// One flow's features and what it is called.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// A value for each of [`RowSource::id_columns`].
    pub ids: Vec<String>,
    /// The features.
    pub features: FeatureVector,
}

/// Why there is a row less than the input has.
#[derive(Debug, Error)]
pub(super) enum RowError {
    /// One row cannot be used; the next ones may.
    #[error("line {line}: {reason}")]
    Bad {
        /// Line in the input, from 1.
        line: u64,
        /// What is wrong with it, with its column.
        reason: String,
    },
    /// The input cannot be read any further.
    #[error("line {line}: the input cannot be read any further: {error}")]
    Unreadable {
        /// Line in the input, from 1.
        line: u64,
        /// What the system or the parser said.
        error: String,
    },
}

/// A stream of rows. Ends after [`RowError::Unreadable`].
pub(super) trait RowSource: Iterator<Item = Result<Row, RowError>> {
    /// Those of [`ID_COLUMNS`] that every row has a value for.
    fn id_columns(&self) -> &[&'static str];
}
