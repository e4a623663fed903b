//! A flood of spoofed SYNs, as fast as this machine makes them, into a table that it fills many times over: conversations
//! that were there before and go on are counted to the packet, and so is everything else.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    binary, fixture,
    lab::{Lab, SERVER_V4, Side, wait_until},
    load::resident_bytes,
    sensor,
};
use serde_json::Value;

const CONVERSATIONS: usize = 20;
const MAX_FLOWS: u64 = 4096;
/// Seconds of flood.
const FLOOD: &str = "3";
/// Memory that a sensor may take at most, in bytes. Debug builds take more than release builds.
const MOST_RESIDENT: u64 = 300 << 20;

fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or(u64::MAX)
}

/// By the client's port: datagrams that came and answers that went, as the server counted them.
fn counted_by_the_server(lab: &Lab) -> Result<BTreeMap<u64, (u64, u64)>> {
    let log = lab.log("server");
    let line = log.lines().find_map(|line| line.strip_prefix("counts ")).context("the server printed no counts")?;
    let counts: BTreeMap<String, (u64, u64)> = serde_json::from_str(line)?;
    counts.into_iter().map(|(port, counts)| Ok((port.parse()?, counts))).collect()
}

#[test]
fn a_flood_of_spoofed_syns_costs_conversations_nothing_and_every_packet_is_accounted_for() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    let max_flows = MAX_FLOWS.to_string();
    let arguments = ["-i", "srv0", "--attach", "host", "--max-flows", max_flows.as_str(), "--ring-bytes", "1048576"];
    sensor::start(&mut lab, &arguments)?;
    let script = fixture("conversations.py").to_string_lossy().into_owned();
    lab.start(Side::Server, "server", &["python3", &script, "serve", SERVER_V4], &[])?;
    lab.wait_for_log("server", "ready")?;
    let count = CONVERSATIONS.to_string();
    lab.start(Side::Client, "talk", &["python3", &script, "talk", SERVER_V4, &count, "7"], &[])?;
    // Each conversation has been answered by the time the flood begins.
    wait_until(Duration::from_secs(5), || {
        sensor::health(&lab).is_ok_and(|health| number(&health, "/sensor/packets/ingress/in_flow") > 60)
    })
    .context("the conversations do not begin")?;

    let agent = binary()?.to_string_lossy().into_owned();
    let generate =
        ["bench", "generate", "--interface", "cli0", "--flows", "8000000", "--packets", "1", "--seconds", FLOOD];
    let argv: Vec<&str> = std::iter::once(agent.as_str()).chain(generate).collect();
    lab.start(Side::Client, "flood", &argv, &[])?;
    let mut during = Value::Null;
    wait_until(Duration::from_secs(10), || {
        during = sensor::health(&lab).unwrap_or_default();
        during.pointer("/sensor/table/pressed") == Some(&Value::Bool(true))
    })
    .with_context(|| format!("the sensor does not say that its table is full: {during}\n{}", lab.log("flood")))?;
    ensure!(during["status"] == "degraded", "{during}");
    ensure!(lab.wait("flood", Duration::from_secs(30))? == Some(0), "the generator failed:\n{}", lab.log("flood"));
    ensure!(lab.wait("talk", Duration::from_secs(30))? == Some(0), "the client failed:\n{}", lab.log("talk"));
    let resident = resident_bytes(lab.pid("sensor")?)?;
    ensure!(resident < MOST_RESIDENT, "the sensor takes {resident} bytes");

    // The table empties by itself once the flood is over.
    wait_until(Duration::from_secs(20), || {
        during = sensor::health(&lab).unwrap_or_default();
        during.pointer("/sensor/table/pressed") == Some(&Value::Bool(false))
    })
    .with_context(|| format!("the table stays full: {during}"))?;
    let stop = format!(
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'stop', ('{SERVER_V4}', 7007))"
    );
    lab.succeed(Side::Client, &["python3", "-c", &stop])?;
    wait_until(Duration::from_secs(5), || lab.log("server").contains("counts ")).context("the server does not stop")?;
    // Ends well and with balanced books, or this fails.
    sensor::stop(&mut lab, libc::SIGTERM)?;

    let ingress = |path: &str| number(&during, &format!("/sensor/packets/ingress/{path}"));
    let (seen, turned_away) = (ingress("seen"), ingress("skipped/table_full"));
    ensure!(seen > 20 * MAX_FLOWS, "that was no flood: {seen} packets");
    eprintln!(
        "{seen} packets in {FLOOD} s into {MAX_FLOWS} slots; {turned_away} turned away, {} evicted without a record",
        number(&during, "/sensor/flows/evicted")
    );
    let expected = counted_by_the_server(&lab)?;
    ensure!(expected.len() == CONVERSATIONS, "{expected:?}");
    let mut found: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for event in sensor::events(&lab)? {
        if number(&event, "/dest_port") == 7007 && event["proto"] == "UDP" {
            let flow = found.entry(number(&event, "/src_port")).or_default();
            flow.0 += number(&event, "/flow/pkts_toserver");
            flow.1 += number(&event, "/flow/pkts_toclient");
        }
    }
    for (port, counts) in &expected {
        ensure!(
            found.get(port) == Some(counts),
            "port {port}: {:?}, and the server counted {counts:?}",
            found.get(port)
        );
    }
    Ok(())
}
