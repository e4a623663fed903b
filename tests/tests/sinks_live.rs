//! A live sensor whose events go to rsyslog: the server is killed and comes back, the sensor goes on judging and says what is
//! wrong, and in the end every flow that it has judged is there.

use std::{collections::BTreeSet, fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    lab::{Lab, SERVER_IF, SERVER_V4, Side, wait_until},
    sensor,
    servers::Rsyslog,
};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

fn start_rsyslog(lab: &mut Lab, rsyslog: &Rsyslog) -> Result<()> {
    let command = rsyslog.command();
    let mut argv = vec![command.get_program().to_string_lossy().into_owned()];
    argv.extend(command.get_args().map(|argument| argument.to_string_lossy().into_owned()));
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    let environment: Vec<(String, String)> = command
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_string_lossy().into_owned(), value?.to_string_lossy().into_owned())))
        .collect();
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (&**name, &**value)).collect();
    rsyslog.forget()?;
    lab.start_group(Side::Server, "rsyslog", &argv, &environment)?;
    let port = format!(":{}", rsyslog.port);
    let listens = || lab.succeed(Side::Server, &["ss", "-Htln"]).is_ok_and(|table| table.contains(&port));
    wait_until(SOON, listens).with_context(|| format!("no rsyslog:\n{}", lab.log("rsyslog")))
}

fn scan(lab: &Lab, ports: &str) -> Result<()> {
    lab.succeed(Side::Client, &["nmap", "-sS", "-Pn", "-n", "-T4", "-p", ports, SERVER_V4]).map(drop)
}

fn syslog(lab: &Lab) -> Result<Value> {
    let health = sensor::health(lab)?;
    let sinks = health.pointer("/sensor/sinks").and_then(Value::as_array).context("no sinks")?;
    sinks.iter().find(|sink| sink["name"] == "syslog").cloned().context("no syslog")
}

#[test]
fn every_judged_flow_is_in_the_syslog_although_the_server_was_away_and_judging_went_on() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    let folder = lab.directory().join("rsyslog");
    fs::create_dir(&folder)?;
    let Some(rsyslog) = Rsyslog::prepare(&folder)? else { return Ok(()) };
    start_rsyslog(&mut lab, &rsyslog)?;
    let address = format!("syslog+tcp://127.0.0.1:{}?types=flow", rsyslog.port);
    let local = format!("syslog+unix://{}", rsyslog.socket().display());
    let watch = ["-i", SERVER_IF, "--attach", "host", "--log-format", "json"];
    let flags = [&watch[..], &["--sink", &address, "--sink", &local, "--eve", "flow"]].concat();
    sensor::start(&mut lab, &flags)?;
    scan(&lab, "1-200")?;
    wait_until(SOON, || syslog(&lab).is_ok_and(|sink| sink["delivered"].as_u64() > Some(50)))
        .with_context(|| format!("nothing arrives: {:?}", syslog(&lab)))?;

    lab.kill("rsyslog")?;
    let scored = |lab: &Lab| sensor::health(lab).ok()?.pointer("/sensor/verdicts/scored")?.as_u64();
    let before = scored(&lab).context("no verdicts")?;
    scan(&lab, "201-400")?;
    wait_until(SOON, || scored(&lab) >= Some(before + 100)).context("judging has stopped")?;
    wait_until(SOON, || syslog(&lab).is_ok_and(|sink| sink["failure"].is_string())).context("it does not say so")?;
    let health = sensor::health(&lab)?;
    ensure!(health["status"] == "degraded" && health["reasons"].to_string().contains("syslog"), "{health}");

    start_rsyslog(&mut lab, &rsyslog)?;
    wait_until(SOON, || syslog(&lab).is_ok_and(|sink| sink["waiting"] == 0 && sink["failure"].is_null()))
        .with_context(|| format!("it does not recover: {:?}", syslog(&lab)))?;

    // The operator moves the event log away.
    let logs = lab.directory().join("logs");
    fs::rename(logs.join("eve.json"), logs.join("moved"))?;
    let pid = lab.pid("sensor")?.to_string();
    lab.succeed(Side::Server, &["kill", "-HUP", &pid])?;
    wait_until(SOON, || logs.join("eve.json").exists()).context("SIGHUP opens no new event log")?;
    scan(&lab, "401-450")?;
    sensor::stop(&mut lab, libc::SIGTERM)?;

    let number = |event: &Value| event["flow_id"].as_u64().context("no flow_id");
    let judged: BTreeSet<u64> = sensor::events(&lab)?.iter().map(number).collect::<Result<_>>()?;
    ensure!(judged.len() > 400, "only {} flows", judged.len());
    for (name, text) in [
        ("syslog", fs::read_to_string(rsyslog.output())?),
        ("eve.json", fs::read_to_string(logs.join("moved"))? + &fs::read_to_string(logs.join("eve.json"))?),
    ] {
        let mut found = BTreeSet::new();
        for line in text.lines() {
            let json = &line[line.find('{').with_context(|| format!("{name}: {line}"))?..];
            found.insert(number(&serde_json::from_str(json).with_context(|| format!("{name}: {line}"))?)?);
        }
        let missing = judged.difference(&found).count();
        ensure!(missing == 0, "{missing} of {} flows are not in {name}", judged.len());
    }
    let text = fs::read_to_string(rsyslog.output())?;
    let alert =
        text.lines().find(|line| line.contains("\"event_type\":\"alert\"")).context("no alert in the syslog")?;
    ensure!(alert.starts_with("ml-ids|") && alert.contains("\"change\":\"opened\""), "{alert}");
    let log = lab.log("sensor");
    for line in log.lines() {
        let line: Value =
            serde_json::from_str(line).with_context(|| format!("no JSON in the sensor's own log: {line}"))?;
        ensure!(line["level"].is_string() && line["message"].is_string(), "{line}");
    }
    ensure!(log.matches("syslog does not take events").count() == 1, "said more than once, or never:\n{log}");
    Ok(())
}
