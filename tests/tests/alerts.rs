//! Alerts of a live sensor: one for a scan of a thousand ports, told to those who listen, kept over a kill, acknowledged while
//! the sensor runs, and still made when nothing can be written.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    agent::{LIMIT, Scratch, ml_ids, run},
    fixture,
    lab::{CLIENT_V4, Lab, SERVER_IF, SERVER_V4, Side, wait_until},
    sensor,
};
use serde_json::Value;

const ALERTS: &str = "http://127.0.0.1:8000/alerts";

/// A sensor whose alerts are kept in `database`.
fn start(lab: &mut Lab, database: &Path) -> Result<()> {
    let database = database.to_string_lossy().into_owned();
    sensor::start(lab, &["-i", SERVER_IF, "--attach", "host", "--alert-db", &database])
}

/// Scans a thousand ports, which is an attack that the default model knows.
fn scan(lab: &Lab) -> Result<()> {
    lab.succeed(Side::Client, &["nmap", "-sS", "-Pn", "-n", "-T4", "-p", "1-1000", SERVER_V4]).map(drop)
}

fn alerts(lab: &Lab, query: &str) -> Result<Vec<Value>> {
    let answer: Value = serde_json::from_str(&lab.get(&format!("{ALERTS}{query}"))?)?;
    Ok(answer["alerts"].as_array().with_context(|| answer.to_string())?.clone())
}

/// Waits until there is an alert that this holds for.
fn wait_for(lab: &Lab, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
    let mut found = Vec::new();
    wait_until(Duration::from_secs(30), || {
        found = alerts(lab, "").unwrap_or_default();
        found.iter().any(&holds)
    })
    .with_context(|| format!("no alert {what} among {found:#?}\n{}", lab.log("sensor")))?;
    found.into_iter().find(holds).context("gone")
}

/// The alert events of a stream of server-sent events.
fn told(stream: &str) -> Vec<Value> {
    let data = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    data.filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn a_scan_is_one_alert_that_is_told_and_kept_over_a_kill() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    let database = lab.directory().join("kept/alerts.db");
    start(&mut lab, &database)?;
    lab.start(Side::Server, "events", &["curl", "-sSN", "http://127.0.0.1:8000/events"], &[])?;
    lab.wait_for_log("events", "retry: ")?;
    scan(&lab)?;
    let large = |alert: &Value| alert["ports"]["count"].as_u64() > Some(300);
    let alert = wait_for(&lab, "of the scan", large)?;
    let label = alert["label"].as_str().context("no label")?;
    ensure!(label.ends_with("Portscan") && alert["state"] == "open", "{alert:#}");
    ensure!(alert["src_ip"] == CLIENT_V4 && alert["dest_ip"] == SERVER_V4, "{alert:#}");
    ensure!(alert["mitre"][0]["id"] == "T1046", "{alert:#}");
    let all = alerts(&lab, "")?;
    ensure!(all.len() < 5, "{all:#?}");
    let of_scan = alerts(&lab, &format!("?limit=5&label={}", label.replace(' ', "+").to_lowercase()))?;
    ensure!(of_scan.len() == 1, "{of_scan:#?}");
    let id = alert["id"].as_u64().context("no id")?;
    ensure!(alerts(&lab, &format!("?before={id}"))?.iter().all(|alert| alert["id"].as_u64() < Some(id)));

    lab.wait_for_log("events", "\"count\":100,")?;
    lab.stop("events", libc::SIGKILL)?;
    let first = told(&lab.log("events"));
    ensure!(first[0]["event_type"] == "alert" && first[0]["alert"]["change"] == "opened", "{first:#?}");
    ensure!(first.len() < 20, "{} events for one scan", first.len());

    // Whoever comes back gets what has changed meanwhile, in its newest state.
    let after = format!("http://127.0.0.1:8000/events?after={id}");
    lab.start(Side::Server, "again", &["curl", "-sSN", &after], &[])?;
    lab.wait_for_log("again", "\"change\":\"grown\"")?;
    lab.stop("again", libc::SIGKILL)?;
    let again = told(&lab.log("again"));
    ensure!(again[0]["alert"]["id"] == id && again[0]["alert"]["count"].as_u64() >= Some(100), "{again:#?}");

    let path = database.to_string_lossy().into_owned();
    let number = id.to_string();
    ml_ids(&["alerts", "ack", &number, "--note", "our own", "--by", "ada", "--db", &path], b"")?.expect(0)?;
    let one = alerts(&lab, &format!("?id={id}"))?;
    ensure!(one[0]["ack"]["by"] == "ada" && one[0]["event"]["src_ip"] == CLIENT_V4, "{one:#?}");

    lab.stop("sensor", libc::SIGKILL)?;
    start(&mut lab, &database)?;
    let kept = wait_for(&lab, "after the kill", |alert| alert["id"] == id)?;
    ensure!(kept["state"] == "closed" && kept["ending"] == "lost", "{kept:#}");
    ensure!(kept["ack"]["note"] == "our own" && kept["count"].as_u64() >= Some(100), "{kept:#}");
    sensor::stop(&mut lab, libc::SIGINT)?;

    let listed = ml_ids(&["alerts", "list", "--db", &path, "--format", "jsonl", "--label", label], b"")?.expect(0)?;
    let listed: Value = serde_json::from_str(listed.text()?.lines().next().context("nothing is listed")?)?;
    ensure!(listed["id"] == id, "{listed:#}");
    let shown = ml_ids(&["alerts", "show", &number, "--db", &path], b"")?.expect(0)?;
    ensure!(
        ["Network Service Discovery", "seen by", "our own"]
            .iter()
            .all(|part| shown.text().is_ok_and(|text| text.contains(part)))
    );
    let csv = ml_ids(&["alerts", "export", "--db", &path, "--format", "csv", "--since", "1h"], b"")?.expect(0)?;
    ensure!(csv.text()?.lines().count() >= 2 && csv.text()?.starts_with("id,state,severity"), "{}", csv.text()?);
    Ok(())
}

