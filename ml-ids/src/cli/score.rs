//! `ml-ids score`: verdicts on the flows of a capture, or on rows of features.

use std::{
    io::{self, BufWriter, Chain, Cursor, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use clap::Args;
use serde::{Serializer as _, ser::SerializeMap as _};

use super::{
    alerts_args::RuleArgs,
    alerts_print::AlertFormat,
    csv_rows::CsvRows,
    decap::DecapArgs,
    exit::{Exit, is_broken_pipe},
    extract::{Jobs, WRITE_SIZE, create, name, progress, read_at, refuse_same_file},
    rows::{RowError, RowSource},
    score_alerts::alerts_of_capture,
    score_capture::{self, Scored, score_capture},
    source::{ModelArgs, download_bar, show},
    tally::{Tally, write_drift},
};
use crate::{
    detect::{Judge, drift::Counts},
    features::FeatureVector,
    model::{Keeper, Model, ModelHandle, Score},
    offline::{
        Capture,
        pipeline::{Options, ReadAt},
        rows::Format,
        source::{self, Unpacked},
    },
};

/// Rows scored together; beyond this tract gains nothing (docs/models.md).
const BATCH: usize = 256;
/// Bad rows that are reported one by one; of the rest only the number is.
const MAX_REPORTED: u64 = 20;
/// Columns that are numbers in JSON.
const NUMERIC: [&str; 3] = ["Src Port", "Dst Port", "Protocol"];

/// Score the flows of a capture, or rows of features: verdicts out
#[derive(Args, Clone, Debug)]
pub(super) struct ScoreArgs {
    /// A capture (pcap, pcapng), or a CSV whose header names the features; plain, gzip or zstd; - is standard input
    #[arg(value_name = "PCAP|CSV|-")]
    pub input: PathBuf,
    /// Where the verdicts go; - is standard output
    #[arg(short, long, value_name = "FILE|-", default_value = "-")]
    pub output: PathBuf,
    #[command(flatten)]
    pub model: ModelArgs,
    /// How verdicts are written
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    pub format: Format,
    /// Of a capture, write the alerts that a sensor would have made of the verdicts
    #[arg(long, value_name = "FORMAT", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "table", help_heading = "Alerts")]
    pub alerts: Option<AlertFormat>,
    #[command(flatten)]
    pub rules: RuleArgs,
    #[command(flatten)]
    pub decap: DecapArgs,
    #[command(flatten)]
    pub jobs: Jobs,
}

/// Runs the command.
///
/// # Errors
///
/// If the output cannot be written or the model fails on a batch. Bad input is no error: it is reported on standard
/// error and shows in the exit code.
pub(super) fn run(args: &ScoreArgs) -> anyhow::Result<Exit> {
    let mut report = io::stderr();
    let bar = download_bar();
    let loaded = Keeper::start(args.model.keeper_options()?, &|received, total| show(&bar, received, total));
    bar.finish_and_clear();
    let models = match loaded {
        Ok(keeper) => keeper.handle(),
        Err(error) => {
            return refuse(&mut report, format_args!("error: model {} is refused: {error}", args.model.source()));
        }
    };
    let name = name(&args.input, "standard input");
    let source::Source { file, size, identity } = match source::open(&args.input) {
        Ok(source) => source,
        Err(error) => return refuse(&mut report, format_args!("error: cannot read {name}: {error}")),
    };
    refuse_same_file(identity, &args.output)?;
    let progress = progress(size);
    let unpacked = source::unpack(progress.wrap_read(&file));
    let packed = unpacked.as_ref().is_ok_and(Unpacked::is_packed);
    let ended = match unpacked.and_then(Sniffed::new) {
        Ok(input) if input.is_capture() => match Capture::new(input) {
            Ok(capture) => {
                let read_at = read_at(&file, size.filter(|_| !packed), &progress);
                let read_at = read_at.as_ref().map(|read_at| read_at as ReadAt<'_>);
                score_a_capture(capture, read_at, models, &name, args, &mut report)
            }
            Err(error) => refuse(&mut report, format_args!("error: {name}: {error}")),
        },
        Ok(_) if args.alerts.is_some() => {
            refuse(&mut report, format_args!("error: {name} is no capture; --alerts needs addresses and times"))
        }
        Ok(input) => score_a_csv(input, &models.current().model, &name, args, &mut report),
        Err(error) => refuse(&mut report, format_args!("error: cannot read {name}: {error}")),
    };
    progress.finish_and_clear();
    match ended {
        // The reader of our output, `head` for example, has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(Exit::Done),
        ended => ended.with_context(|| format!("scoring {name}")),
    }
}

fn open_output(path: &Path) -> anyhow::Result<impl Write> {
    let output =
        create(path).with_context(|| format!("cannot create {}", super::extract::name(path, "standard output")))?;
    Ok(BufWriter::with_capacity(WRITE_SIZE, output))
}

fn score_a_capture(
    capture: Capture<impl Read + Send>,
    read_at: Option<ReadAt<'_>>,
    models: Arc<ModelHandle>,
    name: &str,
    args: &ScoreArgs,
    report: &mut impl Write,
) -> anyhow::Result<Exit> {
    let judge = Judge::new(models);
    let options = Options { jobs: args.jobs.count(), read_at, batch: score_capture::BATCH };
    let (output, tunnels) = (open_output(&args.output)?, args.decap.tunnels());
    let Scored { tally, counts, damage, .. } = if let Some(format) = args.alerts {
        let settings = args.rules.settings();
        let (scored, made) = alerts_of_capture(capture, &judge, tunnels, &options, settings, (output, format))?;
        let Tally { scored: flows, alerts, .. } = scored.tally;
        writeln!(report, "{name}: {} packets, {flows} flows scored, {made} alerts of {alerts} flows", scored.packets)?;
        scored
    } else {
        let scored = score_capture(capture, &judge, tunnels, &options, output, args.format)?;
        let Tally { scored: flows, alerts, .. } = scored.tally;
        writeln!(report, "{name}: {} packets, {flows} flows scored, {alerts} alerts", scored.packets)?;
        scored
    };
    write_drift(report, name, &judge.model(), &tally, &counts)?;
    damage.map_or(Ok(Exit::Done), |error| refuse(report, format_args!("error: {name}: {error}")))
}

fn score_a_csv(
    input: impl Read,
    model: &Model,
    name: &str,
    args: &ScoreArgs,
    report: &mut impl Write,
) -> anyhow::Result<Exit> {
    let mut rows = match CsvRows::new(input, &model.contract().unused_features) {
        Ok(rows) => rows,
        Err(error) => return refuse(report, format_args!("error: {name}: {error}")),
    };
    let (tally, counts) = score_rows(&mut rows, model, open_output(&args.output)?, args.format, &mut *report)?;
    let Tally { scored, alerts, bad, .. } = tally;
    writeln!(report, "{name}: {scored} rows scored, {alerts} alerts, {bad} rows not readable")?;
    write_drift(report, name, model, &tally, &counts)?;
    Ok(if bad == 0 { Exit::Done } else { Exit::BadInput })
}

/// An input whose first bytes have been looked at.
struct Sniffed<R> {
    start: [u8; 4],
    whole: Chain<Cursor<Vec<u8>>, R>,
}

impl<R: Read> Sniffed<R> {
    fn new(mut input: R) -> io::Result<Self> {
        let mut bytes = Vec::with_capacity(4);
        input.by_ref().take(4).read_to_end(&mut bytes)?;
        let mut start = [0; 4];
        for (known, byte) in start.iter_mut().zip(&bytes) {
            *known = *byte;
        }
        Ok(Self { start, whole: Cursor::new(bytes).chain(input) })
    }

    /// pcap in either byte order, with microseconds or nanoseconds, or pcapng.
    fn is_capture(&self) -> bool {
        let number = u32::from_be_bytes(self.start);
        [0xa1b2_c3d4, 0xa1b2_3c4d, 0x0a0d_0d0a].iter().any(|magic| [number, number.swap_bytes()].contains(magic))
    }
}

impl<R: Read> Read for Sniffed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.whole.read(buffer)
    }
}

fn refuse(report: &mut impl Write, message: std::fmt::Arguments<'_>) -> anyhow::Result<Exit> {
    writeln!(report, "{message}")?;
    Ok(Exit::BadInput)
}

/// Scores all rows of `rows` in batches, writes a verdict for each, and reports those that cannot be read.
///
/// # Errors
///
/// If `output` or `report` cannot be written or the model fails on a batch.
pub(super) fn score_rows(
    rows: &mut dyn RowSource,
    model: &Model,
    output: impl Write,
    format: Format,
    mut report: impl Write,
) -> anyhow::Result<(Tally, Counts)> {
    let mut writer = VerdictWriter::new(output, format, rows.id_columns().to_vec(), model.contract().classes.clone())?;
    let (mut tally, mut counts) = (Tally::default(), Counts::default());
    let (mut ids, mut features) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
    loop {
        let row = rows.next();
        let at_end = row.is_none();
        match row {
            Some(Ok(row)) => {
                ids.push(row.ids);
                features.push(row.features);
            }
            Some(Err(error)) => {
                tally.bad += 1;
                if tally.bad <= MAX_REPORTED || matches!(error, RowError::Unreadable { .. }) {
                    writeln!(report, "{error}")?;
                }
            }
            None => {}
        }
        if features.len() == BATCH || at_end {
            score_batch(model, &ids, &features, &mut writer, (&mut tally, &mut counts))?;
            ids.clear();
            features.clear();
        }
        if at_end {
            break;
        }
    }
    if tally.bad > MAX_REPORTED {
        writeln!(report, "{} more rows are not readable", tally.bad - MAX_REPORTED)?;
    }
    Ok((tally, counts))
}

fn score_batch(
    model: &Model,
    ids: &[Vec<String>],
    features: &[FeatureVector],
    writer: &mut VerdictWriter<impl Write>,
    (tally, counts): (&mut Tally, &mut Counts),
) -> anyhow::Result<()> {
    for ((ids, row), score) in ids.iter().zip(features).zip(model.score(features)?) {
        let far = model.out_of_distribution(row);
        tally.count(score.alert, far);
        counts.add(model.contract(), row, &score, score.alert, far);
        writer.write(ids, &score, far)?;
    }
    writer.flush()
}

/// Writes verdicts in one of the formats.
struct VerdictWriter<W: Write> {
    output: Output<W>,
    id_columns: Vec<&'static str>,
    classes: Vec<String>,
}

enum Output<W: Write> {
    Jsonl(W),
    Csv(Box<csv::Writer<W>>),
}

impl<W: Write> VerdictWriter<W> {
    fn new(output: W, format: Format, id_columns: Vec<&'static str>, classes: Vec<String>) -> anyhow::Result<Self> {
        let output = match format {
            Format::Jsonl => Output::Jsonl(output),
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(output);
                let own = ["label", "class", "probability", "alert", "out_of_distribution"];
                writer.write_record(id_columns.iter().chain(&own)).map_err(io::Error::from)?;
                Output::Csv(Box::new(writer))
            }
        };
        Ok(Self { output, id_columns, classes })
    }

    fn write(&mut self, ids: &[String], score: &Score, far: bool) -> anyhow::Result<()> {
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
        }
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        match &mut self.output {
            Output::Jsonl(output) => output.flush()?,
            Output::Csv(writer) => writer.flush()?,
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{features::FEATURE_COUNT, model::expected_names};

    fn score(text: &str, format: Format) -> (Tally, String, String) {
        let model = Model::embedded().unwrap();
        let mut rows = CsvRows::new(text.as_bytes(), &[]).unwrap();
        let (mut output, mut report) = (Vec::new(), Vec::new());
        let (tally, _) = score_rows(&mut rows, &model, &mut output, format, &mut report).unwrap();
        (tally, String::from_utf8(output).unwrap(), String::from_utf8(report).unwrap())
    }

    fn header() -> String {
        format!("Flow ID,Src Port,{}\n", expected_names().join(","))
    }

    fn line(id: usize, value: &str) -> String {
        format!("flow {id},{},{}\n", id % 65536, vec![value; FEATURE_COUNT].join(","))
    }

    #[test]
    fn every_row_gets_its_verdict_in_order_across_batches() {
        let count = 2 * BATCH + 7;
        let text = header() + &(0..count).map(|id| line(id, &(id % 50).to_string())).collect::<String>();
        let (tally, output, report) = score(&text, Format::Jsonl);
        assert_eq!((tally.scored, tally.bad, report.as_str()), (count as u64, 0, ""));
        let model = Model::embedded().unwrap();
        for (id, line) in output.lines().enumerate() {
            let object: serde_json::Value = serde_json::from_str(line).unwrap();
            let own = model.score(&[[(id % 50) as f64; FEATURE_COUNT]]).unwrap().remove(0);
            assert_eq!(object["Flow ID"], format!("flow {id}"));
            assert_eq!(object["Src Port"], id);
            assert_eq!(object["class"], own.class);
            assert_eq!(object["label"], model.contract().classes[own.class].as_str());
            assert_eq!(object["alert"], own.alert);
        }
    }

    #[test]
    fn csv_output_has_a_header_and_quotes_what_needs_it() {
        let text = header() + &line(1, "0").replace("flow 1", "\"flow, 1\"");
        let (_, output, _) = score(&text, Format::Csv);
        let mut lines = output.lines();
        assert_eq!(lines.next(), Some("Flow ID,Src Port,label,class,probability,alert,out_of_distribution"));
        assert!(lines.next().unwrap().starts_with("\"flow, 1\",1,"), "{output}");
        assert_eq!(lines.next(), None);
    }

    #[test]
    fn bad_rows_are_counted_and_only_the_first_are_named() {
        let bad: String = (0..50).map(|id| line(id, "x")).collect();
        let (tally, output, report) = score(&(header() + &line(0, "1") + &bad + &line(1, "1")), Format::Jsonl);
        assert_eq!((tally.scored, tally.bad), (2, 50));
        assert_eq!(output.lines().count(), 2);
        assert_eq!(report.lines().count(), 21);
        assert!(report.starts_with("line 3: column `"), "{report}");
        assert!(report.ends_with("30 more rows are not readable\n"), "{report}");
    }

    #[test]
    fn input_that_is_no_csv_of_features_ends_with_bad_input() {
        let folder = tempfile::tempdir().unwrap();
        let [input, output] = ["in.csv", "out.jsonl"].map(|name| folder.path().join(name));
        let args = |input: &Path| ScoreArgs {
            input: input.to_owned(),
            output: output.clone(),
            model: ModelArgs::default(),
            format: Format::Jsonl,
            alerts: None,
            rules: RuleArgs::default(),
            decap: DecapArgs::default(),
            jobs: Jobs { jobs: 2 },
        };
        assert_eq!(run(&args(&input)).unwrap(), Exit::BadInput);
        std::fs::write(&input, "a,b\n1,2\n").unwrap();
        assert_eq!(run(&args(&input)).unwrap(), Exit::BadInput);
        assert!(!output.exists());
        std::fs::write(&input, header() + &line(1, "x") + &line(2, "2")).unwrap();
        assert_eq!(run(&args(&input)).unwrap(), Exit::BadInput);
        assert_eq!(std::fs::read_to_string(&output).unwrap().lines().count(), 1);
        std::fs::write(&input, header() + &line(2, "2")).unwrap();
        assert_eq!(run(&args(&input)).unwrap(), Exit::Done);
    }
}
