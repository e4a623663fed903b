//! Rows from a CSV file whose header names the features.

mod bounded;

use std::io::Read;

use csv::ByteRecord;
use thiserror::Error;

use self::bounded::{Bounded, MAX_RECORD_BYTES};
use super::rows::{ID_COLUMNS, Row, RowError, RowSource};
use crate::{
    features::{self, Dialect, FEATURE_COUNT},
    model::expected_names,
};

/// Other spellings of [`ID_COLUMNS`]: GeneratedLabelledFlows and Python cicflowmeter.
const ID_SPELLINGS: [[&str; 2]; ID_COLUMNS.len()] = [
    ["Flow ID", "flow_id"],
    ["Source IP", "src_ip"],
    ["Source Port", "src_port"],
    ["Destination IP", "dst_ip"],
    ["Dst Port", "dst_port"],
    ["Protocol", "protocol"],
    ["Timestamp", "timestamp"],
];

/// Why a CSV cannot be scored at all.
#[derive(Debug, Error)]
pub(super) enum HeaderError {
    /// The header cannot be read.
    #[error("the header cannot be read: {0}; it has to be a line of names with commas between them")]
    Unreadable(String),
    /// The input is empty, or nothing in its first line is a feature.
    #[error(
        "the first line names none of the {FEATURE_COUNT} features; is this a CSV with a header, of CIC-IDS2017, CICFlowMeter 4 or `ml-ids extract`?"
    )]
    NoFeature,
    /// A table of the Python client.
    #[error(
        "the columns are those of the Python cicflowmeter, which measures other things under these names; make the \
         table with `ml-ids extract`, or send that tool's flows to POST /predict"
    )]
    Python,
    /// Features that the model looks at are not there.
    #[error(
        "the header lacks {count} of the features that the model looks at: {names}; make the CSV anew with `ml-ids extract`, or add the columns"
    )]
    Missing {
        /// How many.
        count: usize,
        /// The first of them.
        names: String,
    },
    /// Two columns for one feature.
    #[error("the header has two columns for feature `{0}`; remove one of them")]
    Twice(&'static str),
}

/// The index of the feature that a header field names. The Python client's names are no help: what it writes under them
/// is measured in other units.
fn column_of(name: &str) -> Option<usize> {
    let (index, dialect) = features::find(name)?;
    (dialect != Dialect::Python).then_some(index)
}

/// The index in [`ID_COLUMNS`] of the identification that a header field names.
fn id_of(name: &str) -> Option<usize> {
    (0..ID_COLUMNS.len()).find(|&id| ID_COLUMNS[id] == name || ID_SPELLINGS[id].contains(&name))
}

/// Where in a record each feature and identification stands.
#[derive(Debug)]
struct Layout {
    /// Field of each feature; `None` is 0 for a feature that the model does not look at.
    features: [Option<usize>; FEATURE_COUNT],
    /// Fields of the identification columns that there are, and their names.
    ids: Vec<usize>,
    id_columns: Vec<&'static str>,
    width: usize,
}

impl Layout {
    fn of(header: &ByteRecord, unused: &[usize]) -> Result<Self, HeaderError> {
        let names: Vec<_> = header.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
        let mut features = [None; FEATURE_COUNT];
        let mut ids = [None; ID_COLUMNS.len()];
        for (field, name) in names.iter().enumerate() {
            if let Some(id) = id_of(name) {
                ids[id].get_or_insert(field);
            }
            if let Some(feature) = column_of(name) {
                place(&mut features, feature, field, &names)?;
            }
        }
        if features.iter().all(Option::is_none) {
            let python = names.iter().filter(|name| matches!(features::find(name), Some((_, Dialect::Python))));
            return Err(if python.count() > 0 { HeaderError::Python } else { HeaderError::NoFeature });
        }
        complete(&mut features, unused)?;
        let (ids, id_columns) =
            ids.into_iter().zip(ID_COLUMNS).filter_map(|(field, name)| Some((field?, name))).unzip();
        Ok(Self { features, ids, id_columns, width: names.len() })
    }
}

/// Gives `feature` its field. `Dst Port` names a flow and in some dialects a feature too: it is the feature where no
/// other column is. A header that occurs again means the feature of that name with `.1`, as pandas counts.
fn place(
    features: &mut [Option<usize>; FEATURE_COUNT],
    feature: usize,
    field: usize,
    names: &[String],
) -> Result<(), HeaderError> {
    let is_id = |field: usize| id_of(&names[field]).is_some();
    match features[feature] {
        None => features[feature] = Some(field),
        Some(_) if is_id(field) => {}
        Some(earlier) if is_id(earlier) => features[feature] = Some(field),
        Some(_) => match repeated(feature) {
            Some(repeated) if features[repeated].is_none() => features[repeated] = Some(field),
            _ => return Err(HeaderError::Twice(expected_names()[feature])),
        },
    }
    Ok(())
}

/// The feature that has the same name and `.1`.
fn repeated(feature: usize) -> Option<usize> {
    let names = expected_names();
    names.iter().position(|name| name.strip_suffix(".1") == Some(names[feature]))
}

