//! `ml-ids model`: what a model is.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Map, Value};

use super::exit::{Exit, is_broken_pipe};
use crate::{
    features::FEATURE_COUNT,
    model::{CONTRACT_VERSION, Model, Source, expected_names},
};

/// Models: what they are.
#[derive(Args, Clone, Debug)]
pub(super) struct ModelArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ModelCommand,
}

/// What to do with a model.
#[derive(Subcommand, Clone, Debug)]
pub(super) enum ModelCommand {
    /// Show a model's contract, size and classes, or why it is refused.
    Inspect(InspectArgs),
}

/// Arguments of `ml-ids model inspect`.
#[derive(Args, Clone, Debug)]
pub(super) struct InspectArgs {
    /// `embedded` or the path of an .onnx file.
    pub source: Source,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
///
/// If the output cannot be written. A refused model is no error: it is reported on standard error and shows in the
/// exit code.
pub(super) fn run(args: &ModelArgs) -> anyhow::Result<Exit> {
    let ended = match &args.command {
        ModelCommand::Inspect(args) => inspect(args, io::stdout().lock(), io::stderr()),
    };
    match ended {
        Err(error) if is_broken_pipe(&error) => Ok(Exit::Done),
        ended => ended,
    }
}

/// Prints what the model is to `output`, or why it is refused to `report`.
///
/// # Errors
///
/// If neither can be written.
pub(super) fn inspect(args: &InspectArgs, mut output: impl Write, mut report: impl Write) -> anyhow::Result<Exit> {
    let model = match Model::load(&args.source) {
        Ok(model) => model,
        Err(error) => {
            writeln!(report, "model `{}` is refused: {error}", args.source)?;
            return Ok(Exit::BadInput);
        }
    };
    let inspection = Inspection::of(&model);
    if args.json {
        serde_json::to_writer_pretty(&mut output, &inspection)?;
        writeln!(output)?;
    } else {
        inspection.write(&mut output)?;
    }
    output.flush()?;
    Ok(Exit::Done)
}

/// All there is to say about a model, in the order in which it is said.
#[derive(Serialize)]
struct Inspection<'a> {
    name: &'a str,
    version: &'a str,
    source: String,
    contract: &'static str,
    profile: &'static str,
    bytes: usize,
    sha256: &'a str,
    trees: usize,
    nodes: usize,
    depth: usize,
    explains: bool,
    features: usize,
    unused_features: Vec<&'static str>,
    non_finite: Replacements,
    classes: Vec<Class<'a>>,
    date: &'a str,
    training_data: &'a str,
    citation: &'a str,
    inputs_sha256: &'a Map<String, Value>,
    metrics: &'a Value,
}

#[derive(Serialize)]
struct Replacements {
    nan: f32,
    pos_inf: f32,
    neg_inf: f32,
}

#[derive(Serialize)]
struct Class<'a> {
    name: &'a str,
    /// None for BENIGN, which is never an alert.
    threshold: Option<f32>,
}

impl<'a> Inspection<'a> {
    fn of(model: &'a Model) -> Self {
        let contract = model.contract();
        let names = expected_names();
        let thresholds = contract.thresholds.iter().map(|threshold| threshold.is_finite().then_some(*threshold));
        let classes = contract.classes.iter().zip(thresholds);
        let policy = contract.non_finite;
        Self {
            name: model.name(),
            version: model.version(),
            source: model.source().to_string(),
            contract: CONTRACT_VERSION,
            profile: contract.profile.name(),
            bytes: model.bytes(),
            sha256: model.sha256(),
            trees: model.trees(),
            nodes: model.nodes(),
            depth: model.depth(),
            explains: model.can_explain(),
            features: FEATURE_COUNT,
            unused_features: contract.unused_features.iter().map(|&feature| names[feature]).collect(),
            non_finite: Replacements { nan: policy.nan, pos_inf: policy.pos_inf, neg_inf: policy.neg_inf },
            classes: classes.map(|(name, threshold)| Class { name, threshold }).collect(),
            date: &contract.date,
            training_data: &contract.training_data,
            citation: &contract.citation,
            inputs_sha256: &contract.inputs_sha256,
            metrics: &contract.metrics,
        }
    }

    fn write(&self, output: &mut impl Write) -> io::Result<()> {
        let Self { name, version, source, contract, profile, bytes, sha256, trees, nodes, depth, .. } = self;
        let Replacements { nan, pos_inf, neg_inf } = &self.non_finite;
        writeln!(output, "model            {name} {version}")?;
        writeln!(output, "source           {source}")?;
        writeln!(output, "contract         {contract}")?;
        writeln!(output, "profile          {profile}")?;
        writeln!(output, "size             {bytes} bytes")?;
        writeln!(output, "sha256           {sha256}")?;
        writeln!(output, "forest           {trees} trees, {nodes} nodes, depth {depth}")?;
        writeln!(
            output,
            "explanations     {}",
            if self.explains { "yes" } else { "no, the file has no sample counts" }
        )?;
        writeln!(output, "features         {}", self.features)?;
        writeln!(output, "unused features  {}", or_none(&self.unused_features.join(", ")))?;
        writeln!(output, "not finite       NaN becomes {nan}, Infinity {pos_inf}, -Infinity {neg_inf}")?;
        writeln!(output, "date             {}", or_none(self.date))?;
        writeln!(output, "training data    {}", or_none(self.training_data))?;
        writeln!(output, "citation         {}", or_none(self.citation))?;
        writeln!(output, "inputs           {}", Value::Object(self.inputs_sha256.clone()))?;
        writeln!(output, "metrics          {}", self.metrics)?;
        writeln!(output, "classes")?;
        for (index, Class { name, threshold }) in self.classes.iter().enumerate() {
            match threshold {
                Some(threshold) => writeln!(output, "  {index:>3}  {name}, alert from {threshold}")?,
                None => writeln!(output, "  {index:>3}  {name}, never an alert")?,
            }
        }
        Ok(())
    }
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(source: &str, json: bool) -> (Exit, String, String) {
        let (mut output, mut report) = (Vec::new(), Vec::new());
        let args = InspectArgs { source: source.parse().unwrap(), json };
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
