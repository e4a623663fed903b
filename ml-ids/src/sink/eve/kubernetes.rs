//! The `kubernetes` object: the pods at both ends of a flow, as far as they are this node's.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::kubernetes::{PodName, Pods, Workload};

/// The object; `None` if neither end is a pod's.
pub(super) fn kubernetes(pods: &Pods, source: IpAddr, destination: IpAddr) -> Option<Value> {
    let mut ends = Map::new();
    for (end, address) in [("src", source), ("dest", destination)] {
        if let Some(name) = pods.name(address) {
            ends.insert(end.to_owned(), pod(&name));
        }
    }
    (!ends.is_empty()).then_some(Value::Object(ends))
}

fn pod(name: &PodName) -> Value {
    let PodName { pod, namespace, workload: Workload { kind, name } } = name;
    json!({ "pod": pod, "namespace": namespace, "workload": { "kind": kind, "name": name } })
}