/// Fills in what may be absent: the repeated feature is a copy, and what the model does not look at may be anything.
fn complete(features: &mut [Option<usize>; FEATURE_COUNT], unused: &[usize]) -> Result<(), HeaderError> {
    for feature in 0..FEATURE_COUNT {
        if let Some(repeated) = repeated(feature)
            && features[repeated].is_none()
        {
            features[repeated] = features[feature];
        }
    }
    let names = expected_names();
    let missing: Vec<_> = (0..FEATURE_COUNT)
        .filter(|feature| features[*feature].is_none() && !unused.contains(feature))
        .map(|feature| names[feature])
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let named: Vec<_> = missing.iter().take(5).map(|name| format!("`{name}`")).collect();
    let more = if missing.len() > named.len() { ", …" } else { "" };
    Err(HeaderError::Missing { count: missing.len(), names: format!("{}{more}", named.join(", ")) })
}

/// Rows of a CSV.
pub(super) struct CsvRows<R> {
    reader: csv::Reader<Bounded<R>>,
    header: ByteRecord,
    layout: Layout,
    record: ByteRecord,
    ended: bool,
}

impl<R: Read> CsvRows<R> {
    /// Reads the header. `unused` are the features that the model does not look at.
    pub(crate) fn new(input: R, unused: &[usize]) -> Result<Self, HeaderError> {
        let input = Bounded { input, left: MAX_RECORD_BYTES, ended: false };
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(input);
        let header = reader.byte_headers().map_err(|error| HeaderError::Unreadable(error.to_string()))?.clone();
        let layout = Layout::of(&header, unused)?;
        Ok(Self { reader, header, layout, record: ByteRecord::new(), ended: false })
    }

    /// The line where the current record starts. The position that csv gives it lies before the blank lines that it
    /// skipped, so this counts back from the end; [`Bounded`] sees to it that every record ends with a line feed.
    fn line(&self) -> u64 {
        let inside = self.record.as_slice().iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.reader.position().line().saturating_sub(1 + inside)
    }

    fn row(&self) -> Result<Row, String> {
        let Self { header, layout, record, .. } = self;
        if record.len() != layout.width {
            return Err(format!("{} fields where the header has {}", record.len(), layout.width));
        }
        let mut features = [0.0; FEATURE_COUNT];
        for (value, field) in features.iter_mut().zip(layout.features) {
            let Some(field) = field else { continue };
            let text = record.get(field).unwrap_or_default();
            *value = number(text).ok_or_else(|| {
                format!("column `{}`: `{}` is not a number", shortened(&header[field]), shortened(text))
            })?;
        }
        let id = |&field: &usize| String::from_utf8_lossy(record.get(field).unwrap_or_default()).into_owned();
        Ok(Row { ids: layout.ids.iter().map(id).collect(), features })
    }
}

