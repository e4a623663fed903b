//! Events fit the schema in `docs/schema`, nothing else does, and a program that reads Suricata's events reads ours.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use jsonschema::Validator;
use ml_ids::{
    api::{HookPackets, SensorSnapshot},
    detect::{Judge, Judged},
    model::Model,
    offline::{self, Capture, Replay},
    sink::eve::{self, Endpoints, Place, StatsSource, community_id},
};
use ml_ids_tests::{
    agent::Scratch,
    fever::{self, Fever, Tuples},
    files, fixture,
    lab::{CLIENT_V4, Lab, SERVER_IF, SERVER_V4, SERVER_V6, Side, wait_until},
    root,
    sensor::{self, unix_seconds},
};
use serde_json::{Value, json};

/// Not the default, so that what ignores the flag is found.
const SEED: u16 = 7;
const PLACE: Place<'_> =
    Place { host: "edge", interface: Some("eth0"), community_id_seed: SEED, severities: None, pods: None };

fn schema() -> Result<Validator> {
    let text = fs::read_to_string(root().join("docs/schema/eve.schema.json"))?;
    let schema: Value = serde_json::from_str(&text)?;
    jsonschema::draft202012::meta::validate(&schema).map_err(|error| anyhow::anyhow!("{error}"))?;
    jsonschema::draft202012::new(&schema).map_err(|error| anyhow::anyhow!("{error}"))
}

fn ensure_fits(schema: &Validator, event: &Value) -> Result<()> {
    let errors: Vec<String> =
        schema.iter_errors(event).map(|error| format!("{}: {error}", error.instance_path())).collect();
    ensure!(errors.is_empty(), "{event}\n{}", errors.join("\n"));
    Ok(())
}

/// Every kind of event of every flow of a capture, and how often each.
fn events_of(capture: &Path, judge: &Judge) -> Result<Vec<Value>> {
    let mut replay = Replay::new(judge.model().contract().profile);
    let mut records = Vec::new();
    let mut frames = Capture::new(File::open(capture)?)?;
    offline::replay(&mut frames, &mut replay, |record| {
        records.push(record);
        anyhow::Ok(())
    })?;
    let mut events: Vec<Value> = records.iter().map(|record| eve::flow(record, &PLACE)).collect();
    records.retain(ml_ids_common::FlowRecord::is_tcp_or_udp);
    let Judged { model, verdicts } = judge.judge(records)?;
    for mut verdict in verdicts {
        for alert in [false, true] {
            verdict.alert = alert;
            events.push(eve::verdict(&verdict, &model, &PLACE));
            events.push(eve::judged_flow(&verdict, &model, &PLACE));
        }
    }
    Ok(events)
}

fn statistics() -> Value {
    let mut sensor = SensorSnapshot::default();
    sensor.packets.ingress = HookPackets { seen: 5, skipped: [("table_full", 1)].into(), ..HookPackets::default() };
    let uptime = Duration::from_secs(60);
    eve::stats(&StatsSource { now_us: 1, host: "edge", uptime, sensor: &sensor, resident_bytes: 1 })
}

#[test]
fn events_of_every_capture_fit_the_schema() -> Result<()> {
    let (schema, judge) = (schema()?, Judge::new(Arc::new(Model::embedded()?.into())));
    let mut kinds = BTreeSet::new();
    for capture in files(&fixture("handmade"), &["pcap"])? {
        for event in events_of(&capture, &judge)? {
            ensure_fits(&schema, &event).with_context(|| capture.display().to_string())?;
            let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
            kinds.insert((text("event_type"), text("proto")));
        }
    }
    ensure_fits(&schema, &statistics())?;
    let told: BTreeSet<(&str, &str)> = kinds.iter().map(|(kind, proto)| (kind.as_str(), proto.as_str())).collect();
    let all =
        [("flow", "TCP"), ("flow", "UDP"), ("flow", "SCTP"), ("flow", "OTHER"), ("alert", "TCP"), ("alert", "UDP")];
    ensure!(told == all.into(), "{told:?}");
    Ok(())
}

/// Sets what a JSON pointer points at; removes it if the value is null.
fn set(event: &mut Value, pointer: &str, value: Value) -> Result<()> {
    let (parent, name) = pointer.rsplit_once('/').context("no pointer")?;
    let parent = event.pointer_mut(parent).and_then(Value::as_object_mut).context("no object")?;
    if value.is_null() {
        parent.remove(name).with_context(|| format!("no {pointer}"))?;
    } else {
        parent.insert(name.to_owned(), value);
    }
    Ok(())
}

