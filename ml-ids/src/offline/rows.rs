//! Feature rows as text: CSV in the spelling of `MachineLearningCVE`, or JSON, one object a line. Those of Parquet are
//! made in [`super::columns`].

use ml_ids_common::FlowRecord;

use super::text;
use crate::features::{FEATURES, FeatureVector, FlowId};

/// Columns before the features.
pub(super) const LEADING: [&str; 7] = ["Flow ID", "Src IP", "Src Port", "Dst IP", "Dst Port", "Protocol", "Timestamp"];
/// The column after the features.
pub(super) const LABEL: &str = "Label";

/// How rows of text are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFormat {
    /// Comma separated values with a header line (RFC 4180, lines end in LF).
    Csv,
    /// A JSON object a line, with the CSV's column names as keys.
    Jsonl,
}

/// A value of an additional column.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// A number. Infinite ones and NaN become the words `Infinity`, `-Infinity`, `NaN` (in JSON as strings).
    Number(f64),
    /// Any text.
    Text(&'a str),
    /// `true` or `false`.
    Flag(bool),
}

/// Makes one row a flow.
#[derive(Clone, Debug)]
pub struct RowFormat {
    format: TextFormat,
    /// Names of additional columns, after the label.
    extra: Vec<&'static str>,
}

impl RowFormat {
    /// Rows with these additional columns.
    #[must_use]
    pub fn new(format: TextFormat, extra: &[&'static str]) -> Self {
        Self { format, extra: extra.to_vec() }
    }

    /// What stands before the first row.
    #[must_use]
    pub fn header(&self) -> String {
        match self.format {
            TextFormat::Csv => {
                let features = FEATURES.iter().map(|feature| feature.name);
                let columns: Vec<_> =
                    LEADING.into_iter().chain(features).chain([LABEL]).chain(self.extra.iter().copied()).collect();
                columns.join(",") + "\n"
            }
            TextFormat::Jsonl => String::new(),
        }
    }

    /// Appends a flow's row to `bytes`. `label` is empty for an unlabelled flow; `extra` are the values of the additional
    /// columns.
    pub fn row(
        &self,
        bytes: &mut Vec<u8>,
        record: &FlowRecord,
        vector: &FeatureVector,
        label: &str,
        extra: &[Value<'_>],
    ) {
        let FlowId { source, destination, source_port, destination_port, protocol } = FlowId::of(record);
        let mut line = Line { bytes, format: self.format, first: true };
        line.start();
        line.column("Flow ID");
        line.quoted(|bytes| {
            text::address(bytes, source);
            bytes.push(b'-');
            text::address(bytes, destination);
            for number in [source_port, destination_port, protocol.into()] {
                bytes.push(b'-');
                text::integer(bytes, number.into());
            }
        });
        line.column("Src IP");
        line.quoted(|bytes| text::address(bytes, source));
        line.column("Src Port");
        line.number(source_port.into());
        line.column("Dst IP");
        line.quoted(|bytes| text::address(bytes, destination));
        line.column("Dst Port");
        line.number(destination_port.into());
        line.column("Protocol");
        line.number(protocol.into());
        line.column("Timestamp");
        line.quoted(|bytes| text::timestamp(bytes, record.state().start_us));
        for (feature, value) in FEATURES.iter().zip(vector) {
            line.column(feature.name);
            line.number(*value);
        }
        line.column(LABEL);
        line.text(label);
        for (name, value) in self.extra.iter().zip(extra) {
            line.column(name);
            match value {
                Value::Number(number) => line.number(*number),
                Value::Text(text) => line.text(text),
                Value::Flag(flag) => line.flag(*flag),
            }
        }
        line.end();
    }
}

/// A row in the making.
struct Line<'a> {
    bytes: &'a mut Vec<u8>,
    format: TextFormat,
    first: bool,
}

impl Line<'_> {
    fn start(&mut self) {
        if self.format == TextFormat::Jsonl {
            self.bytes.push(b'{');
        }
    }

    fn end(&mut self) {
        if self.format == TextFormat::Jsonl {
            self.bytes.push(b'}');
        }
        self.bytes.push(b'\n');
    }

    /// What stands before a column's value. `name` must need no escaping.
    #[inline]
    fn column(&mut self, name: &str) {
        if !core::mem::take(&mut self.first) {
            self.bytes.push(b',');
        }
        if self.format == TextFormat::Jsonl {
            self.bytes.push(b'"');
            self.bytes.extend_from_slice(name.as_bytes());
            self.bytes.extend_from_slice(b"\":");
        }
    }

    /// Text that needs no escaping.
    fn quoted(&mut self, text: impl FnOnce(&mut Vec<u8>)) {
        let quote: &[u8] = if self.format == TextFormat::Jsonl { b"\"" } else { b"" };
        self.bytes.extend_from_slice(quote);
        text(self.bytes);
        self.bytes.extend_from_slice(quote);
    }

    fn flag(&mut self, flag: bool) {
        self.bytes.extend_from_slice(if flag { b"true" } else { b"false" });
    }

    fn text(&mut self, text: &str) {
        match self.format {
            TextFormat::Jsonl => self.bytes.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes()),
            TextFormat::Csv if text.contains([',', '"', '\n', '\r']) => {
                self.bytes.push(b'"');
                self.bytes.extend_from_slice(text.replace('"', "\"\"").as_bytes());
                self.bytes.push(b'"');
            }
            TextFormat::Csv => self.bytes.extend_from_slice(text.as_bytes()),
        }
    }

    /// The shortest decimal that reads back as the same number, integers without a fraction.
    #[inline]
    fn number(&mut self, value: f64) {
        if value.is_finite() {
            text::decimal(self.bytes, value);
            return;
        }
        let word: &[u8] = if value.is_nan() {
            b"NaN"
        } else if value > 0.0 {
            b"Infinity"
        } else {
            b"-Infinity"
        };
        self.quoted(|bytes| bytes.extend_from_slice(word));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: f64, format: TextFormat) -> String {
        let mut bytes = Vec::new();
        Line { bytes: &mut bytes, format, first: true }.number(value);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn numbers_are_shortest_and_read_back_exactly() {
        for (value, text) in [
            (0.0, "0"),
            (-1.0, "-1"),
            (65_535.0, "65535"),
            (1e15, "1000000000000000"),
            (0.1 + 0.2, "0.30000000000000004"),
            (100.047_678_027_967_65, "100.04767802796765"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(number(value, TextFormat::Csv), text);
            if value.is_finite() {
                assert_eq!(number(value, TextFormat::Jsonl), text);
                assert_eq!(text.parse::<f64>().unwrap(), value);
            } else {
                assert_eq!(number(value, TextFormat::Jsonl), format!("\"{text}\""));
            }
        }
    }

    #[test]
    fn labels_are_escaped() {
        let mut bytes = Vec::new();
        Line { bytes: &mut bytes, format: TextFormat::Csv, first: true }.text("a \"b\", c");
        Line { bytes: &mut bytes, format: TextFormat::Jsonl, first: true }.text("a \"b\", c");
        assert_eq!(bytes, br#""a ""b"", c""a \"b\", c""#);
    }
}
