//! `ml-ids score`: verdicts on the flows of a capture, or on rows of features.

use std::{
    io::{self, BufWriter, Chain, Cursor, Read, Write},
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use anyhow::Context as _;
use clap::Args;

use super::{
    alerts_args::RuleArgs,
    alerts_print::AlertFormat,
    csv_rows::CsvRows,
    decap::DecapArgs,
    exit::{Exit, is_broken_pipe},
    extract::Jobs,
    output::{Output, name, refuse_same_file},
    progress::{Progress, Quiet, report},
    score_alerts::alerts_of_capture,
    score_capture::{self, Scored, score_capture},
    score_rows::{ScoredRows, score_rows},
    source::ModelArgs,
    summary::Summary,
    tally::{Tally, write_drift},
};
use crate::{
    detect::Judge,
    model::{Keeper, Model, ModelHandle},
    offline::{
        Capture,
        pipeline::{Options, ReadAt},
        source::{self, Unpacked},
        table::Format,
    },
};

/// Bytes gathered before they are written.
const WRITE_SIZE: usize = 256 * 1024;

const EXAMPLES: &str = "\
Examples:
  ml-ids score capture.pcap                    a JSON line for each flow
  ml-ids score capture.pcap -o verdicts.csv    a spreadsheet of them
  ml-ids score flows.csv --model forest.onnx   rows of `ml-ids extract` or CICFlowMeter
  ml-ids score capture.pcap --alerts           the alerts that a sensor would have made
  ml-ids score capture.pcap --alerts=jsonl --alert-severity DoS=3 | head -n 1";

/// Score the flows of a capture, or rows of features: verdicts out
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ScoreArgs {
    /// A capture (pcap, pcapng), or a CSV whose header names the features; plain, gzip or zstd; - is standard input
    #[arg(value_name = "PCAP|CSV|-")]
    pub input: PathBuf,
    /// Where the verdicts go; - is standard output
    #[arg(short, long, value_name = "FILE|-", default_value = "-")]
    pub output: PathBuf,
    #[command(flatten)]
    pub model: ModelArgs,
    /// How verdicts are written [default: by the ending of the output's name, else jsonl]
    #[arg(short, long, value_enum)]
    pub format: Option<Format>,
    /// Of a capture, write the alerts that a sensor would have made of the verdicts
    #[arg(long, value_name = "FORMAT", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "table", help_heading = "Alerts")]
    pub alerts: Option<AlertFormat>,
    #[command(flatten)]
    pub rules: RuleArgs,
    #[command(flatten)]
    pub decap: DecapArgs,
    #[command(flatten)]
    pub jobs: Jobs,
    #[command(flatten)]
    pub quiet: Quiet,
}

impl ScoreArgs {
    fn format(&self) -> Format {
        match self.alerts {
            // Those are always text.
            Some(_) => Format::Jsonl,
            None => self.format.or_else(|| Format::of_name(&self.output)).unwrap_or(Format::Jsonl),
        }
    }

    fn open_output(&self) -> anyhow::Result<BufWriter<Output>> {
        Ok(BufWriter::with_capacity(WRITE_SIZE, Output::create(&self.output, self.format())?))
    }
}

/// Runs the command.
///
/// # Errors
///
/// If the output cannot be written or the model fails on a batch. Bad input is no error: it is reported on standard
/// error and shows in the exit code.
pub(super) fn run(args: &ScoreArgs) -> anyhow::Result<Exit> {
    let mut report = report();
    let download = Progress::of_download(args.quiet);
    let loaded = Keeper::start(args.model.keeper_options()?, &|received, total| download.received(received, total));
    drop(download);
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
    let progress = Progress::of_input(size, "flows", args.quiet);
    let unpacked = source::unpack(progress.wrap_read(&file));
    let packed = unpacked.as_ref().is_ok_and(Unpacked::is_packed);
    let task = Task { name: &name, args, progress: &progress };
    let ended = match unpacked.and_then(Sniffed::new) {
        Ok(input) if input.is_capture() => match Capture::new(input) {
            Ok(capture) => {
                let read_at = progress.read_at(&file, size.filter(|_| !packed));
                let read_at = read_at.as_ref().map(|read_at| read_at as ReadAt<'_>);
                task.score_a_capture(capture, read_at, models, &mut report)
            }
            Err(error) => refuse(&mut report, format_args!("error: {name}: {error}")),
        },
        Ok(_) if args.alerts.is_some() => refuse(
            &mut report,
            format_args!(
                "error: {name} is no capture; --alerts needs addresses and times, so give it a pcap or pcapng"
            ),
        ),
        Ok(input) => task.score_a_csv(input, &models.current().model, &mut report),
        Err(error) => refuse(&mut report, format_args!("error: cannot read {name}: {error}")),
    };
    match ended {
        // The reader of our output, `head` for example, has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(Exit::Done),
        ended => ended.with_context(|| format!("scoring {name}")),
    }
}

/// Gives the file its name, now that all is in it.
fn commit(output: BufWriter<Output>) -> anyhow::Result<()> {
    output.into_inner().map_err(io::IntoInnerError::into_error)?.commit()
}

/// What is to be done, and who hears of it.
struct Task<'a> {
    name: &'a str,
    args: &'a ScoreArgs,
    progress: &'a Progress,
}

impl Task<'_> {
    fn score_a_capture(
        &self,
        capture: Capture<impl Read + Send>,
        read_at: Option<ReadAt<'_>>,
        models: Arc<ModelHandle>,
        report: &mut impl Write,
    ) -> anyhow::Result<Exit> {
        let Self { name, args, progress } = self;
        let (judge, begun) = (Judge::new(models), Instant::now());
        let options = Options { jobs: args.jobs.count(), read_at, batch: score_capture::BATCH };
        let (output, tunnels) = (args.open_output()?, args.decap.tunnels());
        let done = |flows| progress.done(flows);
        let (scored, made) = if let Some(format) = args.alerts {
            let (settings, output) = (args.rules.settings(), (output, format));
            let (scored, made) = alerts_of_capture(capture, &judge, tunnels, &options, settings, output, done)?;
            (scored, Some(made))
        } else {
            let (scored, output) = score_capture(capture, &judge, tunnels, &options, output, args.format(), done)?;
            commit(output)?;
            (scored, None)
        };
        progress.clear();
        let Scored { tally, classes, counts, packets, damage } = scored;
        let Tally { scored: flows, alerts, .. } = tally;
        if !args.quiet.quiet {
            match made {
                Some(made) => {
                    writeln!(
                        report,
                        "{name}: {packets} packets, {flows} flows scored, {made} alerts of {alerts} flows"
                    )?;
                }
                None => writeln!(report, "{name}: {packets} packets, {flows} flows scored, {alerts} alerts")?,
            }
            Summary { tally: &tally, classes: &classes, what: "flows", time: begun.elapsed() }.write(report)?;
        }
        write_drift(report, name, &judge.model(), &tally, &counts)?;
        damage.map_or(Ok(Exit::Done), |error| {
            refuse(report, format_args!("error: {name}: {error}; what came before it is scored"))
        })
    }

    fn score_a_csv(&self, input: impl Read, model: &Model, report: &mut impl Write) -> anyhow::Result<Exit> {
        let Self { name, args, progress } = self;
        let begun = Instant::now();
        let mut rows = match CsvRows::new(input, &model.contract().unused_features) {
            Ok(rows) => rows,
            Err(error) => return refuse(report, format_args!("error: {name}: {error}")),
        };
        let output = args.open_output()?;
        let scored = score_rows(&mut rows, model, output, args.format(), &mut *report, |rows| progress.done(rows))?;
        progress.clear();
        let ScoredRows { tally, classes, counts, output } = scored;
        commit(output)?;
        let Tally { scored, alerts, bad, .. } = tally;
        if !args.quiet.quiet {
            writeln!(report, "{name}: {scored} rows scored, {alerts} alerts, {bad} rows not readable")?;
            Summary { tally: &tally, classes: &classes, what: "rows", time: begun.elapsed() }.write(report)?;
        }
        write_drift(report, name, model, &tally, &counts)?;
        Ok(if bad == 0 { Exit::Done } else { Exit::BadInput })
    }
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
        [0xa1b2_c3d4, 0xa1b2_3c4d, 0xa1b2_cd34, 0x0a0d_0d0a]
            .iter()
            .any(|magic| [number, number.swap_bytes()].contains(magic))
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{features::FEATURE_COUNT, model::expected_names};

    fn header() -> String {
        format!("Flow ID,Src Port,{}\n", expected_names().join(","))
    }

    fn line(id: usize, value: &str) -> String {
        format!("flow {id},{},{}\n", id % 65536, vec![value; FEATURE_COUNT].join(","))
    }

    #[test]
    fn input_that_is_no_csv_of_features_ends_with_bad_input() {
        let folder = tempfile::tempdir().unwrap();
        let [input, output] = ["in.csv", "out.jsonl"].map(|name| folder.path().join(name));
        let args = |input: &Path| ScoreArgs {
            input: input.to_owned(),
            output: output.clone(),
            model: ModelArgs::default(),
            format: None,
            alerts: None,
            rules: RuleArgs::default(),
            decap: DecapArgs::default(),
            jobs: Jobs { jobs: 2 },
            quiet: Quiet::default(),
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
