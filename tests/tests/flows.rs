//! `GET /flows` of a live sensor: a long flow is seen while it lasts, with what it has carried so far.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    lab::{CLIENT_V4, Lab, SERVER_IF, SERVER_V4, Side, wait_until},
    sensor,
};
use serde_json::Value;

const FLOWS: &str = "http://127.0.0.1:8000/flows";
const PORT: u64 = 5201;

fn flows(lab: &Lab, query: &str) -> Result<Vec<Value>> {
    let answer: Value = serde_json::from_str(&lab.get(&format!("{FLOWS}?{query}"))?)?;
    let flows = answer["flows"].as_array().with_context(|| answer.to_string())?.clone();
    ensure!(answer["open"].as_u64() >= Some(flows.len() as u64), "{answer}");
    Ok(flows)
}

/// The flow that carries the data.
fn bulk(flows: &[Value]) -> Option<Value> {
    flows.iter().find(|flow| flow["dest_port"] == PORT && flow["bytes_toserver"].as_u64() > Some(100_000)).cloned()
}

#[test]
fn a_long_flow_is_shown_while_it_lasts_and_grows() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    sensor::start(&mut lab, &[])?;
    lab.start(Side::Server, "iperf", &["iperf3", "-s"], &[])?;
    wait_until(Duration::from_secs(10), || {
        lab.succeed(Side::Server, &["ss", "-Htln"]).is_ok_and(|table| table.contains(":5201"))
    })?;
    lab.start(Side::Client, "load", &["iperf3", "-c", SERVER_V4, "-b", "4M", "-t", "60"], &[])?;
    // Some that are shorter than that.
    for _ in 0..5 {
        lab.output(Side::Client, &["ping", "-q", "-c", "1", SERVER_V4])?;
    }
    let mut first = Value::Null;
    wait_until(Duration::from_secs(20), || {
        first = flows(&lab, "by=bytes&limit=1").ok().and_then(|flows| bulk(&flows)).unwrap_or_default();
        !first.is_null()
    })
    .with_context(|| format!("the flow is not the first by bytes: {:?}", flows(&lab, "by=bytes")))?;
    ensure!(first["src_ip"] == CLIENT_V4 && first["dest_ip"] == SERVER_V4 && first["proto"] == "TCP", "{first}");
    ensure!(first["in_iface"] == SERVER_IF && first["pkts_toclient"].as_u64() > Some(10), "{first}");
    ensure!(first["flags"]["syn"] == 2 && first["flags"]["ack"].as_u64() > Some(20), "{first}");
    ensure!(first["flags"]["fin"] == 0 && first["age"].as_f64() > Some(0.0), "{first}");
    ensure!(first["start"].as_str().is_some_and(|start| start.ends_with('Z')), "{first}");

    for (order, key) in [
        ("packets", &["pkts_toserver", "pkts_toclient"][..]),
        ("age", &["age"]),
        ("bytes", &["bytes_toserver", "bytes_toclient"]),
    ] {
        let found = flows(&lab, &format!("by={order}&limit=1000"))?;
        let rank = |flow: &Value| key.iter().filter_map(|key| flow[*key].as_f64()).sum::<f64>();
        ensure!(found.len() >= 3 && found.is_sorted_by(|a, b| rank(a) >= rank(b)), "by {order}: {found:?}");
        let same = bulk(&found).with_context(|| format!("by {order}: {found:?}"))?;
        ensure!(same["src_port"] == first["src_port"], "{same}");
    }
    // A look holds for a second, then there is more.
    wait_until(Duration::from_secs(20), || {
        let later = flows(&lab, "by=packets&limit=2").ok().and_then(|flows| bulk(&flows)).unwrap_or_default();
        ["age", "pkts_toserver", "bytes_toserver"].iter().all(|key| later[*key].as_f64() > first[*key].as_f64())
    })
    .context("the flow does not grow")?;
    for wrong in ["by=size", "limit=0", "limit=1001"] {
        let status = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", &format!("{FLOWS}?{wrong}")];
        ensure!(lab.succeed(Side::Server, &status)? == "422", "{wrong}");
    }
    lab.stop("load", libc::SIGINT)?;
    wait_until(Duration::from_secs(20), || flows(&lab, "by=bytes").is_ok_and(|flows| bulk(&flows).is_none()))
        .context("a flow that has ended is still shown")?;
    sensor::stop(&mut lab, libc::SIGINT)
}