#[test]
fn what_is_no_event_does_not_fit_the_schema() -> Result<()> {
    let (schema, judge) = (schema()?, Judge::new(Arc::new(Model::embedded()?.into())));
    let events = events_of(&fixture("handmade/fin.pcap"), &judge)?;
    let of = |kind: &str| events.iter().find(|event| event["event_type"] == kind && event.get("ml").is_some());
    let (flow, alert) = (of("flow").context("no flow")?, of("alert").context("no alert")?);
    for (event, pointer, value) in [
        (flow, "/timestamp", json!("2026-11-27T07:30:00.123456Z")),
        (flow, "/timestamp", json!("2026-11-27T07:30:00.123+0000")),
        (flow, "/flow/age", json!(1.5)),
        (flow, "/flow/state", json!("open")),
        (flow, "/flow/bytes_toserver", Value::Null),
        (flow, "/flow/extra", json!(1)),
        (flow, "/src_port", Value::Null),
        (flow, "/src_port", json!("80")),
        (flow, "/proto", json!("tcp")),
        (flow, "/community_id", json!("2:x")),
        (flow, "/tcp", Value::Null),
        (flow, "/tcp/tcp_flags", json!("0x1b")),
        (flow, "/alert", alert["alert"].clone()),
        (flow, "/extra", json!(1)),
        (flow, "/event_type", json!("netflow")),
        (flow, "/event_type", json!("stats")),
        (alert, "/alert", Value::Null),
        (alert, "/alert/gid", Value::Null),
        (alert, "/alert/severity", json!(0)),
        (alert, "/ml", Value::Null),
        (alert, "/flow/alerted", json!(false)),
        (&statistics(), "/stats/uptime", json!(1.5)),
        (&statistics(), "/stats/capture/kernel_packets", json!(-1)),
        (&statistics(), "/src_ip", json!("10.0.0.1")),
    ] {
        let mut broken = event.clone();
        ensure_fits(&schema, &broken)?;
        set(&mut broken, pointer, value.clone())?;
        ensure!(!schema.is_valid(&broken), "{pointer} {value} fits");
    }
    Ok(())
}

/// Conversations, a ping and a port scan, over both versions of IP.
fn make_traffic(lab: &mut Lab) -> Result<()> {
    let www = lab.directory().to_string_lossy().into_owned();
    lab.start(
        Side::Server,
        "http",
        &["python3", "-m", "http.server", "8080", "--bind", "::", "--directory", &www],
        &[],
    )?;
    wait_until(Duration::from_secs(10), || {
        lab.succeed(Side::Server, &["ss", "-Htln"]).is_ok_and(|table| table.contains(":8080"))
    })?;
    for server in [SERVER_V4.to_owned(), format!("[{SERVER_V6}]")] {
        for _ in 0..3 {
            let url = format!("http://{server}:8080/");
            lab.succeed(Side::Client, &["curl", "-sS", "-o", "/dev/null", "--max-time", "10", &url])?;
        }
    }
    lab.succeed(Side::Client, &["ping", "-q", "-c", "2", "-i", "0.2", SERVER_V4])?;
    lab.succeed(Side::Client, &["nmap", "-sS", "-Pn", "-n", "-T4", "-p", "1-300", SERVER_V4])?;
    Ok(())
}

/// What FEVER must find: TCP flows that were answered, by end points, with bytes to the client and to the server.
fn expected_tuples(flows: &[&Value]) -> Tuples {
    let mut tuples = Tuples::new();
    for flow in flows.iter().filter(|flow| flow["proto"] == "TCP") {
        let number = |pointer: &str| flow.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
        let text = |name: &str| flow[name].as_str().unwrap_or_default();
        let (to_client, to_server) = (number("/flow/bytes_toclient"), number("/flow/bytes_toserver"));
        if to_client > 0 {
            let name = format!("{}_{}_{}", text("src_ip"), text("dest_ip"), number("/dest_port"));
            let sums = tuples.entry(name).or_default();
            *sums = [sums[0] + 1, sums[1] + to_client, sums[2] + to_server];
        }
    }
    tuples
}

/// Lets FEVER read everything: what it says of the flows is what they are, the rest comes out as it went in.
fn let_fever_read(program: &Path, events: &[Value]) -> Result<()> {
    let folder = Scratch::new("fever")?;
    let mut fever = Fever::start(program, Path::new(&folder.path("")))?;
    let of = |kind: &'static str| events.iter().filter(move |event| event["event_type"] == kind);
    let flows: Vec<&Value> = of("flow").collect();
    for flow in &flows {
        fever.tell(flow)?;
    }
    let length = |flow: &&Value| if flow["src_ip"].as_str().is_some_and(|ip| ip.contains(':')) { 63 } else { 39 };
    let (expected, bytes) = (expected_tuples(&flows), flows.iter().map(length).sum::<u64>());
    // It gives up on a flow whose time or address it cannot read.
    wait_until(Duration::from_secs(20), || fever.extracted_bytes() == bytes && fever.tuples() == expected)
        .with_context(|| format!("{bytes} bytes of {expected:?} in\n{}", fever.log()))?;
    for event in of("stats").take(5).chain(of("alert").take(20)) {
        ensure!(fever.forward(event)? == *event, "another event than {event} came out");
    }
    ensure!(fever.complaints().is_empty(), "{:?}", fever.complaints());

    // That it would notice: a time as RFC 3339 has it.
    let answered = |flow: &&&Value| !expected_tuples(&[**flow]).is_empty();
    let mut odd = (*flows.iter().find(answered).context("no TCP flow was answered")?).clone();
    let time = odd["timestamp"].as_str().context("no time")?.replace("+0000", "Z");
    set(&mut odd, "/timestamp", time.into())?;
    fever.tell(&odd)?;
    let known = expected.values().map(|[count, ..]| count).sum::<u64>();
    let count = |fever: &Fever| fever.tuples().values().map(|[count, ..]| count).sum::<u64>();
    wait_until(Duration::from_secs(20), || count(&fever) == known + 1).context("it has not come to the odd one")?;
    // The next summary of records is due by now.
    std::thread::sleep(Duration::from_millis(2500));
    ensure!(fever.extracted_bytes() == bytes, "a time of another form was read, so this test shows nothing");
    Ok(())
}

