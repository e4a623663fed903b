//! Packets and bytes of flows, as the live sensor told them and as offline replay makes them of what tcpdump recorded.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::binary;

/// What must agree: packets and payload bytes of both directions.
pub type Tally = [u64; 4];

/// By five-tuple, from the sensor's events.
#[must_use]
pub fn live_flows(events: &[Value]) -> BTreeMap<String, Vec<Tally>> {
    let mut flows: BTreeMap<String, Vec<Tally>> = BTreeMap::new();
    for event in events {
        let number = |path: &str| event.pointer(path).and_then(Value::as_u64).unwrap_or(u64::MAX);
        let text = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or("?").to_owned();
        let name = format!(
            "{} {}:{} > {}:{}",
            text("/proto"),
            text("/src_ip"),
            number("/src_port"),
            text("/dest_ip"),
            number("/dest_port")
        );
        flows.entry(name).or_default().push([
            number("/flow/pkts_toserver"),
            number("/flow/pkts_toclient"),
            number("/flow/payload_bytes_toserver"),
            number("/flow/payload_bytes_toclient"),
        ]);
    }
    flows
}

/// The same from `ml-ids extract` of what tcpdump recorded.
///
/// # Errors
/// When the capture cannot be read.
pub fn recorded_flows(capture: &Path) -> Result<BTreeMap<String, Vec<Tally>>> {
    let output = std::process::Command::new(binary()?)
        .args(["extract", "--profile", "cns2022", "-o", "-"])
        .arg(capture)
        .output()?;
    ensure!(output.status.success(), "extract failed: {}", String::from_utf8_lossy(&output.stderr));
    let mut reader = csv::Reader::from_reader(output.stdout.as_slice());
    let headers = reader.headers()?.clone();
    let column = |name: &str| headers.iter().position(|header| header == name).context(name.to_owned());
    let columns = [
        column("Total Fwd Packets")?,
        column("Total Backward Packets")?,
        column("Total Length of Fwd Packets")?,
        column("Total Length of Bwd Packets")?,
    ];
    let names = [column("Protocol")?, column("Src IP")?, column("Src Port")?, column("Dst IP")?, column("Dst Port")?];
    let mut flows: BTreeMap<String, Vec<Tally>> = BTreeMap::new();
    for row in reader.records() {
        let row = row?;
        let [protocol, source, source_port, destination, destination_port] = names.map(|index| row[index].to_owned());
        let protocol = if protocol == "6" { "TCP" } else { "UDP" };
        let name = format!("{protocol} {source}:{source_port} > {destination}:{destination_port}");
        let mut tally = [0; 4];
        for (value, index) in tally.iter_mut().zip(columns) {
            *value = row[index].parse()?;
        }
        flows.entry(name).or_default().push(tally);
    }
    Ok(flows)
}
