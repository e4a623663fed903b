//! Those who listen to a live sensor: every kind of event arrives, the timeline and the pulse say the same, there is no place
//! for one too many, and one who reads too slowly is cut off and slows nobody.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    binary,
    lab::{Lab, SERVER_IF, SERVER_V4, Side, wait_until},
    sensor,
};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);
/// As many may listen.
const LISTENERS: usize = 32;

/// Asks for events within the namespace of the sensor, and reads the head of the answer.
fn listen(lab: &Lab, types: &str) -> Result<(TcpStream, String)> {
    lab.within(Side::Server, || {
        let mut stream = TcpStream::connect("127.0.0.1:8000")?;
        stream.set_read_timeout(Some(LIMIT))?;
        write!(stream, "GET /events?types={types} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).context("no head of an answer")?;
            head.extend(byte);
        }
        Ok((stream, String::from_utf8(head)?))
    })
}

fn metric(lab: &Lab, name: &str) -> Result<f64> {
    let metrics = lab.get("http://127.0.0.1:8000/metrics")?;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.with_context(|| format!("no {name}"))
}

/// The data of the events of a kind.
fn of_kind(stream: &str, kind: &str) -> Vec<Value> {
    let mut lines = stream.lines().peekable();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if line.strip_prefix("event: ") == Some(kind)
            && let Some(data) = lines.peek().and_then(|line| line.strip_prefix("data: "))
        {
            found.extend(serde_json::from_str::<Value>(data).ok());
        }
    }
    found
}

#[test]
fn flows_stats_and_pulses_arrive_and_the_timeline_says_the_same() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    sensor::start(&mut lab, &["-i", SERVER_IF, "--attach", "host", "--stats-interval", "1s"])?;
    let url = "http://127.0.0.1:8000/events?types=flow,stats,pulse";
    lab.start(Side::Server, "events", &["curl", "-sSN", url], &[])?;
    lab.wait_for_log("events", "retry: ")?;
    lab.start(Side::Client, "ping", &["ping", "-q", "-i", "0.2", SERVER_V4], &[])?;
    // Refused by RSTs.
    let script =
        format!("import socket\nfor port in range(81, 91):\n  socket.socket().connect_ex(('{SERVER_V4}', port))");
    lab.succeed(Side::Client, &["python3", "-c", &script])?;
    let mut stream = String::new();
    let complete = |stream: &str| {
        let judged = |pulse: &Value| {
            pulse["verdicts"].as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum::<u64>()
        };
        let pulses = of_kind(stream, "pulse");
        of_kind(stream, "flow").len() >= 10
            && of_kind(stream, "stats").len() >= 2
            && pulses.len() >= 3
            && pulses.iter().map(judged).sum::<u64>() >= 10
    };
    wait_until(LIMIT, || {
        stream = lab.log("events");
        complete(&stream)
    })
    .with_context(|| format!("not all has arrived:\n{stream}"))?;
    ensure!(of_kind(&stream, "alert").is_empty(), "nobody asked for alerts:\n{stream}");
    let timeline: Value = serde_json::from_str(&lab.get("http://127.0.0.1:8000/timeline?seconds=720")?)?;
    let times = timeline["time"].as_array().context("no times")?;
    for name in ["packets", "bytes", "skipped", "flows", "open_flows", "alerts"] {
        ensure!(timeline[name].as_array().is_some_and(|column| column.len() == times.len()), "{name}: {timeline}");
    }
    let pulses = of_kind(&stream, "pulse");
    let mut compared = 0;
    for pulse in &pulses {
        let Some(place) = times.iter().position(|time| *time == pulse["time"]) else { continue };
        compared += 1;
        for name in ["packets", "bytes", "skipped", "flows", "open_flows", "alerts"] {
            ensure!(timeline[name][place] == pulse[name], "{name} of {pulse} is another one in {timeline}");
        }
    }
    ensure!(compared >= 3, "{compared} of {} pulses are in {timeline}", pulses.len());
    let packets = timeline["packets"].as_array().into_iter().flatten().filter_map(Value::as_f64).fold(0.0, f64::max);
    ensure!((1.0..1e6).contains(&packets), "{timeline}");
    lab.stop("events", libc::SIGKILL)?;
    sensor::stop(&mut lab, libc::SIGINT)
}

