//! Models: untrusted ONNX files with a contract.
//!
//! ```text
//! source, remote, cache ─► scan ─► contract ─► graph ─► meaning ─► linear ─┐
//!          ▲                                     │                         ├─► predictor ─► Model ─► score, explain
//!        keeper                                  └─► ensemble ─► trees ────┘        ▲
//!          └─► handle                                    reference (tract), probes ─┘ before it is one
//! ```
//!
//! A [`Model`] has been checked by construction. Loading runs in a thread of its own that may panic without harm; what
//! is refused is refused with a reason.

mod attributes;
mod cache;
mod constant;
mod contract;
mod distribution;
mod ensemble;
mod error;
mod explain;
mod faults;
mod graph;
mod handle;
mod keeper;
mod linear;
mod loading;
mod meaning;
mod operator;
mod predictor;
mod probes;
mod reasons;
mod reference;
mod remote;
mod scan;
mod score;
mod softmax;
mod source;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod trees;
mod walk;
mod wire;

use std::{fmt, sync::Arc};

use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

pub(crate) use self::{
    cache::replace_file,
    contract::expected_names,
    distribution::{Edges, MAX_BINS},
    keeper::{Outcome, described},
};
pub use self::{
    cache::{Cache, CacheError},
    contract::{BENIGN, Contract, ContractError, NonFinite, VERSION as CONTRACT_VERSION},
    distribution::Distribution,
    error::ModelError,
    explain::Contribution,
    faults::{EnsembleError, NodeFault, WeightFault},
    graph::GraphError,
    handle::{Live, ModelHandle, Origin},
    keeper::{Keeper, KeeperOptions, RefreshError, Refreshed},
    predictor::Kind,
    probes::{ProbeError, Probes},
    reasons::{Explanation, Reason, Space},
    remote::{
        AwsKey, Credentials, FetchError, Fetched, Fetcher, Mark, MlflowOptions, Patience, Progress, RemoteOptions,
        S3Options,
    },
    scan::ScanError,
    score::{Score, ScoreError},
    source::{Auth, DEFAULT_MAX_BYTES, Pick, Registered, Secret, Source, SourceError, WebUrl},
    walk::InstructionSet,
    wire::WireError,
};
use self::{
    explain::NodeValues,
    loading::{in_thread, prepare},
    predictor::Predictor,
    score::verdict,
    trees::Forest,
};
use crate::features::{FEATURE_COUNT, FeatureVector};

/// Rows that are evaluated at once. Beyond a few hundred nothing is gained (docs/models.md), and this bounds the memory.
const CHUNK: usize = 1024;

/// How to load a model.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Largest file that is read, in bytes.
    pub max_bytes: u64,
    /// The SHA-256 that the file must have, in hex; checked before anything is parsed.
    pub sha256: Option<String>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { max_bytes: DEFAULT_MAX_BYTES, sha256: None }
    }
}

/// A loaded model: checked, ready to score, and to be shared as `Arc<Model>`.
pub struct Model {
    contract: Contract,
    predictor: Predictor,
    forest: Arc<Forest>,
    node_values: NodeValues,
    source: Source,
    sha256: String,
    bytes: usize,
    loaded_at: OffsetDateTime,
}

const _: () = {
    const fn shareable<T: Send + Sync>() {}
    shareable::<Model>();
};

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Model({} {} from {}, {:?})", self.name(), self.version(), self.source, self.forest)
    }
}

impl Model {
    /// Loads the model that is part of the program.
    ///
    /// # Errors
    ///
    /// If the program was built with a model that it refuses.
    pub fn embedded() -> Result<Self, ModelError> {
        Self::load(&Source::Embedded)
    }

    /// Loads a model with default options.
    ///
    /// # Errors
    ///
    /// If it cannot be read or is refused.
    pub fn load(source: &Source) -> Result<Self, ModelError> {
        Self::load_with(source, &LoadOptions::default())
    }

    /// Loads a model.
    ///
    /// # Errors
    ///
    /// If it cannot be read or is refused.
    pub fn load_with(source: &Source, options: &LoadOptions) -> Result<Self, ModelError> {
        Self::from_bytes(&source.read(options.max_bytes)?, source.clone(), options)
    }

    /// Loads a model whose bytes have been read from `source`.
    ///
    /// # Errors
    ///
    /// If it is refused.
    pub fn from_bytes(bytes: &[u8], source: Source, options: &LoadOptions) -> Result<Self, ModelError> {
        let sha256 = hex(&Sha256::digest(bytes));
        if let Some(expected) = &options.sha256
            && !expected.eq_ignore_ascii_case(&sha256)
        {
            return Err(ModelError::Sha256 { found: sha256, expected: expected.clone() });
        }
        let (contract, predictor) = in_thread(|| prepare(bytes))?;
        let forest = Arc::clone(&predictor.forest);
        Ok(Self {
            node_values: NodeValues::new(forest.classes),
            contract,
            predictor,
            forest,
            source,
            sha256,
            bytes: bytes.len(),
            loaded_at: OffsetDateTime::now_utc(),
        })
    }

