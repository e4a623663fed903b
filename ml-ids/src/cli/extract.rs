//! `ml-ids extract`: the 78 features of every flow of a capture.

use std::{
    io::{self, ErrorKind, Read},
    num::NonZeroUsize,
    path::PathBuf,
    thread,
};

use anyhow::Context;
use clap::{
    builder::{PossibleValuesParser, TypedValueParser},
    value_parser,
};
use ml_ids_common::{Counters, FlowRecord, Profile, Skip};

use super::{
    decap::DecapArgs,
    exit::Exit,
    output::{Output, name, refuse_same_file},
    progress::{Progress, Quiet},
};
use crate::{
    features,
    offline::{
        Capture, CaptureError, Replay,
        pipeline::{self, Options, ReadAt},
        source::{self, Source, Unpacked},
        table::{FlowTable, Format, RowWriter},
    },
};

/// Most threads: each holds about a megabyte of what it works on.
const MAX_JOBS: i64 = 256;
/// Flows whose rows are made and written together.
const BATCH: usize = 128;
/// Bytes of a row; a longer one only moves its batch.
const USUAL_ROW: usize = 768;

const EXAMPLES: &str = "\
Examples:
  ml-ids extract capture.pcap -o flows.csv
  ml-ids extract capture.pcap -o flows.parquet
  ml-ids extract capture.pcap --format jsonl | head -n 1
  cat capture.pcap | ml-ids extract - > flows.csv
  ml-ids extract tunnelled.pcap --decap vxlan,gre --profile cic2017 -o flows.csv";

/// Compute the 78 CIC-IDS2017 features of every flow of a capture.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Capture to read, pcap or pcapng, plain, gzip or zstd; `-` is standard input
    #[arg(value_name = "PCAP|-")]
    capture: PathBuf,
    /// Where rows go; `-` is standard output
    #[arg(short, long, value_name = "FILE|-", default_value = "-")]
    output: PathBuf,
    /// Definition of the features: that of the corrected tool, of the improved or of the original CIC-IDS2017 CSVs
    #[arg(short, long, default_value = Profile::Fixed.name(), value_parser = profile_parser())]
    profile: Profile,
    /// How rows are written [default: by the ending of the output's name, else csv]
    #[arg(short, long, value_enum)]
    format: Option<Format>,
    /// Also write flows that are neither TCP nor UDP: SCTP as protocol 132, the others as protocol 0
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    decap: DecapArgs,
    #[command(flatten)]
    jobs: Jobs,
    #[command(flatten)]
    quiet: Quiet,
}

/// How many threads work on a capture.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(super) struct Jobs {
    /// Threads that read and work on a capture, 0 for one a core; the output is the same for any number
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u16).range(0..=MAX_JOBS))]
    pub(super) jobs: u16,
}

impl Jobs {
    pub(super) fn count(self) -> NonZeroUsize {
        let cores = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        NonZeroUsize::new(self.jobs.into()).unwrap_or_else(cores)
    }
}

/// Parses a profile's name.
pub(super) fn profile_parser() -> impl TypedValueParser<Value = Profile> {
    PossibleValuesParser::new(Profile::ALL.map(Profile::name))
        .map(|name| Profile::ALL.into_iter().find(|profile| profile.name() == name).unwrap_or(Profile::Fixed))
}

/// Runs the command. Exit code 3 stands for input that could not be read to its end.
///
/// # Errors
/// What went wrong at run time (exit code 1), such as an output that cannot be written.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let input = name(&args.capture, "standard input");
    let Source { file, size, identity } = match source::open(&args.capture) {
        Ok(source) => source,
        Err(error) => return Ok(bad_input(&input, &error)),
    };
    refuse_same_file(identity, &args.output)?;
    let progress = Progress::of_input(size, "flows", args.quiet);
    let unpacked = source::unpack(progress.wrap_read(&file)).map_err(CaptureError::Read);
    let packed = unpacked.as_ref().is_ok_and(Unpacked::is_packed);
    let capture = match unpacked.and_then(Capture::new) {
        Ok(capture) => capture,
        Err(error) => return Ok(bad_input(&input, &error)),
    };
    let format = args.format.or_else(|| Format::of_name(&args.output)).unwrap_or(Format::Csv);
    let out = Output::create(&args.output, format)?;
    let output = out.name().to_owned();
    let mut replay = Replay::new(args.profile).with_decap(args.decap.tunnels());
    let mut rows = 0;
    let read_at = progress.read_at(&file, size.filter(|_| !packed));
    let read_at = read_at.as_ref().map(|read_at| read_at as ReadAt<'_>);
    let table = FlowTable::new(format, &[]);
    let written = table.writer(out).and_then(|writer| {
        write(capture, read_at, &mut replay, (&table, writer), args, |more| {
            rows += more;
            progress.done(more);
        })
    });
    let (out, damage) = match written {
        Ok(written) => written,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(Exit::Done),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot write to {output}; is there space, and may you?"));
        }
    };
    out.commit()?;
    progress.clear();
    if !args.quiet.quiet {
        eprintln!("{}", summary(replay.counters(), rows));
    }
    let foreign = replay.counters().ingress.skipped[Skip::LinkType as usize];
    if foreign > 0 {
        eprintln!(
            "warning: {input}: {foreign} packets are of a link type that is not known to carry IP; capture on another interface, or with `tcpdump -y EN10MB`"
        );
    }
    Ok(damage.map_or(Exit::Done, |error| bad_input(&input, &error)))
}

fn write(
    capture: Capture<impl Read + Send>,
    read_at: Option<ReadAt<'_>>,
    replay: &mut Replay,
    (table, mut writer): (&FlowTable, RowWriter<Output>),
    args: &Args,
    mut made: impl FnMut(u64),
) -> io::Result<(Output, Option<CaptureError>)> {
    let digest = |records: Vec<FlowRecord>| {
        let (mut rows, mut count) = (table.rows(BATCH * USUAL_ROW), 0);
        for record in &records {
            if record.is_tcp_or_udp() || args.all {
                count += 1;
                table.row(&mut rows, record, &features::compute(record, args.profile), "", &[]);
            }
        }
        (rows, count)
    };
    let options = Options { jobs: args.jobs.count(), read_at, batch: BATCH };
    let damage = pipeline::replay(capture, replay, &options, digest, |(rows, count)| {
        made(count);
        writer.write(rows)
    })?;
    Ok((writer.finish()?, damage))
}

fn bad_input(input: &str, error: &dyn std::error::Error) -> Exit {
    eprintln!("error: {input}: {error}");
    Exit::BadInput
}

fn summary(counters: &Counters, rows: u64) -> String {
    let Counters { ingress, flows, .. } = counters;
    let mut text = format!("{} packets, {} flows, {rows} rows", ingress.seen, flows.opened);
    if flows.discarded > 0 {
        text += &format!(", {} flows too short for the profile", flows.discarded);
    }
    let reasons: Vec<String> = Skip::ALL
        .iter()
        .zip(ingress.skipped)
        .filter(|(_, count)| *count > 0)
        .map(|(skip, count)| format!("{} {count}", skip.name()))
        .collect();
    text += &format!(", {} packets skipped", ingress.skipped_total());
    if !reasons.is_empty() {
        text += &format!(" ({})", reasons.join(", "));
    }
    text
}
