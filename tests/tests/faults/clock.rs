//! The wall clock is set back an hour while flows are open. The sensor sees it so through a library before the C library's
//! clock; the kernel's own clock goes on, as it does when the real one is set.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
    process::Command,
    thread::sleep,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    agent, fixture,
    lab::{Lab, SERVER_V4, Side, wait_until},
    sensor,
};
use serde_json::Value;

use super::{LIMIT, start};

const BACK: i64 = 3600;
/// Flows of a scan of 500 ports that are in alerts at least: more than half, so that what is left of the first scan is not
/// taken for the second. Not each of them passes its threshold.
const MOST_OF_A_SCAN: u64 = 300;
/// Seconds that things may take on a busy machine before the two sides of the step are told apart no more.
const NEAR: f64 = 600.0;

fn unix_now() -> Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64())
}

/// A clock that is moved by what is written to the file.
fn build(folder: &Path) -> Result<(String, File)> {
    let (library, source) = (folder.join("clock.so"), fixture("clock_set_back.c"));
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-shared", "-fPIC", "-Wall", "-Werror", "-o"]).args([&library, &source]).arg("-ldl");
    agent::run(&mut cc, b"", LIMIT)?.expect(0)?;
    let file = File::options().create(true).truncate(true).write(true).open(folder.join("clock"))?;
    file.write_all_at(&0_i64.to_ne_bytes(), 0)?;
    Ok((library.to_string_lossy().into_owned(), file))
}

fn scan(lab: &Lab, ports: &str) -> Result<()> {
    lab.succeed(Side::Client, &["nmap", "-sS", "-Pn", "-n", "-T4", "-p", ports, SERVER_V4]).map(drop)
}

fn get(lab: &Lab, path: &str) -> Result<Value> {
    Ok(serde_json::from_str(&lab.get(&format!("http://127.0.0.1:8000{path}"))?)?)
}

/// Flows in alerts so far.
fn alerted(lab: &Lab) -> Result<(usize, u64)> {
    let answer = get(lab, "/alerts")?;
    let alerts = answer["alerts"].as_array().with_context(|| answer.to_string())?;
    Ok((alerts.len(), alerts.iter().filter_map(|alert| alert["count"].as_u64()).sum()))
}

#[test]
fn a_clock_that_is_set_back_lengthens_no_flow_and_stops_no_alert() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    let (library, clock) = build(lab.directory())?;
    let file = lab.directory().join("clock").to_string_lossy().into_owned();
    start(&mut lab, &[], &[], &[("LD_PRELOAD", &library), ("CLOCK_FILE", &file)])?;
    scan(&lab, "1-500")?;
    wait_until(LIMIT, || alerted(&lab).is_ok_and(|(alerts, flows)| alerts > 0 && flows > MOST_OF_A_SCAN))
        .with_context(|| format!("no alert: {:?}\n{}", alerted(&lab), lab.log("sensor")))?;
    let (before, flows_before) = alerted(&lab)?;

    // A conversation that is open when the clock is set.
    let stop = lab.directory().join("stop");
    let talk = format!(
        "import os, socket, time\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.bind(('', 5555))\n\
         while not os.path.exists('{}'):\n s.sendto(b'x', ('{SERVER_V4}', 4444)); time.sleep(0.2)",
        stop.display()
    );
    let begun = unix_now()?;
    lab.start(Side::Client, "talk", &["python3", "-c", &talk], &[])?;
    sleep(Duration::from_secs(2));
    clock.write_all_at(&(-BACK).to_ne_bytes(), 0)?;
    sleep(Duration::from_secs(2));
    scan(&lab, "501-1000")?;
    wait_until(LIMIT, || alerted(&lab).is_ok_and(|(_, flows)| flows > flows_before + MOST_OF_A_SCAN))
        .with_context(|| format!("no further flows in alerts: {:?}\n{}", alerted(&lab), lab.log("sensor")))?;
    let (after, _) = alerted(&lab)?;
    ensure!(after <= before + 1, "the scan that went on is {after} alerts after {before}");

    // The timeline goes on, in order, by the new time.
    let set = || -> Result<Vec<f64>> {
        let timeline = get(&lab, "/timeline?seconds=900")?;
        Ok(timeline["time"].as_array().context("no times")?.iter().filter_map(Value::as_f64).collect())
    };
    wait_until(LIMIT, || set().is_ok_and(|times| times.len() > 2)).with_context(|| format!("{:?}", set()))?;
    let (times, now) = (set()?, unix_now()? - BACK as f64);
    ensure!(times.is_sorted() && times.iter().all(|time| (time - now).abs() < NEAR), "at {now}: {times:?}");
    let health = sensor::health(&lab)?;
    let uptime = health["uptime_seconds"].as_f64().context("no uptime")?;
    ensure!((0.0..NEAR).contains(&uptime), "{health}");

    fs::write(&stop, "")?;
    lab.wait("talk", LIMIT)?;
    let ended = unix_now()?;
    // Every flow has its verdict, or this fails.
    sensor::stop(&mut lab, libc::SIGTERM)?;
    let events = sensor::events(&lab)?;
    let flow = events.iter().find(|event| event["src_port"] == 5555).context("the conversation is not there")?;
    let text = |name: &str| flow["flow"][name].as_str().with_context(|| format!("no {name}: {flow}"));
    let (start, end) = (sensor::unix_seconds(text("start")?)?, sensor::unix_seconds(text("end")?)?);
    ensure!(start >= begun - BACK as f64 - 1.0 && end <= ended - BACK as f64 + 1.0, "{begun} to {ended}: {flow}");
    ensure!(end - start > 3.0 && end - start <= ended - begun, "{flow}");
    for event in &events {
        let age = event["flow"]["age"].as_u64().with_context(|| event.to_string())?;
        ensure!((age as f64) < NEAR, "a flow of {age} s: {event}");
    }
    Ok(())
}
