//! `ml-ids model`: what a model is, whether it fits, and how to get it.

mod inspection;

use std::{
    borrow::Cow,
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use ml_ids_common::Profile;

use self::inspection::{Inspection, Speed};
use super::{
    exit::{Exit, is_broken_pipe},
    extract::profile_parser,
    progress::{Progress, Quiet},
    source::AccessArgs,
};
use crate::model::{Fetched, Live, Model, ModelError, Origin, Source, described, replace_file};

const EXAMPLES: &str = "\
Examples:
  ml-ids model inspect embedded
  ml-ids model inspect forest.onnx
  ml-ids model check forest.onnx --profile cns2022 && echo fits
  ml-ids model fetch mlflow:ids/3 -o ids.onnx --mlflow-tracking-uri https://mlflow.example.org";

const INSPECT_EXAMPLES: &str = "\
Examples:
  ml-ids model inspect embedded
  ml-ids model inspect --json forest.onnx
  ml-ids model inspect mlflow:ids@production --mlflow-tracking-uri https://mlflow.example.org";

const CHECK_EXAMPLES: &str = "\
Examples:
  ml-ids model check forest.onnx
  ml-ids model check embedded --profile cns2022 && echo fits
  ml-ids model check s3://models/ids.onnx --s3-endpoint https://minio.example.org:9000";

const FETCH_EXAMPLES: &str = "\
Examples:
  ml-ids model fetch embedded -o ids.onnx
  ml-ids model fetch mlflow:ids/3 -o ids.onnx --mlflow-tracking-uri https://mlflow.example.org";

const SOURCE_HELP: &str = "embedded, a path to an .onnx file, mlflow:NAME@ALIAS, mlflow:NAME/VERSION, mlflow:NAME, \
                           s3://BUCKET/KEY or https://…";

/// Models: what they are, whether they fit, and how to get them
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct ModelArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ModelCommand,
}

/// What to do with a model.
#[derive(Subcommand, Clone, Debug)]
pub(super) enum ModelCommand {
    /// Show a model's contract, size and classes, or why it is refused
    Inspect(InspectArgs),
    /// Say whether a model fits: ends with 0 if it does, with 3 and the reason if not
    Check(CheckArgs),
    /// Fetch a model, check it, and write it to a file
    Fetch(FetchArgs),
}

/// Arguments of `ml-ids model inspect`.
#[derive(Args, Clone, Debug)]
#[command(after_help = INSPECT_EXAMPLES)]
pub(super) struct InspectArgs {
    #[arg(help = SOURCE_HELP)]
    pub source: Source,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub access: AccessArgs,
}

/// Arguments of `ml-ids model check`.
#[derive(Args, Clone, Debug)]
#[command(after_help = CHECK_EXAMPLES)]
pub(super) struct CheckArgs {
    #[arg(help = SOURCE_HELP)]
    pub source: Source,
    /// Profile of the features that it must be for [default: any]
    #[arg(long, value_parser = profile_parser())]
    pub profile: Option<Profile>,
    #[command(flatten)]
    pub access: AccessArgs,
}

/// Arguments of `ml-ids model fetch`.
#[derive(Args, Clone, Debug)]
#[command(after_help = FETCH_EXAMPLES)]
pub(super) struct FetchArgs {
    #[arg(help = SOURCE_HELP)]
    pub source: Source,
    /// Where the model goes; what is there is replaced when the model has passed its checks
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    #[command(flatten)]
    pub quiet: Quiet,
    #[command(flatten)]
    pub access: AccessArgs,
}

/// Runs the command.
///
/// # Errors
///
/// If the output cannot be written. A refused model is no error: it is reported on standard error and shows in the
/// exit code.
pub(super) fn run(args: &ModelArgs) -> anyhow::Result<Exit> {
    let (output, report) = (io::stdout().lock(), io::stderr());
    let ended = match &args.command {
        ModelCommand::Inspect(args) => inspect(args, output, report),
        ModelCommand::Check(args) => check(args, output, report),
        ModelCommand::Fetch(args) => fetch(args, output, report),
    };
    match ended {
        Err(error) if is_broken_pipe(&error) => Ok(Exit::Done),
        ended => ended,
    }
}

