//! Rows as columns of typed values, as Parquet has them. Names and order are those of the CSV; a column that is all
//! integers there is an integer here, so that both read back as the same table.

use ml_ids_common::FlowRecord;
use parquet::data_type::ByteArray;

use super::{
    rows::{LABEL, LEADING, Value},
    text,
};
use crate::features::{FEATURES, FeatureVector, FlowId};

/// What the values of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Signed, 64 bits.
    Whole,
    /// Floating point, 64 bits; NaN and Infinity included.
    Real,
    /// True or false.
    Flag,
    /// Microseconds since 1970, UTC.
    Time,
}

/// A column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Its name.
    pub name: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// Whether a row may have none.
    pub optional: bool,
}

impl Spec {
    /// A column that has a value in every row.
    #[must_use]
    pub const fn required(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, optional: false }
    }

    /// A column in which a value may be absent.
    #[must_use]
    pub const fn optional(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, optional: true }
    }

    /// The columns of a row of features: identification, the 78, the label, then `extra`.
    #[must_use]
    pub fn of_flows(extra: &[Self]) -> Vec<Self> {
        let leading = LEADING.into_iter().map(|name| Self::required(name, leading_kind(name)));
        let features = FEATURES
            .iter()
            .map(|feature| Self::required(feature.name, if feature.is_whole() { Kind::Whole } else { Kind::Real }));
        let label = Self::optional(LABEL, Kind::Text);
        leading.chain(features).chain([label]).chain(extra.iter().copied()).collect()
    }
}

/// What stands in one of [`LEADING`].
#[must_use]
fn leading_kind(name: &str) -> Kind {
    match name {
        "Src Port" | "Dst Port" | "Protocol" => Kind::Whole,
        "Timestamp" => Kind::Time,
        _ => Kind::Text,
    }
}

/// The values of a column.
#[derive(Clone, Debug)]
pub(super) enum Values {
    Text(Vec<ByteArray>),
    /// Integers and times.
    Whole(Vec<i64>),
    Real(Vec<f64>),
    Flag(Vec<bool>),
}

/// A column in the making.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) values: Values,
    /// Where values may be absent: 1 for each row that has one, 0 for each that has none.
    pub(super) present: Option<Vec<i16>>,
}

impl Column {
    fn new(spec: &Spec) -> Self {
        let values = match spec.kind {
            Kind::Text => Values::Text(Vec::new()),
            Kind::Whole | Kind::Time => Values::Whole(Vec::new()),
            Kind::Real => Values::Real(Vec::new()),
            Kind::Flag => Values::Flag(Vec::new()),
        };
        Self { values, present: spec.optional.then(Vec::new) }
    }

    /// Adds a row's value. One that the column cannot hold is absent.
    fn push(&mut self, value: Option<Cell<'_>>) {
        let kept = match (&mut self.values, value) {
            (Values::Text(values), Some(Cell::Text(text))) => {
                values.push(ByteArray::from(text));
                true
            }
            (Values::Whole(values), Some(Cell::Whole(number))) => {
                values.push(number);
                true
            }
            // Exact: whoever makes the column an integer one has only integers, of fewer than 54 bits.
            (Values::Whole(values), Some(Cell::Real(number))) => {
                values.push(number as i64);
                true
            }
            (Values::Real(values), Some(Cell::Real(number))) => {
                values.push(number);
                true
            }
            (Values::Flag(values), Some(Cell::Flag(flag))) => {
                values.push(flag);
                true
            }
            _ => false,
        };
        if let Some(present) = &mut self.present {
            present.push(kept.into());
        }
    }

    fn append(&mut self, other: Self) {
        match (&mut self.values, other.values) {
            (Values::Text(own), Values::Text(mut more)) => own.append(&mut more),
            (Values::Whole(own), Values::Whole(mut more)) => own.append(&mut more),
            (Values::Real(own), Values::Real(mut more)) => own.append(&mut more),
            (Values::Flag(own), Values::Flag(mut more)) => own.append(&mut more),
            // Both are of one table.
            _ => {}
        }
        if let (Some(own), Some(mut more)) = (&mut self.present, other.present) {
            own.append(&mut more);
        }
    }

    fn clear(&mut self) {
        match &mut self.values {
            Values::Text(values) => values.clear(),
            Values::Whole(values) => values.clear(),
            Values::Real(values) => values.clear(),
            Values::Flag(values) => values.clear(),
        }
        if let Some(present) = &mut self.present {
            present.clear();
        }
    }
}

/// A value of one row.
#[derive(Clone, Copy, Debug)]
pub enum Cell<'a> {
    /// For a [`Kind::Text`].
    Text(&'a str),
    /// For a [`Kind::Whole`] or a [`Kind::Time`].
    Whole(i64),
    /// For a [`Kind::Real`], or an integer for a [`Kind::Whole`].
    Real(f64),
    /// For a [`Kind::Flag`].
    Flag(bool),
}

impl<'a> From<Value<'a>> for Cell<'a> {
    fn from(value: Value<'a>) -> Self {
        match value {
            Value::Number(number) => Self::Real(number),
            Value::Text(text) => Self::Text(text),
            Value::Flag(flag) => Self::Flag(flag),
        }
    }
}

/// Rows of a table, column by column.
#[derive(Clone, Debug)]
pub struct Columns {
    pub(super) columns: Vec<Column>,
    pub(super) rows: usize,
}

impl Columns {
    /// A table without rows.
    #[must_use]
    pub fn new(specs: &[Spec]) -> Self {
        Self { columns: specs.iter().map(Column::new).collect(), rows: 0 }
    }

    /// Adds a row: a value for each column, in their order.
    pub fn row<'a>(&mut self, values: impl IntoIterator<Item = Option<Cell<'a>>>) {
        let mut values = values.into_iter();
        for column in &mut self.columns {
            column.push(values.next().flatten());
        }
        self.rows += 1;
    }

    /// Adds a flow's row to a table of [`Spec::of_flows`]. `label` is empty for an unlabelled flow.
    pub fn flow(&mut self, record: &FlowRecord, vector: &FeatureVector, label: &str, extra: &[Value<'_>]) {
        let FlowId { source, destination, source_port, destination_port, protocol } = FlowId::of(record);
        let (mut from, mut to) = (Vec::with_capacity(39), Vec::with_capacity(39));
        text::address(&mut from, source);
        text::address(&mut to, destination);
        // Addresses are ASCII.
        let [from, to] = [&from, &to].map(|address| std::str::from_utf8(address).unwrap_or_default());
        let id = format!("{from}-{to}-{source_port}-{destination_port}-{protocol}");
        let time = i64::try_from(record.state().start_us).unwrap_or(i64::MAX);
        let leading = [
            Cell::Text(&id),
            Cell::Text(from),
            Cell::Whole(source_port.into()),
            Cell::Text(to),
            Cell::Whole(destination_port.into()),
            Cell::Whole(protocol.into()),
            Cell::Whole(time),
        ];
        let label = (!label.is_empty()).then_some(Cell::Text(label));
        let features = vector.iter().map(|value| Some(Cell::Real(*value)));
        let extra = extra.iter().map(|value| Some(Cell::from(*value)));
        self.row(leading.into_iter().map(Some).chain(features).chain([label]).chain(extra));
    }

    /// Adds the rows of another part of the same table.
    pub(super) fn append(&mut self, other: Self) {
        for (column, more) in self.columns.iter_mut().zip(other.columns) {
            column.append(more);
        }
        self.rows += other.rows;
    }

    pub(super) fn clear(&mut self) {
        self.columns.iter_mut().for_each(Column::clear);
        self.rows = 0;
    }
}