#[test]
fn live_events_fit_the_schema_and_fever_reads_them_as_suricatas() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    let schema = schema()?;
    let seed = SEED.to_string();
    let events = ["--eve", "alert,flow,stats", "--stats-interval", "1s", "--community-id-seed", &seed];
    sensor::start(&mut lab, &[&["-i", SERVER_IF, "--attach", "host"], events.as_slice()].concat())?;
    make_traffic(&mut lab)?;
    // Terminated flows linger for a second.
    std::thread::sleep(Duration::from_millis(1500));
    sensor::stop(&mut lab, libc::SIGINT)?;
    let logged = sensor::events(&lab)?;
    for event in &logged {
        ensure_fits(&schema, event)?;
    }
    let text = fs::read_to_string(lab.directory().join("logs/eve.json"))?;
    let events: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let of = |kind: &'static str| events.iter().filter(move |event| event["event_type"] == kind);
    for event in &events {
        ensure_fits(&schema, event)?;
        ensure!(event["host"].is_string(), "{event}");
    }
    for event in of("flow") {
        let flow = &event["flow"];
        let seconds = |name: &str| flow[name].as_str().context("no time").and_then(unix_seconds);
        let age = flow["age"].as_f64().context("no age")?;
        let lasted = seconds("end")? - seconds("start")?;
        // Whole seconds, and what a double loses of microseconds since 1970.
        ensure!((age - 1e-5..age + 1.0).contains(&lasted), "{age} s old after {lasted} s: {event}");
        ensure!(event["in_iface"] == SERVER_IF && event["timestamp"] == flow["end"], "{event}");
        if let (Some(ports), Some(name)) = (ports(event), event["community_id"].as_str()) {
            let address = |name: &str| event[name].as_str().context("no address").and_then(|ip| Ok(ip.parse()?));
            let (source, destination) = (address("src_ip")?, address("dest_ip")?);
            let protocol = if event["proto"] == "TCP" { 6 } else { 17 };
            let endpoints = Endpoints { protocol, source, destination, ports: Some(ports) };
            ensure!(community_id(SEED, &endpoints) == name, "{event}");
        }
    }
    let judged = of("flow").filter(|flow| flow.get("ml").is_some()).count();
    ensure!(judged == logged.len(), "{judged} flows with a verdict, {} in the other logs", logged.len());
    ensure!(of("flow").any(|flow| flow["proto"] == "OTHER" && flow.get("ml").is_none()), "the ping is missing");
    let last = of("stats").next_back().context("no stats")?;
    ensure!(last.pointer("/stats/decoder/pkts").and_then(Value::as_u64) > Some(600), "{last}");
    let pages = || of("flow").filter(|flow| flow["flow"]["reason"] == "fin" && flow["dest_port"] == 8080);
    for page in pages() {
        let tcp = &page["tcp"];
        ensure!(tcp["tcp_flags"] == "1b" && tcp["tcp_flags_ts"] == "1b" && tcp["tcp_flags_tc"] == "1b", "{page}");
    }
    ensure!(pages().count() == 6, "{} of 6 pages", pages().count());
    let alerts: Vec<Value> = of("alert").cloned().collect();
    ensure!(!alerts.is_empty(), "the scan raised no alert");

    let Some(program) = fever::program()? else { return Ok(()) };
    let_fever_read(&program, &events)?;
    for (ours, theirs) in alerts.iter().zip(fever::alertify(&program, &alerts)?) {
        ensure!(theirs["timestamp_event"] == ours["timestamp"], "{ours} was read as {theirs}");
        for name in ["src_ip", "src_port", "dest_ip", "dest_port", "proto", "flow_id", "community_id", "flow"] {
            ensure!(theirs[name] == ours[name], "{name} of {ours} was read as {theirs}");
        }
    }
    let sources: BTreeSet<&str> = alerts.iter().filter_map(|alert| alert["src_ip"].as_str()).collect();
    ensure!(sources.contains(CLIENT_V4), "alerts of {sources:?}");
    Ok(())
}

fn ports(event: &Value) -> Option<(u16, u16)> {
    let port = |name: &str| event[name].as_u64().and_then(|port| u16::try_from(port).ok());
    port("src_port").zip(port("dest_port"))
}
