//! Flags of the names of pods in events, and the watch behind them.

use std::sync::Arc;

use clap::{ArgAction, builder::FalseyValueParser};

use super::privileges::Rights;
use crate::kubernetes::{Connection, KubernetesError, NodeName, Pods};

const HEADING: &str = "Events";

/// The flags.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct KubernetesArgs {
    /// Name the pods of this node in events: pod, namespace and workload of both addresses. Asks the API server, by the pod's
    /// service account or KUBECONFIG
    #[arg(long, env = "ML_IDS_KUBERNETES", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new(), help_heading = HEADING)]
    kubernetes: bool,
    /// The node whose pods --kubernetes names
    #[arg(long, env = "NODE_NAME", value_name = "NAME", help_heading = HEADING)]
    node_name: Option<String>,
}

/// Why pods cannot be named.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unnamed {
    #[error("--kubernetes needs the node's name: set NODE_NAME from spec.nodeName, or --node-name")]
    NoNode,
    #[error("--node-name {0:?}: {1}")]
    Node(String, String),
    #[error(transparent)]
    Access(#[from] KubernetesError),
}

impl KubernetesArgs {
    /// Whom to ask for which node; `None` without `--kubernetes`. Asks nobody.
    ///
    /// # Errors
    /// When the node's name or access to an API server is missing.
    pub(super) async fn find(&self) -> Result<Option<(NodeName, Connection)>, Unnamed> {
        if !self.kubernetes {
            return Ok(None);
        }
        let text = self.node_name.as_deref().filter(|name| !name.is_empty()).ok_or(Unnamed::NoNode)?;
        let node = text.parse().map_err(|error| Unnamed::Node(text.to_owned(), error))?;
        Ok(Some((node, Connection::find().await?)))
    }

    /// Begins to learn the names. What the watch reads later is going to be readable. Needs a runtime.
    ///
    /// # Errors
    /// As [`Self::find`]. That nobody answers is none.
    pub(super) async fn follow(&self, rights: &mut Rights) -> Result<Option<Arc<Pods>>, Unnamed> {
        let Some((node, connection)) = self.find().await? else { return Ok(None) };
        for file in connection.files() {
            rights.read_again(&file);
        }
        let pods = Arc::new(Pods::of_node(node.as_str()));
        // Ends with the runtime.
        drop(connection.follow(Arc::clone(&pods))?);
        Ok(Some(pods))
    }
}
