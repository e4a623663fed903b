//! The shapes in which flows arrive, read into rows once.
//!
//! The bytes are walked, not loaded: a body of the permitted size cannot become a tree many times its size, and the
//! first row too many or value that is no number ends the walk.

use serde::de::{IgnoredAny, MapAccess, SeqAccess};

use super::{
    error::{ApiError, Fault},
    row::{ClientKey, Row, SHORT_ROW},
    table::{Columns, Data, Table},
    walk::{Cursor, Key, Number, Step, Walk},
};
use crate::features::{self, Dialect, FEATURE_COUNT};

/// Flows as they were packed, which decides how the answer is.
#[derive(Debug)]
pub(crate) enum Body {
    /// One flow.
    Single(Box<Row>),
    /// A list of flows.
    Batch(Vec<Row>),
    /// A table with named columns, as the first releases of the Python client posted.
    Table(Table),
}

/// Reads a JSON body.
pub(crate) fn parse_json(bytes: &[u8], row_limit: usize) -> Result<Body, ApiError> {
    parse(bytes, &Cursor::new(0, row_limit))
}

/// Reads NDJSON: each line that is not blank, counted from `first`, is a flow or says why it is none.
pub(crate) fn parse_lines(bytes: &[u8], first: usize) -> Vec<Result<Row, ApiError>> {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let parsed = lines.zip(first..).map(|(line, number)| match parse(line, &Cursor::new(number, usize::MAX))? {
        Body::Single(row) => Ok(*row),
        Body::Batch(_) | Body::Table(_) => {
            let problem = "a line holds one flow, not a list of them".to_owned();
            Err(Fault { row: number, field: None, problem }.into())
        }
    });
    parsed.collect()
}

fn parse(bytes: &[u8], cursor: &Cursor) -> Result<Body, ApiError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.trim_ascii().is_empty() {
        return Err(ApiError::NotJson("the body is empty; send a JSON object".to_owned()));
    }
    cursor.read(bytes, Outermost(cursor))
}

fn single(row: Row) -> Body {
    Body::Single(Box::new(row))
}

/// What a key of a flow means.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FlowKey {
    Feature(usize, Dialect),
    Client(ClientKey),
    Unknown,
}

impl FlowKey {
    pub(crate) fn find(name: &str) -> Self {
        let name = name.trim();
        if let Some((feature, dialect)) = features::find(name) {
            return Self::Feature(feature, dialect);
        }
        ClientKey::find(name).map_or(Self::Unknown, Self::Client)
    }
}

/// What a key of the outermost object means.
enum OuterKey {
    Features,
    Flows,
    Columns,
    Data,
    Flow(FlowKey),
}

impl OuterKey {
    fn find(name: &str) -> Self {
        match name {
            "features" => Self::Features,
            "flows" => Self::Flows,
            "columns" => Self::Columns,
            "data" => Self::Data,
            name => Self::Flow(FlowKey::find(name)),
        }
    }
}

/// The whole body.
struct Outermost<'a>(&'a Cursor);

impl<'de> Walk<'de> for Outermost<'_> {
    type Value = Body;
    const WANTED: &'static str = "a JSON object";
    fn cursor(&self) -> &Cursor {
        self.0
    }

    fn object<A: MapAccess<'de>>(self, mut entries: A) -> Result<Body, A::Error> {
        let cursor = self.0;
        let (mut flat, mut list, mut columns, mut data) = (Row::new(), None, None, None);
        while let Some(key) = entries.next_key_seed(Step(Key(cursor, OuterKey::find)))? {
            let twice = match key {
                OuterKey::Features | OuterKey::Flows => list.is_some(),
                OuterKey::Columns => columns.is_some(),
                OuterKey::Data => data.is_some(),
                OuterKey::Flow(_) => false,
            };
            if twice {
                return Err(cursor.fail("a second list of flows in one body"));
            }
            match key {
                OuterKey::Features => list = Some(entries.next_value_seed(Step(Features(cursor)))?),
                OuterKey::Flows => list = Some(entries.next_value_seed(Step(Flows(cursor)))?),
                OuterKey::Columns => columns = Some(entries.next_value_seed(Step(Columns(cursor)))?),
                OuterKey::Data => data = Some(entries.next_value_seed(Step(Data(cursor)))?),
                OuterKey::Flow(key) => set(cursor, &mut entries, &mut flat, key)?,
            }
        }
        cursor.leave_field();
        match (list, columns, data) {
            (Some(list), None, None) => Ok(list),
            (None, None, None) => Ok(single(flat)),
            (None, Some(columns), Some(data)) => {
                Table::new(columns, data).map(Body::Table).map_err(|fault| cursor.stop(fault.into()))
            }
            (None, ..) => Err(cursor.fail("'columns' and 'data' belong together")),
            (Some(_), ..) => Err(cursor.fail("flows in two shapes; send 'features', 'flows', or 'columns' and 'data'")),
        }
    }
}

/// `features`: named values, one row of numbers, or rows of numbers.
struct Features<'a>(&'a Cursor);

impl<'de> Walk<'de> for Features<'_> {
    type Value = Body;
    const WANTED: &'static str = "an object or a list";
    fn cursor(&self) -> &Cursor {
        self.0
    }

    fn object<A: MapAccess<'de>>(self, entries: A) -> Result<Body, A::Error> {
        Named(self.0).object(entries).map(single)
    }

    fn list<A: SeqAccess<'de>>(self, mut items: A) -> Result<Body, A::Error> {
        let cursor = self.0;
        let mut rows = match items.next_element_seed(Step(NumberOrRow(cursor)))? {
            None => return Err(cursor.fail("the list is empty")),
            Some(First::Number(first)) => return numbers(cursor, Some(first), items).map(single),
            Some(First::Row(row)) => vec![*row],
        };
        while let Some(row) = next_row(cursor, rows.len(), &mut items, Numbers(cursor))? {
            rows.push(row);
        }
        Ok(Body::Batch(rows))
    }
}