/// A model's file and the model.
type Loaded = (Cow<'static, [u8]>, Live);

/// Reads and loads a model from its source; the cache has no say in what a model is.
fn load(source: &Source, access: &AccessArgs, quiet: Quiet) -> anyhow::Result<Result<Loaded, ModelError>> {
    let (fetcher, options) = (access.fetcher()?, access.load_options());
    let download = Progress::of_download(quiet);
    let fetched = fetcher.fetch(source, None, options.max_bytes, &|received, total| download.received(received, total));
    drop(download);
    Ok(match fetched {
        Err(error) => Err(error.into()),
        Ok(Fetched::Unchanged) => Err(ModelError::Engine("the source answers `unchanged` to a first look".to_owned())),
        Ok(Fetched::Bytes { bytes, resolved, .. }) => Model::from_bytes(&bytes, source.clone(), &options)
            .map(|model| (bytes, Live { model: Arc::new(model), origin: Origin { resolved, cached: false } })),
    })
}

fn refuse(source: &Source, reason: impl std::fmt::Display, mut report: impl Write) -> anyhow::Result<Exit> {
    writeln!(report, "model `{source}` is refused: {reason}")?;
    Ok(Exit::BadInput)
}

/// Prints what the model is to `output`, or why it is refused to `report`.
///
/// # Errors
///
/// If neither can be written.
pub(super) fn inspect(args: &InspectArgs, mut output: impl Write, report: impl Write) -> anyhow::Result<Exit> {
    let (_, live) = match load(&args.source, &args.access, Quiet::default())? {
        Ok(loaded) => loaded,
        Err(error) => return refuse(&args.source, error, report),
    };
    let inspection = Inspection::of(&live, Speed::of(&live.model)?);
    if args.json {
        serde_json::to_writer_pretty(&mut output, &inspection)?;
        writeln!(output)?;
    } else {
        inspection.write(&mut output)?;
    }
    output.flush()?;
    Ok(Exit::Done)
}

/// Says whether the model fits.
///
/// # Errors
///
/// If that cannot be written.
fn check(args: &CheckArgs, mut output: impl Write, report: impl Write) -> anyhow::Result<Exit> {
    let live = match load(&args.source, &args.access, Quiet::default())? {
        Ok((_, live)) => live,
        Err(error) => return refuse(&args.source, error, report),
    };
    let found = live.model.contract().profile.name();
    match args.profile.map(Profile::name) {
        Some(wanted) if wanted != found => refuse(
            &args.source,
            format_args!(
                "it is of profile {found}, not {wanted}; name a model of that profile, or leave out --profile"
            ),
            report,
        ),
        _ => {
            writeln!(output, "model `{}` fits: {}, profile {found}", args.source, described(&live))?;
            Ok(Exit::Done)
        }
    }
}

/// Writes the model to a file, once it has passed its checks.
///
/// # Errors
///
/// If the file or what is said of it cannot be written.
fn fetch(args: &FetchArgs, mut output: impl Write, report: impl Write) -> anyhow::Result<Exit> {
    let (bytes, live) = match load(&args.source, &args.access, args.quiet)? {
        Ok(loaded) => loaded,
        Err(error) => return refuse(&args.source, error, report),
    };
    replace_file(&args.output, &bytes, 0o644).with_context(|| format!("cannot write {}", args.output.display()))?;
    // The form of sha256sum, so that it checks the file.
    writeln!(output, "{}  {}", live.model.sha256(), args.output.display())?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn run(source: &str, json: bool) -> (Exit, String, String) {
        let (mut output, mut report) = (Vec::new(), Vec::new());
        let args = InspectArgs { source: source.parse().unwrap(), json, access: AccessArgs::default() };
        let exit = inspect(&args, &mut output, &mut report).unwrap();
        (exit, String::from_utf8(output).unwrap(), String::from_utf8(report).unwrap())
    }

    #[test]
    fn the_embedded_model_is_described_as_text() {
        let (exit, output, report) = run("embedded", false);
        assert_eq!((exit, report.as_str()), (Exit::Done, ""));
        let model = Model::embedded().unwrap();
        for expected in [
            format!("model            {} {}\n", model.name(), model.version()),
            format!("sha256           {}\n", model.sha256()),
            format!("{} trees, {} nodes, depth {}", model.trees(), model.nodes(), model.depth()),
            "    0  BENIGN, never an alert\n".to_owned(),
            format!("    1  {}, alert from {}\n", model.contract().classes[1], model.contract().thresholds[1]),
        ] {
            assert!(output.contains(&expected), "`{expected}` is not in:\n{output}");
        }
    }

    #[test]
    fn the_embedded_model_is_described_as_json() {
        let (exit, output, _) = run("embedded", true);
        let object: Value = serde_json::from_str(&output).unwrap();
        assert_eq!(exit, Exit::Done);
        assert_eq!(object["classes"][0]["name"], "BENIGN");
        assert_eq!(object["classes"][0]["threshold"], Value::Null);
        assert_eq!(object["features"], 78);
        assert_eq!(object["sha256"].as_str().unwrap().len(), 64);
    }

    #[test]
    fn a_refused_model_is_reported_and_ends_with_bad_input() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broken.onnx");
        std::fs::write(&path, "no model").unwrap();
        let path = path.to_str().unwrap();
        let (exit, output, report) = run(path, false);
        assert_eq!((exit, output.as_str()), (Exit::BadInput, ""));
        assert!(report.starts_with(&format!("model `{path}` is refused: ")), "{report}");
    }
}