/// A file system of its own that is taken away at the end.
struct Small(PathBuf);

impl Small {
    fn mount(folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder)?;
        run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"]).arg(&folder), b"", LIMIT)?
            .expect(0)?;
        Ok(Self(folder))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        if let Err(error) = Command::new("umount").arg("--lazy").arg(&self.0).status() {
            eprintln!("{} stays mounted: {error}", self.0.display());
        }
    }
}

#[test]
fn a_full_disk_stops_no_alert_is_said_once_and_is_made_good_when_there_is_room() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    let disk = Small::mount(lab.directory().join("small"))?;
    let database = disk.0.join("alerts.db");
    start(&mut lab, &database)?;
    // What is left of it.
    let filler = disk.0.join("filler");
    ensure!(fs::write(&filler, vec![0; 1 << 20]).is_err(), "the disk is larger than it should be");
    scan(&lab)?;
    let reasons = |lab: &Lab| -> Vec<String> {
        let health = sensor::health(lab).unwrap_or_default();
        let reasons = health["reasons"].as_array().cloned().unwrap_or_default();
        reasons.iter().filter_map(|reason| Some(reason.as_str()?.to_owned())).collect()
    };
    let failing = |lab: &Lab| reasons(lab).iter().any(|reason| reason.contains("alerts are not stored"));
    wait_until(Duration::from_secs(20), || failing(&lab)).with_context(|| lab.log("sensor"))?;
    // From memory.
    let alert = wait_for(&lab, "without a store", |alert| alert["ports"]["count"].as_u64() > Some(300))?;
    fs::remove_file(&filler)?;
    wait_until(Duration::from_secs(60), || !failing(&lab)).with_context(|| lab.log("sensor"))?;
    let log = lab.log("sensor");
    ensure!(log.matches("cannot be stored").count() == 1, "{log}");
    let path = database.to_string_lossy().into_owned();
    let listed = ml_ids(&["alerts", "list", "--db", &path, "--format", "jsonl"], b"")?.expect(0)?;
    ensure!(listed.text()?.contains(&alert["id"].to_string()), "{}", listed.text()?);
    sensor::stop(&mut lab, libc::SIGINT)
}

#[test]
fn the_story_in_the_documentation_is_what_the_command_makes_of_it() -> Result<()> {
    let folder = Scratch::new("story")?;
    let capture = folder.path("story.pcap");
    run(Command::new("python3").arg(fixture("story.py")).arg(&capture), b"", LIMIT)?.expect(0)?;
    let made = ml_ids(&["score", &capture, "--alerts"], b"")?.expect(0)?;
    let document = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ALERTS.md"))?;
    ensure!(
        document.contains(&format!("```\n{}```", made.text()?)),
        "docs/ALERTS.md is not up to date; `cargo xtask docs alerts` makes it anew of:\n{}",
        made.text()?
    );
    Ok(())
}