/// A number as the CSVs write them, `NaN` and `Infinity` included.
fn number(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// A piece of the input as it may stand in a message.
fn shortened(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.trim().chars().take(40).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

impl<R: Read> Iterator for CsvRows<R> {
    type Item = Result<Row, RowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        self.reader.get_mut().left = MAX_RECORD_BYTES;
        match self.reader.read_byte_record(&mut self.record) {
            Ok(true) => {
                let line = self.line();
                Some(self.row().map_err(|reason| RowError::Bad { line, reason }))
            }
            Ok(false) => None,
            Err(error) => {
                self.ended = true;
                Some(Err(RowError::Unreadable { line: self.reader.position().line(), error: error.to_string() }))
            }
        }
    }
}

impl<R: Read> RowSource for CsvRows<R> {
    fn id_columns(&self) -> &[&'static str] {
        &self.layout.id_columns
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// A CSV of this header and rows, and nothing the model does not look at.
    fn rows(header: &[&str], rows: &[Vec<String>]) -> Result<Vec<Result<Row, RowError>>, HeaderError> {
        let mut text = header.join(",") + "\n";
        rows.iter().for_each(|row| text += &(row.join(",") + "\n"));
        Ok(CsvRows::new(text.as_bytes(), &[])?.collect())
    }

    fn numbered(count: usize) -> Vec<String> {
        (0..count).map(|value| value.to_string()).collect()
    }

    #[test]
    fn features_are_found_by_name_in_any_order() {
        let mut header = expected_names();
        header.reverse();
        let row = rows(&header, &[numbered(78)]).unwrap().remove(0).unwrap();
        assert_eq!(row.features, std::array::from_fn(|feature| (77 - feature) as f64));
    }

    #[test]
    fn leading_blanks_and_the_repeated_header_of_2017_are_understood() {
        let names = expected_names();
        let blank: Vec<_> = names.iter().map(|name| format!(" {}", name.trim_end_matches(".1"))).collect();
        let header: Vec<_> = blank.iter().map(String::as_str).collect();
        let row = rows(&header, &[numbered(78)]).unwrap().remove(0).unwrap();
        assert_eq!(row.features, std::array::from_fn(|feature| feature as f64));
    }

    #[test]
    fn an_absent_repeated_column_is_a_copy() {
        let names = expected_names();
        let copy = names.iter().position(|name| name.ends_with(".1")).unwrap();
        let header: Vec<_> = names.iter().copied().filter(|name| !name.ends_with(".1")).collect();
        let row = rows(&header, &[numbered(77)]).unwrap().remove(0).unwrap();
        let original = names.iter().position(|name| Some(*name) == names[copy].strip_suffix(".1")).unwrap();
        assert_eq!(row.features[copy], row.features[original]);
    }

    #[test]
    fn identification_columns_are_passed_through_in_fixed_order() {
        let mut header = expected_names();
        header.extend(["Timestamp", "Source IP", "Label"]);
        let mut row = numbered(78);
        row.extend(["2017-07-07".into(), "10.0.0.1".into(), "BENIGN".into()]);
        let text = format!("{}\n{}\n", header.join(","), row.join(","));
        let mut rows = CsvRows::new(text.as_bytes(), &[]).unwrap();
        assert_eq!(rows.id_columns(), ["Src IP", "Timestamp"]);
        assert_eq!(rows.next().unwrap().unwrap().ids, ["10.0.0.1", "2017-07-07"]);
    }

    #[test]
    fn bad_rows_name_line_and_column_and_the_next_rows_are_read() {
        let header = expected_names();
        let bad = |value: &str| [&numbered(77)[..], &[value.to_owned()]].concat();
        let read = [bad("1e3"), bad("abc"), numbered(5), bad(""), bad("NaN"), bad("-Infinity")];
        let read = rows(&header, &read).unwrap();
        let messages: Vec<_> =
            read.iter().map(|row| row.as_ref().map_or_else(|error| error.to_string(), |_| "ok".into())).collect();
        let column = header[77];
        assert_eq!(
            messages,
            [
                "ok",
                &format!("line 3: column `{column}`: `abc` is not a number"),
                "line 4: 5 fields where the header has 78",
                &format!("line 5: column `{column}`: `` is not a number"),
                "ok",
                "ok",
            ]
        );
    }

    #[test]
    fn lines_are_counted_right_whatever_ends_them() {
        let (header, row) = (expected_names().join(","), numbered(78).join(","));
        let quoted = row.replacen("0,", "\"\n0\n\",", 1);
        for end in ["\n", "\r\n"] {
            // Lines 1, 2, 3 blank, 4, 5 to 7 quoted, 8, and 9 without an end.
            let lines = [&header, &row, "", "bad", &quoted, "bad", "bad"];
            let text = lines.join(end);
            let read = CsvRows::new(text.as_bytes(), &[]).unwrap();
            let bad: Vec<_> = read.filter_map(Result::err).map(|error| error.to_string()).collect();
            let expected = [4, 8, 9].map(|line| format!("line {line}: 1 fields where the header has 78"));
            assert_eq!(bad, expected, "lines end with {end:?}");
        }
    }

    #[test]
    fn missing_features_are_named_unless_the_model_does_not_look_at_them() {
        let names = expected_names();
        let text = format!("{}\n", names[2..].join(","));
        let error = CsvRows::new(text.as_bytes(), &[0]).err().unwrap().to_string();
        assert!(
            error.starts_with(&format!("the header lacks 1 of the features that the model looks at: `{}`; ", names[1])),
            "{error}"
        );
        assert!(CsvRows::new(text.as_bytes(), &[0, 1]).is_ok());
    }

    #[test]
    fn inputs_without_a_usable_header_are_refused() {
        for text in ["", "1,2,3\n4,5,6\n", "\n\n", "\u{0}\u{1}\u{2}"] {
            assert!(matches!(CsvRows::new(text.as_bytes(), &[]), Err(HeaderError::NoFeature)), "{text:?}");
        }
        let mut twice = expected_names();
        twice.push(twice[1]);
        assert!(matches!(rows(&twice, &[]), Err(HeaderError::Twice(name)) if name == twice[1]));
    }

    #[test]
    fn a_table_of_the_python_client_is_told_apart_from_one_without_a_header() {
        let refused = CsvRows::new("src_ip,flow_duration,tot_fwd_pkts\n".as_bytes(), &[]);
        assert!(matches!(refused, Err(HeaderError::Python)));
    }

    #[test]
    fn an_unclosed_quote_does_not_take_in_the_whole_input() {
        let names = expected_names();
        let head = format!("{}\n{}\n\"", names.join(","), numbered(78).join(","));
        let endless = head.as_bytes().chain(io::repeat(b'x'));
        let read: Vec<_> = CsvRows::new(endless, &[]).unwrap().collect();
        assert_eq!(read.len(), 2);
        assert!(read[0].is_ok());
        let message = read[1].as_ref().unwrap_err().to_string();
        assert!(message.starts_with("line 3: the input cannot be read any further: "), "{message}");
        assert!(CsvRows::new(io::repeat(b'x'), &[]).is_err());
    }
}
