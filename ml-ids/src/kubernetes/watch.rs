//! The watch on this node's pods: a list first, then what changes. Whatever goes wrong, it begins again with a list, after a
//! pause that grows, so that what is known afterwards is whole.

use std::{
    env,
    path::PathBuf,
    pin::pin,
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::TryStreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, KubeconfigError},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, DefaultBackoff, watcher},
    },
};
use log::debug;
use tokio::{task::JoinHandle, time};

use super::Pods;

/// How long the API server keeps a watch open, in seconds. Another one follows where it ended.
const WATCH_SECONDS: u32 = 120;
/// Silence for longer is none of a server that works: it ends the watch before.
const SILENCE: Duration = Duration::from_secs(150);
const CONNECT: Duration = Duration::from_secs(10);
/// How often pods that are gone are looked for.
const SWEEP: Duration = Duration::from_secs(30);
/// Between two tries, when the growing pauses are through.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// HTTP status of a place in the history that the server no longer knows.
const GONE: u16 = 410;

/// Why pods cannot be watched at all.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// There is no configuration, or one that makes no sense.
    #[error("--kubernetes: no access to an API server: {0}; run in a pod with a service account, or set KUBECONFIG")]
    Kubeconfig(#[source] KubeconfigError),
    /// The pod has no service account's token.
    #[error(
        "--kubernetes: no access to the API server: {0}; set automountServiceAccountToken (deploy/kubernetes/overlays/pods)"
    )]
    InCluster(#[source] kube::config::InClusterError),
    /// Access is had from a program.
    #[error(
        "--kubernetes: the kubeconfig asks a program or a cloud for its token, and the sensor starts none; use a token, a token \
         file or a certificate"
    )]
    Program,
    /// The client cannot be set up.
    #[error("--kubernetes: the API server cannot be asked: {0}")]
    Client(#[source] kube::Error),
}

/// A node's name: one that can stand in a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeName(String);

impl NodeName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        if text.is_empty() || text.len() > 253 || !text.chars().all(fits) {
            return Err("no name of a node; those have lower case letters, digits, - and . only".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

/// Access to the API server, not used yet.
#[derive(Debug)]
pub struct Connection {
    config: Config,
}

impl Connection {
    /// As `KUBECONFIG` says, else as a pod has it, else as the user's kubeconfig says. Nothing is asked.
    ///
    /// # Errors
    /// When none of these is there, or cannot be used by a process that starts no other.
    pub async fn find() -> Result<Self, KubernetesError> {
        let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        let mut config = if !is_set("KUBECONFIG") && is_set("KUBERNETES_SERVICE_HOST") {
            Config::incluster().map_err(KubernetesError::InCluster)?
        } else {
            Config::from_kubeconfig(&KubeConfigOptions::default()).await.map_err(KubernetesError::Kubeconfig)?
        };
        if config.auth_info.exec.is_some() || config.auth_info.auth_provider.is_some() {
            return Err(KubernetesError::Program);
        }
        (config.connect_timeout, config.read_timeout) = (Some(CONNECT), Some(SILENCE));
        Ok(Self { config })
    }

    /// Files that are read again and again.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        let token = self.config.auth_info.token_file.clone().map(PathBuf::from);
        token.into_iter().chain(self.config.root_cert_file.clone())
    }

    /// Where the API server is.
    #[must_use]
    pub fn server(&self) -> String {
        self.config.cluster_url.to_string()
    }

    /// Begins to keep the names up to date. Needs a runtime.
    ///
    /// # Errors
    /// When the configuration's certificates or keys cannot be used.
    pub fn follow(self, pods: Arc<Pods>) -> Result<JoinHandle<()>, KubernetesError> {
        let client = Client::try_from(self.config).map_err(KubernetesError::Client)?;
        Ok(tokio::spawn(follow(client, pods)))
    }
}

async fn follow(client: Client, pods: Arc<Pods>) {
    let api: Api<Pod> = Api::all(client);
    let wanted = watcher::Config::default()
        .fields(&format!("spec.nodeName={}", pods.node()))
        // From the server's memory: many sensors may ask at once.
        .any_semantic()
        .timeout(WATCH_SECONDS);
    let mut pauses = DefaultBackoff::default();
    loop {
        match watch(&api, wanted.clone(), &pods).await {
            Some(error) if is_expired(&error) => debug!("pods are listed anew: {error}"),
            Some(error) => pods.failed(&told(&error)),
            None => debug!("the watch on pods has ended"),
        }
        time::sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
    }
}

/// Takes what happens until something goes wrong.
async fn watch(api: &Api<Pod>, wanted: watcher::Config, pods: &Pods) -> Option<watcher::Error> {
    // What is not needed is not even kept until the next event.
    let mut events = pin!(watcher(api.clone(), wanted).modify(|pod| pod.metadata.managed_fields = None));
    let mut sweeps = time::interval(SWEEP);
    loop {
        tokio::select! {
            event = events.try_next() => match event {
                Ok(Some(event)) => pods.take(event, Instant::now()),
                Ok(None) => return None,
                Err(error) => return Some(error),
            },
            _ = sweeps.tick() => pods.forget(Instant::now()),
        }
    }
}

/// The status that the API server has answered with.
fn status(error: &watcher::Error) -> Option<&kube::core::Status> {
    match error {
        watcher::Error::WatchError(status) => Some(status),
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => Some(status),
        _ => None,
    }
}

/// Nothing is wrong: the server's history does not go back to the last change that is known here.
fn is_expired(error: &watcher::Error) -> bool {
    status(error).is_some_and(|status| status.code == GONE)
}

fn told(error: &watcher::Error) -> String {
    match status(error) {
        Some(status) if matches!(status.code, 401 | 403) => format!(
            "the API server refuses ({}: {}); let the service account get, list and watch pods \
             (deploy/kubernetes/overlays/pods)",
            status.code, status.message
        ),
        Some(status) => format!("the API server answers {}: {}", status.code, status.message),
        None => format!("the API server does not answer: {}", chain(error)),
    }
}

/// An error and its causes, each said once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_a_name_that_adds_nothing_to_a_selector() {
        assert_eq!("worker-1.example".parse::<NodeName>().unwrap().as_str(), "worker-1.example");
        for text in ["", "a,metadata.namespace=x", "Worker", "a b", &"a".repeat(254)] {
            assert!(text.parse::<NodeName>().is_err(), "{text}");
        }
    }
}
