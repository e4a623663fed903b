//! From a file's bytes to a contract and a predictor that have passed every check, in a thread of its own that may panic
//! without harm.

use std::{sync::Arc, thread};

use super::{
    Contract, ContractError, ModelError, Probes, ensemble, expected_names, finite, graph, predictor::Predictor,
    reference, scan, score,
};
use crate::features::FEATURE_COUNT;

/// Stack of the loading thread, in bytes.
const STACK: usize = 8 << 20;

/// Runs `load` where a panic ends nothing but the loading.
pub(super) fn in_thread<T: Send>(load: impl FnOnce() -> Result<T, ModelError> + Send) -> Result<T, ModelError> {
    thread::scope(|scope| {
        let loader = thread::Builder::new().name("model-loader".to_owned()).stack_size(STACK);
        let loader = loader
            .spawn_scoped(scope, load)
            .map_err(|error| ModelError::Engine(format!("no thread to load it in: {error}")))?;
        loader.join().unwrap_or_else(|panic| {
            let message = panic.downcast_ref::<&str>().copied().map(str::to_owned);
            let message = message.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(ModelError::Panicked(message.unwrap_or_else(|| "without a message".to_owned())))
        })
    })
}

/// Takes a file apart and tries out what it makes.
pub(super) fn prepare(bytes: &[u8]) -> Result<(Contract, Predictor), ModelError> {
    let mut file = scan::scan(bytes)?;
    let metadata = std::mem::take(&mut file.metadata_props).into_iter().map(|entry| (entry.key, entry.value));
    let contract = Contract::parse(&metadata.collect::<Vec<_>>())?;
    let classes = contract.classes.len();
    let graph = graph::understand(file, classes)?;
    let mut forest = ensemble::read(&graph.trees)?;
    if graph.last.is_some() {
        // Its trees' votes are not the model's probabilities, so what moves them explains nothing.
        forest.cover = None;
    }
    let predictor = Predictor::new(Arc::new(forest), graph.last.as_ref());
    if let Some(model) = predictor.odd_part(classes) {
        return Err(ModelError::ClassCount { contract: classes, model });
    }
    if let Some(contract) = contract.kind.filter(|&kind| kind != predictor.kind()) {
        return Err(ModelError::Kind { contract, graph: predictor.kind() });
    }
    if let Some(&used) = contract.unused_features.iter().find(|&&feature| predictor.looks_at(feature)) {
        let fault = format!("the model does look at `{}`", expected_names()[used]);
        return Err(ContractError::UnusedFeatures(fault).into());
    }
    try_out(&contract, &predictor, graph.last.is_some().then_some(&graph.proto))?;
    Ok((contract, predictor))
}

/// Scores a row of zeros and the stored rows: a model that cannot do that is not loaded. `graph` is for tract to run.
fn try_out(
    contract: &Contract,
    predictor: &Predictor,
    graph: Option<&tract_onnx::pb::ModelProto>,
) -> Result<(), ModelError> {
    let mut rows = contract.probes.as_ref().map_or_else(Vec::new, Probes::rows);
    rows.push([0.0; FEATURE_COUNT]);
    let scores = score(contract, predictor, &rows).map_err(|error| ModelError::Engine(error.to_string()))?;
    contract.probes.as_ref().map_or(Ok(()), |probes| probes.compare(&scores))?;
    graph.map_or(Ok(()), |graph| reference::compare(graph, predictor, &finite(contract, &rows)))
}
