//! Walking through a JSON body without loading it, knowing at every step which row and field it is.

use std::{
    cell::{Cell, RefCell},
    fmt,
};

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{
    error::{ApiError, Fault, quoted},
    limits::QUOTED_CHARACTERS,
};

/// Where in the body the walk is, so that a fault can name it; and why it ended, if it ended early.
///
/// The field's name is kept in one place and written over, as every field of every row has one.
pub(crate) struct Cursor {
    row: Cell<usize>,
    field: RefCell<String>,
    in_field: Cell<bool>,
    stopped: RefCell<Option<ApiError>>,
    row_limit: usize,
}

impl Cursor {
    /// A walk whose first row has this number and which ends before that many rows.
    pub(crate) fn new(row: usize, row_limit: usize) -> Self {
        let field = RefCell::new(String::with_capacity(QUOTED_CHARACTERS));
        Self { row: Cell::new(row), field, in_field: Cell::new(false), stopped: RefCell::new(None), row_limit }
    }

    /// Reads one JSON value and nothing behind it.
    pub(crate) fn read<'de, W: Walk<'de>>(&self, bytes: &'de [u8], walk: W) -> Result<W::Value, ApiError> {
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let value = Step(walk).deserialize(&mut json).and_then(|value| json.end().map(|()| value));
        value.map_err(|error| self.explain(&error, bytes))
    }

    /// Moves to a row; the error is the one row too many.
    pub(crate) fn enter_row<E: serde::de::Error>(&self, row: usize) -> Result<(), E> {
        if row >= self.row_limit {
            let limit = self.row_limit;
            let detail =
                format!("more than {limit} flows in one request; split it, or send them as a stream of NDJSON");
            return Err(self.stop(ApiError::TooLarge(detail)));
        }
        self.row.set(row);
        self.leave_field();
        Ok(())
    }

    pub(crate) fn enter_field(&self, name: &str) {
        let mut field = self.field.borrow_mut();
        field.clear();
        // So few bytes are no more characters.
        if name.len() <= QUOTED_CHARACTERS {
            field.push_str(name);
        } else {
            field.push_str(&quoted(name));
        }
        self.in_field.set(true);
    }

    pub(crate) fn leave_field(&self) {
        self.in_field.set(false);
    }

    /// Ends the walk. What the parser hears is a token, what the client reads is `error`.
    pub(crate) fn stop<E: serde::de::Error>(&self, error: ApiError) -> E {
        self.stopped.replace(Some(error));
        E::custom("stopped")
    }

    /// Ends the walk for something that is wrong here.
    pub(crate) fn fail<E: serde::de::Error>(&self, problem: impl Into<String>) -> E {
        self.stop(self.fault(problem).into())
    }

    /// A number that a model can take.
    pub(crate) fn number<E: serde::de::Error>(&self, value: f64) -> Result<f64, E> {
        if value.abs() <= f64::from(f32::MAX) { Ok(value) } else { Err(self.fail(OUT_OF_RANGE)) }
    }

    fn fault(&self, problem: impl Into<String>) -> Fault {
        let field = self.in_field.get().then(|| self.field.borrow().clone());
        Fault { row: self.row.get(), field, problem: problem.into() }
    }

    fn explain(&self, error: &serde_json::Error, bytes: &[u8]) -> ApiError {
        if let Some(stopped) = self.stopped.take() {
            return stopped;
        }
        let message = error.to_string();
        if message.starts_with("number out of range") {
            return self.fault(OUT_OF_RANGE).into();
        }
        if let Some(token) = non_finite_token(error, bytes) {
            return self
                .fault(format!(
                    "{token} is not a number that JSON or a model knows; send a number, or leave the field out"
                ))
                .into();
        }
        let hint = if message.starts_with("trailing characters") {
            "; for one flow a line send content type application/x-ndjson"
        } else {
            ""
        };
        ApiError::NotJson(format!("the body is not JSON: {message}{hint}"))
    }
}

