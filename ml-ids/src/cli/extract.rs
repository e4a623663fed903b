//! `ml-ids extract`: the 78 features of every flow of a capture.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, IsTerminal, Read, Seek, Write},
    num::NonZeroUsize,
    os::{fd::AsFd, unix::fs::FileExt},
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context, bail};
use clap::{
    builder::{PossibleValuesParser, TypedValueParser},
    value_parser,
};
use indicatif::{ProgressBar, ProgressStyle};
use ml_ids_common::{Counters, FlowRecord, Profile, Skip};

use super::{decap::DecapArgs, exit::Exit};
use crate::{
    features,
    offline::{
        Capture, CaptureError, Replay,
        pipeline::{self, Options, ReadAt},
        rows::{Format, RowFormat},
        source::{self, FileId, Source, Unpacked},
    },
};

/// Bytes gathered before they are written.
pub(super) const WRITE_SIZE: usize = 256 * 1024;
/// Most threads: each holds about a megabyte of what it works on.
const MAX_JOBS: i64 = 256;
/// Flows whose rows are made and written together.
const BATCH: usize = 128;
/// Bytes of a row; a longer one only moves its batch.
const USUAL_ROW: usize = 768;

/// Compute the 78 CIC-IDS2017 features of every flow of a capture.
#[derive(clap::Args, Debug)]
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
    /// How rows are written
    #[arg(short, long, value_enum, default_value_t = Format::Csv)]
    format: Format,
    /// Also write flows that are neither TCP nor UDP: SCTP as protocol 132, the others as protocol 0
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    decap: DecapArgs,
    #[command(flatten)]
    jobs: Jobs,
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
    let progress = progress(size);
    let unpacked = source::unpack(progress.wrap_read(&file)).map_err(CaptureError::Read);
    let packed = unpacked.as_ref().is_ok_and(Unpacked::is_packed);
    let capture = match unpacked.and_then(Capture::new) {
        Ok(capture) => capture,
        Err(error) => return Ok(bad_input(&input, &error)),
    };
    let output = name(&args.output, "standard output");
    let out = create(&args.output).with_context(|| format!("cannot create {output}"))?;
    let mut replay = Replay::new(args.profile).with_decap(args.decap.tunnels());
    let mut rows = 0;
    let read_at = read_at(&file, size.filter(|_| !packed), &progress);
    let read_at = read_at.as_ref().map(|read_at| read_at as ReadAt<'_>);
    let damage = match write(capture, read_at, &mut replay, out, args, &mut rows) {
        Ok(damage) => damage,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(Exit::Done),
        Err(error) => return Err(error).with_context(|| format!("cannot write to {output}")),
    };
    progress.finish_and_clear();
    eprintln!("{}", summary(replay.counters(), rows));
    Ok(damage.map_or(Exit::Done, |error| bad_input(&input, &error)))
}

fn write(
    capture: Capture<impl Read + Send>,
    read_at: Option<ReadAt<'_>>,
    replay: &mut Replay,
    mut out: impl Write,
    args: &Args,
    rows: &mut u64,
) -> io::Result<Option<CaptureError>> {
    let format = RowFormat::new(args.format, &[]);
    out.write_all(format.header().as_bytes())?;
    let digest = |records: Vec<FlowRecord>| {
        let (mut bytes, mut rows) = (Vec::with_capacity(BATCH * USUAL_ROW), 0);
        for record in &records {
            if record.is_tcp_or_udp() || args.all {
                rows += 1;
                format.row(&mut bytes, record, &features::compute(record, args.profile), "", &[]);
            }
        }
        (bytes, rows)
    };
    let options = Options { jobs: args.jobs.count(), read_at, batch: BATCH };
    let damage = pipeline::replay(capture, replay, &options, digest, |(bytes, count)| {
        *rows += count;
        out.write_all(&bytes)
    })?;
    out.flush()?;
    Ok(damage)
}

/// Reads the rest of a plain file, from where it stands, at any place of it; `None` if there is no `size`, as that is not
/// a regular file.
pub(super) fn read_at<'a>(
    file: &'a File,
    size: Option<u64>,
    progress: &'a ProgressBar,
) -> Option<impl Fn(&mut [u8], u64) -> io::Result<usize> + Sync + 'a> {
    size?;
    let mut here = file;
    let start = here.stream_position().ok()?;
    Some(move |space: &mut [u8], offset: u64| {
        let count = file.read_at(space, start.saturating_add(offset))?;
        progress.inc(count as u64);
        Ok(count)
    })
}

pub(super) fn name(path: &Path, standard: &str) -> String {
    if path == Path::new("-") { standard.to_owned() } else { path.display().to_string() }
}

fn bad_input(input: &str, error: &dyn std::error::Error) -> Exit {
    eprintln!("error: {input}: {error}");
    Exit::BadInput
}

pub(super) fn create(path: &Path) -> io::Result<Box<dyn Write>> {
    // Standard output itself is line buffered, the file behind it is not.
    Ok(Box::new(if path == Path::new("-") {
        File::from(io::stdout().as_fd().try_clone_to_owned()?)
    } else {
        File::create(path)?
    }))
}

/// Writing a capture over itself would destroy it before it is read.
pub(super) fn refuse_same_file(input: Option<FileId>, output: &Path) -> anyhow::Result<()> {
    let metadata = if output == Path::new("-") {
        io::stdout().as_fd().try_clone_to_owned().and_then(|stdout| File::from(stdout).metadata())
    } else {
        fs::metadata(output)
    };
    let output_id = metadata.ok().and_then(|metadata| FileId::of(&metadata));
    if input.is_some() && input == output_id {
        bail!("input and output are the same file; name another output");
    }
    Ok(())
}

/// A bar for people: only on a terminal, and only when the input's size is known.
pub(super) fn progress(size: Option<u64>) -> ProgressBar {
    match size {
        Some(size) if io::stderr().is_terminal() => {
            let style = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
            ProgressBar::new(size).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        }
        _ => ProgressBar::hidden(),
    }
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
