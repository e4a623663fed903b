//! Records of two sides that must be the same, byte for byte.

use anyhow::{Result, ensure};
use ml_ids_common::FlowRecord;

/// Requires that both sides made the same records.
///
/// # Errors
/// The first flow that differs, field by field.
pub fn ensure_equal(mut kernel: Vec<FlowRecord>, mut offline: Vec<FlowRecord>) -> Result<()> {
    ensure!(kernel.len() == offline.len(), "{} records from the kernel, {} offline", kernel.len(), offline.len());
    // Flows that end with the capture come out by start; those that start together may stand in either order.
    let order = |record: &FlowRecord| {
        let state = record.state();
        (state.start_us, state.key.addr_a, state.key.addr_b, state.key.port_a, state.key.port_b, state.key.protocol)
    };
    kernel.sort_by_key(order);
    offline.sort_by_key(order);
    for (ours, theirs) in kernel.iter().zip(&offline) {
        ensure!(ours == theirs, "flow {:?} differs:\n{}", theirs.source(), difference(ours, theirs));
    }
    Ok(())
}

/// The fields in which two records differ.
#[must_use]
pub fn difference(kernel: &FlowRecord, offline: &FlowRecord) -> String {
    let (kernel, offline) = (format!("{kernel:#?}"), format!("{offline:#?}"));
    let lines = kernel.lines().zip(offline.lines()).filter(|(kernel, offline)| kernel != offline);
    lines.map(|(kernel, offline)| format!("kernel {} offline {}\n", kernel.trim(), offline.trim())).collect()
}
