//! All there is to say about a model, as text and as JSON.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    cli::speed,
    features::FEATURE_COUNT,
    model::{CONTRACT_VERSION, Live, Model, ScoreError, expected_names},
};

/// Times that a speed is measured; the best counts.
const SPEED_ROUNDS: usize = 5;

/// All there is to say about a model, in the order in which it is said.
#[derive(Serialize)]
pub(super) struct Inspection<'a> {
    name: &'a str,
    version: &'a str,
    source: String,
    resolved: Option<&'a str>,
    contract: &'static str,
    profile: &'static str,
    bytes: usize,
    sha256: &'a str,
    kind: &'static str,
    runtime: String,
    /// Measured at this look, on one thread and made-up flows.
    flows_per_second: Speed,
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

/// How many flows a second of CPU time a model scores.
#[derive(Serialize)]
pub(super) struct Speed {
    one_by_one: f64,
    in_batches_of_256: f64,
}

impl Speed {
    /// A tenth of a second's look.
    pub(super) fn of(model: &Model) -> Result<Self, ScoreError> {
        let rows = speed::rows(2048);
        let rate = |batch, count| speed::rate(model, &rows[..count], batch, SPEED_ROUNDS);
        Ok(Self { one_by_one: rate(1, 256)?, in_batches_of_256: rate(256, 2048)? })
    }
}

impl<'a> Inspection<'a> {
    pub(super) fn of(Live { model, origin }: &'a Live, flows_per_second: Speed) -> Self {
        let contract = model.contract();
        let names = expected_names();
        let thresholds = contract.thresholds.iter().map(|threshold| threshold.is_finite().then_some(*threshold));
        let classes = contract.classes.iter().zip(thresholds);
        let policy = contract.non_finite;
        Self {
            name: model.name(),
            version: model.version(),
            source: model.source().to_string(),
            resolved: origin.resolved.as_deref(),
            contract: CONTRACT_VERSION,
            profile: contract.profile.name(),
            bytes: model.bytes(),
            sha256: model.sha256(),
            kind: model.kind().name(),
            runtime: model.runtime(),
            flows_per_second,
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

    pub(super) fn write(&self, output: &mut impl Write) -> io::Result<()> {
        let Self { name, version, source, contract, profile, bytes, sha256, kind, trees, nodes, depth, .. } = self;
        let Speed { one_by_one, in_batches_of_256 } = self.flows_per_second;
        let Replacements { nan, pos_inf, neg_inf } = &self.non_finite;
        writeln!(output, "model            {name} {version}")?;
        writeln!(output, "source           {source}")?;
        if let Some(resolved) = self.resolved {
            writeln!(output, "which is         {resolved}")?;
        }
        writeln!(output, "contract         {contract}")?;
        writeln!(output, "profile          {profile}")?;
        writeln!(output, "size             {bytes} bytes")?;
        writeln!(output, "sha256           {sha256}")?;
        writeln!(output, "kind             {kind}")?;
        writeln!(output, "trees            {trees} trees, {nodes} nodes, depth {depth}")?;
        writeln!(output, "runtime          {}", self.runtime)?;
        writeln!(
            output,
            "speed            {in_batches_of_256:.0} flows/s in batches of 256, {one_by_one:.0} one by one (just \
             measured, made-up flows, one thread)"
        )?;
        let explains = match (self.explains, *kind) {
            (true, _) => "yes",
            (false, "stacking") => "no, a stacking has no exact one",
            (false, _) => "no, the file has no sample counts",
        };
        writeln!(output, "explanations     {explains}")?;
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