#[test]
fn one_too_many_is_turned_away_until_a_place_is_free() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    sensor::start(&mut lab, &[])?;
    let mut listeners = Vec::new();
    for number in 0..LISTENERS {
        let (stream, head) = listen(&lab, "alert,pulse")?;
        ensure!(head.starts_with("HTTP/1.1 200"), "listener {number}: {head}");
        listeners.push(stream);
    }
    let (_, head) = listen(&lab, "alert")?;
    ensure!(head.starts_with("HTTP/1.1 429") && head.to_lowercase().contains("retry-after"), "{head}");
    let places = &sensor::health(&lab)?["queues"]["events"];
    ensure!(places["length"] == LISTENERS && places["refused"].as_u64() >= Some(1), "{places}");
    // All of them hear the same second.
    for stream in &mut listeners {
        let (mut text, mut piece) = (String::new(), [0; 4096]);
        while !text.contains("event: pulse") {
            let read = stream.read(&mut piece)?;
            ensure!(read > 0, "the stream ended: {text}");
            text.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
    }
    drop(listeners.pop());
    wait_until(LIMIT, || listen(&lab, "alert").is_ok_and(|(_, head)| head.starts_with("HTTP/1.1 200")))
        .context("the place of one who has left stays taken")?;
    drop(listeners);
    sensor::stop(&mut lab, libc::SIGINT)
}

#[test]
fn one_who_reads_too_slowly_is_cut_off_and_others_hear_on() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    // A small table, so that there is little left to judge at the end.
    sensor::start(&mut lab, &["-i", SERVER_IF, "--attach", "host", "--max-flows", "4096"])?;
    let (mut slow, head) = listen(&lab, "flow")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
    lab.start(Side::Server, "pulses", &["curl", "-sSN", "http://127.0.0.1:8000/events?types=pulse"], &[])?;
    let agent = binary()?.to_string_lossy().into_owned();
    // More events than fit into the ring and every buffer on the way.
    let generate = ["bench", "generate", "--interface", "cli0", "--flows", "1000", "--packets", "4"];
    let argv: Vec<&str> =
        [agent.as_str()].into_iter().chain(generate).chain(["--rate", "8000", "--seconds", "180"]).collect();
    lab.start(Side::Client, "generate", &argv, &[])?;
    let (begun, mut piece) = (Instant::now(), [0; 4096]);
    loop {
        // Some 80 KiB a second, of far more.
        for _ in 0..20 {
            let read = slow.read(&mut piece).context("the stream broke off")?;
            ensure!(read > 0, "the stream ended, and nobody was counted as too slow\n{}", lab.log("sensor"));
            thread::sleep(Duration::from_millis(50));
        }
        if metric(&lab, "ml_ids_event_listeners_cut_total").is_ok_and(|cut| cut >= 1.0) {
            break;
        }
        ensure!(begun.elapsed() < Duration::from_secs(120), "nobody was cut off\n{}", lab.log("sensor"));
    }
    lab.stop("generate", libc::SIGKILL)?;
    // What was on its way arrives, then there is an end. The last words are among it unless the machine is very busy.
    slow.read_to_end(&mut Vec::new()).context("the stream goes on after the client was cut off")?;
    let places = || sensor::health(&lab).map(|health| health["queues"]["events"]["length"].clone());
    wait_until(LIMIT, || places().is_ok_and(|length| length == 1)).with_context(|| format!("{:?} listen", places()))?;
    let heard = of_kind(&lab.log("pulses"), "pulse").len();
    wait_until(LIMIT, || of_kind(&lab.log("pulses"), "pulse").len() > heard)
        .context("others no longer hear anything")?;
    lab.stop("pulses", libc::SIGKILL)?;
    sensor::stop(&mut lab, libc::SIGINT)
}
