//! Why a model is refused: every reason in one list.

use thiserror::Error;

use super::{ContractError, EnsembleError, FetchError, GraphError, Kind, ProbeError, ScanError, SourceError};

/// Why a model is refused.
#[derive(Debug, Error)]
pub enum ModelError {
    /// It cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// It cannot be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Its SHA-256 is not the one that was asked for.
    #[error(
        "the model's SHA-256 is {found}, expected {expected}; it is not the model that was meant, or --model-sha256 is of an older one"
    )]
    Sha256 {
        /// That of the file, in hex.
        found: String,
        /// The one asked for.
        expected: String,
    },
    /// It is no ONNX file of the kind that is accepted.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// Its graph is none of the three kinds.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Its contract is missing, incomplete, or not one that this program can keep.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// Its trees are broken.
    #[error(transparent)]
    Ensemble(#[from] EnsembleError),
    /// The contract and the graph speak of different numbers of classes.
    #[error("the contract lists {contract} classes and the model has {model}")]
    ClassCount {
        /// Classes in `ml_ids.classes`.
        contract: usize,
        /// Classes of the trees, or of what is made of them.
        model: usize,
    },
    /// Its features follow another profile than the flows that are counted.
    #[error(
        "the model is of profile {found} and flows are counted by profile {running}; restart the sensor to change the \
         profile"
    )]
    Profile {
        /// The model's.
        found: &'static str,
        /// The sensor's.
        running: &'static str,
    },
    /// It is of another kind than it says.
    #[error("`ml_ids.kind` says {contract} and the graph is a {graph} model")]
    Kind {
        /// The kind in the contract.
        contract: Kind,
        /// That of the graph.
        graph: Kind,
    },
    /// It does not answer its stored rows as they were answered at training.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// tract refused it, could not run it, or makes something else of it.
    #[error("the model cannot be prepared: {0}")]
    Engine(String),
    /// A bug: something panicked on the file.
    #[error("loading the model panicked: {0}; please report this with the file")]
    Panicked(String),
}
