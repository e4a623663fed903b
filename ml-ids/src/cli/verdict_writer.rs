//! Verdicts on rows of features, as JSON lines, CSV or Parquet.

use std::{
    io::{self, Write},
    mem,
};

use serde::{Serializer as _, ser::SerializeMap as _};

use crate::{
    model::Score,
    offline::{
        columns::{Cell, Columns, Kind, Spec},
        row_groups::RowGroups,
        table::Format,
    },
    sink::eve::shortest,
};

/// Columns that are numbers, but for CSV.
const NUMERIC: [&str; 3] = ["Src Port", "Dst Port", "Protocol"];
/// Columns after those that say which flow a row is.
const OWN: [Spec; 5] = [
    Spec::required("label", Kind::Text),
    Spec::required("class", Kind::Whole),
    Spec::required("probability", Kind::Real),
    Spec::required("alert", Kind::Flag),
    Spec::required("out_of_distribution", Kind::Flag),
];

/// Writes verdicts in one of the formats.
pub(super) struct VerdictWriter<W: Write + Send> {
    output: Output<W>,
    id_columns: Vec<&'static str>,
    classes: Vec<String>,
}

enum Output<W: Write + Send> {
    Jsonl(W),
    Csv(Box<csv::Writer<W>>),
    /// The file, and rows that are not in it yet.
    Parquet(Box<RowGroups<W>>, Columns, Vec<Spec>),
}

impl<W: Write + Send> VerdictWriter<W> {
    /// Starts what is written.
    ///
    /// # Errors
    /// If `output` cannot be written.
    pub(super) fn new(
        output: W,
        format: Format,
        id_columns: Vec<&'static str>,
        classes: Vec<String>,
    ) -> anyhow::Result<Self> {
        let output = match format {
            Format::Jsonl => Output::Jsonl(output),
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(output);
                let own = OWN.iter().map(|spec| spec.name);
                writer.write_record(id_columns.iter().copied().chain(own)).map_err(io::Error::from)?;
                Output::Csv(Box::new(writer))
            }
            Format::Parquet => {
                // What stands there is the input's, and need not be a number.
                let kind = |name| if NUMERIC.contains(&name) { Kind::Whole } else { Kind::Text };
                let ids = id_columns.iter().map(|name| Spec::optional(name, kind(*name)));
                let specs: Vec<_> = ids.chain(OWN).collect();
                Output::Parquet(Box::new(RowGroups::new(output, &specs)?), Columns::new(&specs), specs)
            }
        };
        Ok(Self { output, id_columns, classes })
    }

    /// Writes a row's verdict.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn write(&mut self, ids: &[String], score: &Score, far: bool) -> anyhow::Result<()> {
        let Self { output, id_columns, classes } = self;
        let label = classes.get(score.class).map_or("", String::as_str);
        match output {
            Output::Jsonl(output) => {
                write_json(&mut *output, id_columns, ids, label, (score, far)).map_err(io::Error::from)?;
                output.write_all(b"\n")?;
            }
            Output::Csv(writer) => {
                let Score { class, probability, alert, .. } = score;
                let own =
                    [label.to_owned(), class.to_string(), probability.to_string(), alert.to_string(), far.to_string()];
                writer.write_record(ids.iter().chain(&own)).map_err(io::Error::from)?;
            }
            Output::Parquet(_, rows, _) => {
                let Score { class, probability, alert, .. } = score;
                let ids = id_columns.iter().zip(ids).map(|(name, value)| match NUMERIC.contains(name) {
                    true => value.parse().ok().map(Cell::Whole),
                    false => Some(Cell::Text(value)),
                });
                let own = [
                    Cell::Text(label),
                    Cell::Whole(*class as i64),
                    Cell::Real(shortest(*probability)),
                    Cell::Flag(*alert),
                    Cell::Flag(far),
                ];
                rows.row(ids.chain(own.map(Some)));
            }
        }
        Ok(())
    }

    /// Hands over what has been gathered.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        match &mut self.output {
            Output::Jsonl(output) => output.flush()?,
            Output::Csv(writer) => writer.flush()?,
            Output::Parquet(file, rows, specs) => file.write(mem::replace(rows, Columns::new(specs)))?,
        }
        Ok(())
    }

    /// Writes what is left, and returns what is written to.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn finish(mut self) -> anyhow::Result<W> {
        self.flush()?;
        match self.output {
            Output::Jsonl(output) => Ok(output),
            Output::Csv(writer) => Ok(writer.into_inner().map_err(|error| error.into_error())?),
            Output::Parquet(file, ..) => Ok(file.finish()?),
        }
    }
}

fn write_json(
    output: impl Write,
    id_columns: &[&str],
    ids: &[String],
    label: &str,
    (score, far): (&Score, bool),
) -> Result<(), serde_json::Error> {
    let mut serializer = serde_json::Serializer::new(output);
    let mut object = serializer.serialize_map(None)?;
    for (name, value) in id_columns.iter().zip(ids) {
        match value.parse::<u32>() {
            Ok(number) if NUMERIC.contains(name) => object.serialize_entry(name, &number)?,
            _ => object.serialize_entry(name, value)?,
        }
    }
    object.serialize_entry("label", label)?;
    object.serialize_entry("class", &score.class)?;
    // As float32, so that 0.1 is not written as 0.10000000149011612.
    object.serialize_entry("probability", &score.probability)?;
    object.serialize_entry("alert", &score.alert)?;
    object.serialize_entry("out_of_distribution", &far)?;
    object.end()
}