    /// Scores any number of rows. What is not finite is replaced as the contract says, then each value is rounded to
    /// float32 once.
    ///
    /// # Errors
    ///
    /// If a probability is not finite; then there is no verdict on any of the rows.
    pub fn score(&self, rows: &[FeatureVector]) -> Result<Vec<Score>, ScoreError> {
        score(&self.contract, &self.predictor, rows)
    }

    /// What each feature added to the score of the row's most probable class, the greatest effect first. Together with
    /// [`Model::base_rate`] of that class they are the score: the probability of a forest, the raw score of boosted trees.
    /// `None` for a stacking, which has no exact explanation, and if the file does not say how many training rows
    /// reached each node.
    #[must_use]
    pub fn explain(&self, row: &FeatureVector) -> Option<Vec<Contribution>> {
        Some(self.explanation(row)?.contributions)
    }

    /// The score of `class` before anything is known of a row; `None` where [`Model::explain`] is.
    #[must_use]
    pub fn base_rate(&self, class: usize) -> Option<f32> {
        self.node_values.base_rate(&self.forest, class)
    }

    /// Why the row gets its class, ready to be told. `None` where [`Model::explain`] is, and if there is no verdict.
    #[must_use]
    pub fn explanation(&self, row: &FeatureVector) -> Option<Explanation> {
        self.forest.cover.as_ref()?;
        self.explanation_of(row, self.score(std::slice::from_ref(row)).ok()?.first()?.class)
    }

    /// The same for a class that is known already.
    #[must_use]
    pub fn explanation_of(&self, row: &FeatureVector, class: usize) -> Option<Explanation> {
        let row = self.contract.non_finite.apply_all(row);
        let contributions = self.node_values.explain(&self.forest, &row, class)?;
        let space = if self.kind() == Kind::Boosted { Space::Margin } else { Space::Probability };
        Some(Explanation { class, space, base: self.base_rate(class)?, contributions })
    }

    /// Whether the row lies far outside what the model was trained on, so that its verdict is a guess. False if the file
    /// does not say what that was.
    #[must_use]
    pub fn out_of_distribution(&self, row: &FeatureVector) -> bool {
        let known = self.contract.distribution.as_ref();
        known.is_some_and(|known| known.far(&self.contract.non_finite.apply_all(row)).next().is_some())
    }

    /// In which features it does, in words.
    #[must_use]
    pub fn far_outside(&self, row: &FeatureVector) -> Vec<String> {
        let known = self.contract.distribution.as_ref();
        known.map_or_else(Vec::new, |known| known.far_in_words(row, &self.contract.non_finite.apply_all(row)))
    }

    /// What the model says about itself.
    #[must_use]
    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// The model's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.contract.name
    }

    /// The model's version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.contract.version
    }

    /// Where it was loaded from.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// SHA-256 of the file, in lower-case hex.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// When it was loaded.
    #[must_use]
    pub fn loaded_at(&self) -> OffsetDateTime {
        self.loaded_at
    }

    /// Size of the file, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What kind of model it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.predictor.kind()
    }

    /// The instruction set that scores.
    #[must_use]
    pub fn instructions(&self) -> InstructionSet {
        self.predictor.instructions
    }

    /// What computes the model's answers, in words: operators and instruction set.
    #[must_use]
    pub fn runtime(&self) -> String {
        let operators = match self.kind() {
            Kind::Forest | Kind::Boosted => "own tree operator",
            Kind::Stacking => "own tree operator and linear models",
        };
        format!("{operators} on {}", self.instructions())
    }

    /// The same model on another instruction set; on the plain one where the CPU does not have it. For measurements.
    #[must_use]
    pub fn on(mut self, instructions: InstructionSet) -> Self {
        self.predictor.instructions = instructions.or_plain();
        self
    }

    /// Number of trees.
    #[must_use]
    pub fn trees(&self) -> usize {
        self.forest.roots.len()
    }

    /// Number of nodes of all trees, leaves included.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.forest.nodes.len()
    }

    /// Branches on the longest path.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.forest.depth
    }

    /// Whether [`Model::explain`] gives answers.
    #[must_use]
    pub fn can_explain(&self) -> bool {
        self.forest.cover.is_some()
    }
}

fn score(contract: &Contract, predictor: &Predictor, rows: &[FeatureVector]) -> Result<Vec<Score>, ScoreError> {
    let classes = predictor.classes();
    let mut scores = Vec::with_capacity(rows.len());
    let mut probabilities = vec![0.0; rows.len().min(CHUNK) * classes];
    for rows in rows.chunks(CHUNK) {
        let input = finite(contract, rows);
        let probabilities = &mut probabilities[..rows.len() * classes];
        predictor.evaluate(&input, probabilities);
        for probabilities in probabilities.chunks_exact(classes) {
            scores.push(verdict(contract, scores.len(), probabilities)?);
        }
    }
    Ok(scores)
}

/// The rows as the model sees them, one behind the other.
fn finite(contract: &Contract, rows: &[FeatureVector]) -> Vec<f32> {
    let mut input = Vec::with_capacity(rows.len() * FEATURE_COUNT);
    rows.iter().for_each(|row| input.extend_from_slice(&contract.non_finite.apply_all(row)));
    input
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
