//! What is read of a pod: its addresses, and whose they are.

use std::net::IpAddr;

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::OwnerReference};

/// Longest name that Kubernetes allows. Longer ones are not believed.
const LONGEST_NAME: usize = 253;
/// Most addresses that are read of a pod, which has one of each family.
const MOST_ADDRESSES: usize = 8;
/// The label by which the pods of a deployment's replica sets are told apart. It is the end of the replica set's name.
const TEMPLATE_HASH: &str = "pod-template-hash";
/// Phases of pods that have ended. Their addresses may be others' already.
const ENDED: [&str; 2] = ["Succeeded", "Failed"];

/// Whose an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodName {
    /// The pod.
    pub pod: String,
    /// Its namespace.
    pub namespace: String,
    /// What it is a part of.
    pub workload: Workload,
}

/// What has made a pod, as people know it; the pod itself if nobody has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// `Deployment`, `DaemonSet`, `StatefulSet`, `Job`, `Pod`, or whatever else the cluster knows.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// A pod as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// The pod's number for good: names are used again.
    pub(super) uid: String,
    pub(super) name: PodName,
    /// None if it shares the node's, or has none (yet, or any more).
    pub(super) addresses: Vec<IpAddr>,
}

/// `None` for what can be no pod.
pub(super) fn read(pod: &Pod) -> Option<Seen> {
    let metadata = &pod.metadata;
    let uid = name(metadata.uid.as_deref())?;
    let (name, namespace) = (name(metadata.name.as_deref())?, name(metadata.namespace.as_deref())?);
    let hash = metadata.labels.as_ref().and_then(|labels| labels.get(TEMPLATE_HASH)).map(String::as_str);
    let owners = metadata.owner_references.iter().flatten();
    let workload = owners
        .filter(|owner| owner.controller == Some(true))
        .find_map(|owner| workload(owner, hash))
        .unwrap_or_else(|| Workload { kind: "Pod".to_owned(), name: name.clone() });
    Some(Seen { uid, addresses: addresses(pod), name: PodName { pod: name, namespace, workload } })
}

fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let shares_the_nodes = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
    let Some(status) = pod.status.as_ref().filter(|_| !shares_the_nodes) else { return Vec::new() };
    if status.phase.as_deref().is_some_and(|phase| ENDED.contains(&phase)) {
        return Vec::new();
    }
    let several = status.pod_ips.iter().flatten().map(|address| address.ip.as_str());
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in several.chain(status.pod_ip.as_deref()).take(MOST_ADDRESSES) {
        let Ok(address) = address.parse::<IpAddr>().map(|address| address.to_canonical()) else { continue };
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// `None` if the node itself has made it, or nobody who can be named.
fn workload(owner: &OwnerReference, hash: Option<&str>) -> Option<Workload> {
    let (kind, full) = (name(Some(&owner.kind))?, name(Some(&owner.name))?);
    match kind.as_str() {
        "Node" => None,
        "ReplicaSet" => {
            let deployment = hash.and_then(|hash| full.strip_suffix(hash)?.strip_suffix('-'));
            Some(match deployment.filter(|deployment| !deployment.is_empty()) {
                Some(deployment) => Workload { kind: "Deployment".to_owned(), name: deployment.to_owned() },
                None => Workload { kind, name: full },
            })
        }
        _ => Some(Workload { kind, name: full }),
    }
}

fn name(text: Option<&str>) -> Option<String> {
    let text = text?;
    let is_name = !text.is_empty() && text.len() <= LONGEST_NAME && text.chars().all(|c| c.is_ascii_graphic());
    is_name.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(change: impl FnOnce(&mut Value)) -> Option<Seen> {
        let mut pod = json!({
            "metadata": { "name": "web-6d4cf56db6-x7k2p", "namespace": "shop", "uid": "1" },
            "spec": { "containers": [] },
            "status": { "phase": "Running", "podIP": "10.0.0.7", "podIPs": [{ "ip": "10.0.0.7" }, { "ip": "fd00::7" }] },
        });
        change(&mut pod);
        read(&serde_json::from_value(pod).unwrap())
    }

    fn workload_of(kind: &str, name: &str, hash: Option<&str>) -> (String, String) {
        let owner = json!([{ "apiVersion": "v1", "kind": kind, "name": name, "uid": "2", "controller": true }]);
        let seen = pod(|pod| {
            pod["metadata"]["ownerReferences"] = owner;
            if let Some(hash) = hash {
                pod["metadata"]["labels"] = json!({ TEMPLATE_HASH: hash });
            }
        });
        let Workload { kind, name } = seen.unwrap().name.workload;
        (kind, name)
    }

    #[test]
    fn a_pod_is_a_part_of_what_people_have_written_down() {
        let is = |kind: &str, name: &str| (kind.to_owned(), name.to_owned());
        assert_eq!(workload_of("ReplicaSet", "web-6d4cf56db6", Some("6d4cf56db6")), is("Deployment", "web"));
        assert_eq!(workload_of("ReplicaSet", "web-front", None), is("ReplicaSet", "web-front"));
        assert_eq!(workload_of("ReplicaSet", "-abc", Some("abc")), is("ReplicaSet", "-abc"));
        assert_eq!(workload_of("StatefulSet", "db", None), is("StatefulSet", "db"));
        assert_eq!(workload_of("Job", "backup-29402160", None), is("Job", "backup-29402160"));
        assert_eq!(workload_of("Node", "worker-1", None), is("Pod", "web-6d4cf56db6-x7k2p"));
        assert_eq!(pod(|_| ()).unwrap().name.workload.kind, "Pod");
    }

    #[test]
    fn it_has_the_addresses_of_both_families_once_and_none_that_are_others() {
        let addresses = |change: fn(&mut Value)| pod(change).unwrap().addresses;
        let both: Vec<IpAddr> = vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()];
        assert_eq!(addresses(|_| ()), both);
        assert!(addresses(|pod| pod["spec"]["hostNetwork"] = true.into()).is_empty());
        assert!(addresses(|pod| pod["status"]["phase"] = "Succeeded".into()).is_empty());
        assert!(addresses(|pod| pod["status"] = json!({ "phase": "Pending" })).is_empty());
        assert_eq!(addresses(|pod| pod["status"]["podIPs"] = json!([{ "ip": "x" }])), both[..1]);
    }

    #[test]
    fn what_has_no_name_of_a_pod_is_none() {
        for name in [json!(null), json!(""), json!("a".repeat(254)), json!("a\nb")] {
            assert_eq!(pod(|pod| pod["metadata"]["name"] = name.clone()), None, "{name}");
        }
    }
}
