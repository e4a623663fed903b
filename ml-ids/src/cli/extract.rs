//! `ml-ids extract`: the 78 features of every flow of a capture.

use std::{
    fs::{self, File},
    io::{self, BufWriter, ErrorKind, IsTerminal, Read, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use indicatif::{ProgressBar, ProgressStyle};
use ml_ids_common::{Counters, Profile, Skip};

use super::{decap::DecapArgs, exit::Exit};
use crate::{
    features,
    offline::{
        self, Capture, CaptureError, Replay,
        rows::{Format, RowWriter},
        source::{self, FileId, Source},
    },
};

/// Bytes gathered before they are written.
pub(super) const WRITE_SIZE: usize = 256 * 1024;

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
}

/// Parses a profile's name.
fn profile_parser() -> impl TypedValueParser<Value = Profile> {
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
    let opened = source::unpack(progress.wrap_read(file)).map_err(CaptureError::Read).and_then(Capture::new);
    let mut capture = match opened {
        Ok(capture) => capture,
        Err(error) => return Ok(bad_input(&input, &error)),
    };
    let output = name(&args.output, "standard output");
    let out = create(&args.output).with_context(|| format!("cannot create {output}"))?;
    let mut replay = Replay::new(args.profile).with_decap(args.decap.tunnels());
    let mut rows = 0;
    let damage = match write(&mut capture, &mut replay, out, args, &mut rows) {
        Ok(damage) => damage,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(Exit::Done),
        Err(error) => return Err(error).with_context(|| format!("cannot write to {output}")),
    };
    progress.finish_and_clear();
    eprintln!("{}", summary(replay.counters(), rows));
    Ok(damage.map_or(Exit::Done, |error| bad_input(&input, &error)))
}

fn write<R: Read>(
    capture: &mut Capture<R>,
    replay: &mut Replay,
    out: Box<dyn Write>,
    args: &Args,
    rows: &mut u64,
) -> io::Result<Option<CaptureError>> {
    let mut writer = RowWriter::new(BufWriter::with_capacity(WRITE_SIZE, out), args.format, &[])?;
    let damage = offline::replay(capture, replay, |record| {
        if !record.is_tcp_or_udp() && !args.all {
            return Ok(());
        }
        *rows += 1;
        writer.row(&record, &features::compute(&record, args.profile), "", &[])
    })?;
    writer.flush()?;
    Ok(damage)
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