const OUT_OF_RANGE: &str = "the number is out of range, it has to fit a 32-bit float";

/// `NaN` and `Infinity`, which many JSON writers emit although JSON has no such numbers.
fn non_finite_token(error: &serde_json::Error, bytes: &[u8]) -> Option<&'static str> {
    let line = bytes.split(|byte| *byte == b'\n').nth(error.line().checked_sub(1)?)?;
    // The parser's column is before, at or behind the token's first character, depending on where it gave up.
    (error.column().saturating_sub(2)..=error.column()).find_map(|start| {
        let rest = line.get(start..)?;
        ["NaN", "-Infinity", "Infinity"].into_iter().find(|token| rest.starts_with(token.as_bytes()))
    })
}

/// How one value is read, by what it turns out to be. What a reader does not override is a fault.
pub(crate) trait Walk<'de>: Sized {
    /// What it is read into.
    type Value;
    /// What it should be, for the fault.
    const WANTED: &'static str;

    fn cursor(&self) -> &Cursor;

    fn mistyped<E: serde::de::Error>(self, found: &str) -> Result<Self::Value, E> {
        Err(self.cursor().fail(format!("is {found}, not {}", Self::WANTED)))
    }
    fn number<E: serde::de::Error>(self, _value: f64) -> Result<Self::Value, E> {
        self.mistyped("a number")
    }
    fn text<E: serde::de::Error>(self, _text: &str) -> Result<Self::Value, E> {
        self.mistyped("a string")
    }
    fn boolean<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        self.mistyped("a boolean")
    }
    fn null<E: serde::de::Error>(self) -> Result<Self::Value, E> {
        self.mistyped("null")
    }
    fn list<A: SeqAccess<'de>>(self, _items: A) -> Result<Self::Value, A::Error> {
        self.mistyped("a list")
    }
    fn object<A: MapAccess<'de>>(self, _entries: A) -> Result<Self::Value, A::Error> {
        self.mistyped("an object")
    }
}

/// Lets serde take a [`Walk`].
pub(crate) struct Step<W>(pub(crate) W);

impl<'de, W: Walk<'de>> DeserializeSeed<'de> for Step<W> {
    type Value = W::Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<W::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, W: Walk<'de>> Visitor<'de> for Step<W> {
    type Value = W::Value;
    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(W::WANTED)
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<W::Value, E> {
        self.0.number(value)
    }
    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<W::Value, E> {
        self.0.number(value as f64)
    }
    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<W::Value, E> {
        self.0.number(value as f64)
    }
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<W::Value, E> {
        self.0.text(text)
    }
    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<W::Value, E> {
        self.0.boolean()
    }
    fn visit_unit<E: serde::de::Error>(self) -> Result<W::Value, E> {
        self.0.null()
    }
    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<W::Value, A::Error> {
        self.0.list(items)
    }
    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<W::Value, A::Error> {
        self.0.object(entries)
    }
}

/// Reads a key, tells the cursor, and says what it means.
pub(crate) struct Key<'a, T>(pub(crate) &'a Cursor, pub(crate) fn(&str) -> T);

impl<'de, T> Walk<'de> for Key<'_, T> {
    type Value = T;
    const WANTED: &'static str = "a name";
    fn cursor(&self) -> &Cursor {
        self.0
    }
    fn text<E: serde::de::Error>(self, name: &str) -> Result<T, E> {
        self.0.enter_field(name);
        Ok((self.1)(name))
    }
}

/// A number and nothing that merely looks like one.
pub(crate) struct Number<'a>(pub(crate) &'a Cursor);

impl Walk<'_> for Number<'_> {
    type Value = f64;
    const WANTED: &'static str = "a number";
    fn cursor(&self) -> &Cursor {
        self.0
    }
    fn number<E: serde::de::Error>(self, value: f64) -> Result<f64, E> {
        self.0.number(value)
    }
}