/// `flows`: a list of objects.
struct Flows<'a>(&'a Cursor);

impl<'de> Walk<'de> for Flows<'_> {
    type Value = Body;
    const WANTED: &'static str = "a list of objects";
    fn cursor(&self) -> &Cursor {
        self.0
    }

    fn list<A: SeqAccess<'de>>(self, mut items: A) -> Result<Body, A::Error> {
        let mut rows = Vec::new();
        while let Some(row) = next_row(self.0, rows.len(), &mut items, Named(self.0))? {
            rows.push(row);
        }
        if rows.is_empty() {
            return Err(self.0.fail("the list is empty"));
        }
        Ok(Body::Batch(rows))
    }
}

/// The next row of a list. The end of the list is one beyond the last row, so the limit is looked at when a row begins.
pub(crate) fn next_row<'de, A: SeqAccess<'de>, W: Walk<'de>>(
    cursor: &Cursor,
    number: usize,
    items: &mut A,
    walk: W,
) -> Result<Option<W::Value>, A::Error> {
    items.next_element_seed(Step(Numbered { cursor, number, walk }))
}

/// A row that tells the cursor its number when it begins.
struct Numbered<'a, W> {
    cursor: &'a Cursor,
    number: usize,
    walk: W,
}

impl<'de, W: Walk<'de>> Walk<'de> for Numbered<'_, W> {
    type Value = W::Value;
    const WANTED: &'static str = W::WANTED;
    fn cursor(&self) -> &Cursor {
        self.cursor
    }
    fn mistyped<E: serde::de::Error>(self, found: &str) -> Result<W::Value, E> {
        self.cursor.enter_row(self.number)?;
        self.walk.mistyped(found)
    }
    fn list<A: SeqAccess<'de>>(self, items: A) -> Result<W::Value, A::Error> {
        self.cursor.enter_row(self.number)?;
        self.walk.list(items)
    }
    fn object<A: MapAccess<'de>>(self, entries: A) -> Result<W::Value, A::Error> {
        self.cursor.enter_row(self.number)?;
        self.walk.object(entries)
    }
}

/// One object of named values.
struct Named<'a>(&'a Cursor);

impl<'de> Walk<'de> for Named<'_> {
    type Value = Row;
    const WANTED: &'static str = "an object";
    fn cursor(&self) -> &Cursor {
        self.0
    }
    fn object<A: MapAccess<'de>>(self, mut entries: A) -> Result<Row, A::Error> {
        let mut row = Row::new();
        while let Some(key) = entries.next_key_seed(Step(Key(self.0, FlowKey::find)))? {
            set(self.0, &mut entries, &mut row, key)?;
        }
        self.0.leave_field();
        Ok(row)
    }
}

fn set<'de, A: MapAccess<'de>>(cursor: &Cursor, entries: &mut A, row: &mut Row, key: FlowKey) -> Result<(), A::Error> {
    match key {
        FlowKey::Feature(feature, dialect) => {
            row.set(feature, dialect, entries.next_value_seed(Step(Number(cursor)))?);
        }
        FlowKey::Client(key) => {
            entries.next_value::<IgnoredAny>()?;
            row.set_client_key(key);
        }
        FlowKey::Unknown => {
            entries.next_value::<IgnoredAny>()?;
        }
    }
    Ok(())
}

/// One row of numbers in model order.
struct Numbers<'a>(&'a Cursor);

impl<'de> Walk<'de> for Numbers<'_> {
    type Value = Row;
    const WANTED: &'static str = "a list of numbers";
    fn cursor(&self) -> &Cursor {
        self.0
    }
    fn list<A: SeqAccess<'de>>(self, items: A) -> Result<Row, A::Error> {
        numbers(self.0, None, items)
    }
}

fn numbers<'de, A: SeqAccess<'de>>(cursor: &Cursor, first: Option<f64>, mut items: A) -> Result<Row, A::Error> {
    let mut values: Vec<f64> = Vec::with_capacity(FEATURE_COUNT);
    values.extend(first);
    loop {
        cursor.enter_field(&format!("features[{}]", values.len()));
        let Some(value) = items.next_element_seed(Step(Number(cursor)))? else { break };
        if values.len() == FEATURE_COUNT {
            return Err(cursor.fail(format!("a row has {FEATURE_COUNT} numbers, this one has more")));
        }
        values.push(value);
    }
    cursor.leave_field();
    Row::from_numbers(&values).ok_or_else(|| {
        cursor.fail(format!(
            "a row has {FEATURE_COUNT} numbers, or {SHORT_ROW} without 'Destination Port' and the repeated 'Fwd Header \
             Length'; this one has {}",
            values.len()
        ))
    })
}

enum First {
    Number(f64),
    Row(Box<Row>),
}

/// The first element of `features`, which tells one row from many.
struct NumberOrRow<'a>(&'a Cursor);

impl<'de> Walk<'de> for NumberOrRow<'_> {
    type Value = First;
    const WANTED: &'static str = "a number or a list of numbers";
    fn cursor(&self) -> &Cursor {
        self.0
    }
    fn number<E: serde::de::Error>(self, value: f64) -> Result<First, E> {
        self.0.enter_field("features[0]");
        self.0.number(value).map(First::Number)
    }
    fn list<A: SeqAccess<'de>>(self, items: A) -> Result<First, A::Error> {
        numbers(self.0, None, items).map(|row| First::Row(Box::new(row)))
    }
}
