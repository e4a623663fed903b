//! Everybody wants something at once: a flood of packets into a small flow table, and as many requests to `/predict` as the
//! server takes. The books of both balance, and whoever asks how it is gets an answer.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    binary,
    lab::{Lab, Side, wait_until},
    sensor,
};
use serde_json::Value;

use super::{LIMIT, start};

const CLIENTS: usize = 64;
/// Seconds.
const FLOOD: &str = "6";
const REQUEST: &[u8] =
    b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 48\r\n\r\n\
    {\"Flow Duration\": 4987, \"Total Fwd Packets\": 12}";

/// Asks again and again. Counts answers with a verdict, and those that say that there are too many.
fn ask(going: &AtomicBool, judged: &AtomicU64, refused: &AtomicU64) -> Result<()> {
    let mut stream = TcpStream::connect("127.0.0.1:8000")?;
    stream.set_read_timeout(Some(LIMIT))?;
    let mut answer = vec![0; 64 << 10];
    while going.load(Ordering::Relaxed) {
        stream.write_all(REQUEST)?;
        let mut length = 0;
        let whole = loop {
            let read = stream.read(answer.get_mut(length..).context("an answer without end")?)?;
            ensure!(read > 0, "the server closed a connection");
            length += read;
            let text = String::from_utf8_lossy(answer.get(..length).unwrap_or_default());
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let announced = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= announced.context("an answer without a length")?.parse::<usize>()? {
                break text.into_owned();
            }
        };
        match whole.split(' ').nth(1) {
            Some("200") if whole.contains("prediction") => judged.fetch_add(1, Ordering::Relaxed),
            Some("429" | "503") => refused.fetch_add(1, Ordering::Relaxed),
            _ => anyhow::bail!("{whole}"),
        };
    }
    Ok(())
}

/// Requests to `/predict` that the server says it has answered with a status.
fn answered(metrics: &str, status: &str) -> u64 {
    let wanted = format!("ml_ids_api_requests_total{{endpoint=\"/predict\",status=\"{status}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&wanted)?.parse().ok()).unwrap_or(0)
}

/// Whether a child has ended, without waiting for it.
fn has_ended(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, fields)| fields.starts_with('Z'))
}

#[test]
fn a_flood_of_packets_and_one_of_requests_leave_both_books_balanced() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    start(&mut lab, &[], &["--max-flows", "4096", "--ring-bytes", "1048576"], &[])?;
    let agent = binary()?.to_string_lossy().into_owned();
    let flood = ["bench", "generate", "--flows", "8000000", "--packets", "2", "--seconds", FLOOD];
    lab.start(Side::Client, "flood", &[&[agent.as_str()], &flood[..]].concat(), &[])?;

    let flooding = lab.pid("flood")?;

    let (going, judged, refused) = (AtomicBool::new(true), AtomicU64::new(0), AtomicU64::new(0));
    let mut healthy = 0;
    thread::scope(|scope| -> Result<()> {
        let (lab, asking) = (&mut lab, (&going, &judged, &refused));
        // The threads join the server's namespace and leave it by ending.
        let clients = lab.within(Side::Server, || {
            Ok((0..CLIENTS).map(|_| scope.spawn(move || ask(asking.0, asking.1, asking.2))).collect::<Vec<_>>())
        })?;
        let watched = wait_until(LIMIT, || {
            // curl gives up after five seconds.
            healthy += u32::from(sensor::health(lab).is_ok_and(|health| health["model"].is_object()));
            thread::sleep(Duration::from_millis(50));
            has_ended(flooding)
        });
        going.store(false, Ordering::Relaxed);
        for client in clients {
            client.join().ok().context("a client panicked")??;
        }
        watched.with_context(|| lab.log("flood"))
    })?;
    ensure!(lab.wait("flood", LIMIT)? == Some(0), "{}", lab.log("flood"));
    ensure!(healthy >= 5, "only {healthy} answers of /health in {FLOOD} s");

    let (judged, refused) = (judged.into_inner(), refused.into_inner());
    let metrics = lab.get("http://127.0.0.1:8000/metrics")?;
    ensure!(
        judged > 0 && answered(&metrics, "200") == judged,
        "{judged} verdicts, and the server counts otherwise:\n{metrics}"
    );
    ensure!(answered(&metrics, "429") + answered(&metrics, "503") == refused, "{refused} refused:\n{metrics}");
    let health = sensor::health(&lab)?;
    let seen = health.pointer("/sensor/packets/ingress/seen").and_then(Value::as_u64).unwrap_or(0);
    ensure!(seen > 40_000, "that was no flood: {seen} packets");
    println!("{seen} packets, {judged} verdicts to clients, {refused} turned away, {healthy} looks at /health");
    // Each flow was judged, or is counted as one that was not.
    sensor::stop(&mut lab, libc::SIGTERM)
}
