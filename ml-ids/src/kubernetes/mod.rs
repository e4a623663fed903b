//! Which pods of this node addresses belong to, for events.
//!
//! ```text
//! API server ─► watch (list, then changes) ─► Pods: address -> pod, namespace, workload ─► events
//! ```
//!
//! Names are an extra: whatever happens here, flows are counted, judged and told of all the same. When the API server is
//! away the names that are known stay, and `/health` and `/metrics` say so.

mod book;
mod pod;
mod pods;
mod watch;

pub use pod::{PodName, Workload};
pub use pods::{Pods, PodsState};
pub use watch::{Connection, KubernetesError, NodeName};
