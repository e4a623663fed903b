//! Feature rows as text: CSV in the spelling of `MachineLearningCVE`, or JSON, one object a line.

use std::io::{self, Write};

use ml_ids_common::FlowRecord;
use time::OffsetDateTime;

use crate::features::{FEATURES, FeatureVector, FlowId};

/// Columns before the features.
const LEADING: [&str; 7] = ["Flow ID", "Src IP", "Src Port", "Dst IP", "Dst Port", "Protocol", "Timestamp"];
/// The column after the features.
const LABEL: &str = "Label";

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
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

/// Writes one row a flow.
pub struct RowWriter<W> {
    out: W,
    format: Format,
    /// Names of additional columns, after the label.
    extra: Vec<&'static str>,
    line: Vec<u8>,
}

impl<W: Write> RowWriter<W> {
    /// Writes the header, if the format has one. `out` should be buffered.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(mut out: W, format: Format, extra: &[&'static str]) -> io::Result<Self> {
        if format == Format::Csv {
            let features = FEATURES.iter().map(|feature| feature.name);
            let columns: Vec<_> =
                LEADING.into_iter().chain(features).chain([LABEL]).chain(extra.iter().copied()).collect();
            writeln!(out, "{}", columns.join(","))?;
        }
        Ok(Self { out, format, extra: extra.to_vec(), line: Vec::with_capacity(4096) })
    }

    /// Writes a flow's row. `label` is empty for an unlabelled flow; `extra` are the values of the additional columns.
    ///
    /// # Errors
    /// Those of the output.
    pub fn row(
        &mut self,
        record: &FlowRecord,
        vector: &FeatureVector,
        label: &str,
        extra: &[Value<'_>],
    ) -> io::Result<()> {
        let id = FlowId::of(record);
        let FlowId { source, destination, source_port, destination_port, protocol } = id;
        let timestamp = timestamp(record.state().start_us);
        let mut line = Line { bytes: &mut self.line, format: self.format };
        line.start();
        line.field("Flow ID", |line| line.quoted(format_args!("{id}")))?;
        line.field("Src IP", |line| line.quoted(format_args!("{source}")))?;
        line.field("Src Port", |line| line.number(source_port.into()))?;
        line.field("Dst IP", |line| line.quoted(format_args!("{destination}")))?;
        line.field("Dst Port", |line| line.number(destination_port.into()))?;
        line.field("Protocol", |line| line.number(protocol.into()))?;
        line.field("Timestamp", |line| line.quoted(format_args!("{timestamp}")))?;
        for (feature, value) in FEATURES.iter().zip(vector) {
            line.field(feature.name, |line| line.number(*value))?;
        }
        line.field(LABEL, |line| line.text(label))?;
        for (name, value) in self.extra.iter().zip(extra) {
            line.field(name, |line| match value {
                Value::Number(number) => line.number(*number),
                Value::Text(text) => line.text(text),
                Value::Flag(flag) => line.flag(*flag),
            })?;
        }
        line.end();
        self.out.write_all(&self.line)
    }

    /// Hands everything to the operating system.
    ///
    /// # Errors
    /// Those of the output.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A row in the making.
struct Line<'a> {
    bytes: &'a mut Vec<u8>,
    format: Format,
}

impl Line<'_> {
    fn start(&mut self) {
        self.bytes.clear();
        if self.format == Format::Jsonl {
            self.bytes.push(b'{');
        }
    }

    fn end(&mut self) {
        if self.format == Format::Jsonl {
            self.bytes.push(b'}');
        }
        self.bytes.push(b'\n');
    }

    /// `name` must need no escaping.
    fn field(&mut self, name: &str, value: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        if self.bytes.len() > 1 {
            self.bytes.push(b',');
        }
        if self.format == Format::Jsonl {
            self.bytes.push(b'"');
            self.bytes.extend_from_slice(name.as_bytes());
            self.bytes.extend_from_slice(b"\":");
        }
        value(self)
    }

    /// Text that needs no escaping.
    fn quoted(&mut self, text: std::fmt::Arguments<'_>) -> io::Result<()> {
        match self.format {
            Format::Csv => self.bytes.write_fmt(text),
            Format::Jsonl => write!(self.bytes, "\"{text}\""),
        }
    }

    fn flag(&mut self, flag: bool) -> io::Result<()> {
        write!(self.bytes, "{flag}")
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        match self.format {
            Format::Jsonl => Ok(serde_json::to_writer(&mut *self.bytes, text)?),
            Format::Csv if text.contains([',', '"', '\n', '\r']) => {
                write!(self.bytes, "\"{}\"", text.replace('"', "\"\""))
            }
            Format::Csv => self.bytes.write_all(text.as_bytes()),
        }
    }

    /// The shortest decimal that reads back as the same number, integers without a fraction.
    fn number(&mut self, value: f64) -> io::Result<()> {
        /// Below this, integers are exact and print faster as such.
        const EXACT: f64 = 9e15;
        if value.abs() < EXACT && value.trunc() == value {
            write!(self.bytes, "{}", value as i64)
        } else if value.is_finite() {
            write!(self.bytes, "{value}")
        } else {
            let word = if value.is_nan() {
                "NaN"
            } else if value > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            };
            self.quoted(format_args!("{word}"))
        }
    }
}

/// RFC 3339 in UTC with microseconds. Times beyond the year 9999 are written as its end.
fn timestamp(time_us: u64) -> String {
    const LAST: i64 = 253_402_300_799;
    let seconds = i64::try_from(time_us / 1_000_000).unwrap_or(LAST).min(LAST);
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second) = time.to_hms();
    let (month, fraction) = (u8::from(month), time_us % 1_000_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:06}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: f64, format: Format) -> String {
        let mut bytes = Vec::new();
        Line { bytes: &mut bytes, format }.number(value).unwrap();
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
            assert_eq!(number(value, Format::Csv), text);
            if value.is_finite() {
                assert_eq!(number(value, Format::Jsonl), text);
                assert_eq!(text.parse::<f64>().unwrap(), value);
            } else {
                assert_eq!(number(value, Format::Jsonl), format!("\"{text}\""));
            }
        }
    }

    #[test]
    fn labels_are_escaped() {
        let mut bytes = Vec::new();
        Line { bytes: &mut bytes, format: Format::Csv }.text("a \"b\", c").unwrap();
        Line { bytes: &mut bytes, format: Format::Jsonl }.text("a \"b\", c").unwrap();
        assert_eq!(bytes, br#""a ""b"", c""a \"b\", c""#);
    }

    #[test]
    fn timestamps_are_utc_with_microseconds() {
        assert_eq!(timestamp(1_499_348_422_024_349), "2017-07-06T13:40:22.024349Z");
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(timestamp(u64::MAX), "9999-12-31T23:59:59.551615Z");
    }
}
