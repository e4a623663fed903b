//! What an operator deploys: Prometheus scrapes a live sensor by TLS and token, its rules and the dashboard's expressions
//! find the sensor's numbers, and Alertmanager tells when the sensor is gone and when it is back.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    binary,
    lab::{CLIENT_V4, Lab, SERVER_IF, Side, wait_until},
    prometheus::{Monitoring, deployed, promtool},
};
use serde_json::Value;

/// Longest wait for anything; all together take seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);
const TOKEN: &str = "a-token-for-tests-0123456789";
const METRICS: &str = "https://127.0.0.1:8000/metrics";

/// Names of metrics in a text, those of recording rules included.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
    let words = text.split(|letter| !is_part(letter));
    let ours = |word: &&str| {
        ["ml_ids_", "process_", "instance:ml_ids_", "instance_class:ml_ids_"]
            .iter()
            .any(|start| word.starts_with(start))
    };
    words.filter(ours).map(str::to_owned).collect()
}

/// What exists: the metrics of `docs/API.md`, which another test compares with the agent's, and the recording rules.
fn known() -> Result<BTreeSet<String>> {
    let page = fs::read_to_string(ml_ids_tests::root().join("docs/API.md"))?;
    let mut known = BTreeSet::new();
    for row in page.lines().filter(|line| line.starts_with("| `ml_ids_") || line.starts_with("| `process_")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        for name in names(cells[1]) {
            if cells[2] == "histogram" {
                known.extend(["_bucket", "_sum", "_count"].map(|part| format!("{name}{part}")));
            } else {
                known.insert(name);
            }
        }
    }
    let rules = fs::read_to_string(deployed("prometheus/recording.rules.yml"))?;
    known.extend(rules.lines().filter_map(|line| line.trim().strip_prefix("- record: ")).map(str::to_owned));
    Ok(known)
}

fn dashboard() -> Result<Value> {
    Ok(serde_json::from_str(&fs::read_to_string(deployed("grafana/ml-ids.json"))?)?)
}

/// All strings under keys of this name.
fn strings(value: &Value, key: &str, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| strings(item, key, found)),
        Value::Object(fields) => {
            for (name, field) in fields {
                if let (true, Some(text)) = (name == key, field.as_str()) {
                    found.push(text.to_owned());
                }
                strings(field, key, found);
            }
        }
        _ => {}
    }
}

#[test]
fn rules_are_right_and_each_alert_fires_when_it_should_and_only_then() -> Result<()> {
    let arguments = ["check", "rules", "recording.rules.yml", "alerts.rules.yml"];
    let Some(checked) = promtool(&arguments, b"")? else { return Ok(()) };
    checked.expect(0)?;
    let Some(tested) = promtool(&["test", "rules", "tests.yml"], b"")? else { return Ok(()) };
    ensure!(tested.code == Some(0), "{}{}", String::from_utf8_lossy(&tested.stdout), tested.stderr);
    let Some(checked) = promtool(&["check", "config", "--syntax-only", "prometheus.yml"], b"")? else { return Ok(()) };
    checked.expect(0)?;
    Ok(())
}

#[test]
fn every_alert_says_what_it_is_and_what_to_do_and_is_tested() -> Result<()> {
    let rules = fs::read_to_string(deployed("prometheus/alerts.rules.yml"))?;
    let tests = fs::read_to_string(deployed("prometheus/tests.yml"))?;
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    ensure!(alerts.len() > 10, "{rules}");
    for alert in alerts {
        let name = alert.lines().next().unwrap_or_default();
        for part in ["severity:", "summary:", "description:", "runbook:"] {
            ensure!(alert.contains(part), "{name} has no {part}");
        }
        ensure!(
            tests.contains(&format!("alertname=\"{name}\", alertstate=\"firing\"")),
            "{name} never fires in a test"
        );
    }
    Ok(())
}

#[test]
fn each_alert_rule_has_its_entry_in_the_runbook() -> Result<()> {
    let rules = fs::read_to_string(deployed("prometheus/alerts.rules.yml"))?;
    let operations = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/OPERATIONS.md"))?;
    let names: BTreeSet<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let entries: BTreeSet<&str> = operations.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    ensure!(names.len() > 10, "{names:?}");
    let runbook: BTreeSet<&str> = entries.iter().copied().filter(|entry| entry.starts_with("MlIds")).collect();
    ensure!(names == runbook, "rules {names:?}, entries {runbook:?}");
    Ok(())
}

#[test]
fn rules_and_dashboard_name_no_metric_that_there_is_not() -> Result<()> {
    let known = known()?;
    for file in ["recording.rules.yml", "alerts.rules.yml", "tests.yml"].map(|file| format!("prometheus/{file}")) {
        for line in fs::read_to_string(deployed(&file))?.lines() {
            // In words, a histogram is called by its name; expressions need its parts.
            let words = ["summary:", "description:", "runbook:"].iter().any(|part| line.trim().starts_with(part));
            for name in names(line) {
                let there = known.contains(&name) || (words && known.contains(&format!("{name}_bucket")));
                ensure!(there, "{file} names {name}, which there is not: {line}");
            }
        }
    }
    let mut expressions = Vec::new();
    strings(&dashboard()?, "expr", &mut expressions);
    ensure!(expressions.len() > 50, "{expressions:?}");
    for expression in expressions {
        for name in names(&expression) {
            ensure!(known.contains(&name), "the dashboard names {name}, which there is not: {expression}");
        }
    }
    Ok(())
}

#[test]
fn panels_have_a_number_a_description_and_a_place_of_their_own() -> Result<()> {
    let dashboard = dashboard()?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let (mut numbers, mut places) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        ensure!(numbers.insert(panel["id"].as_u64()), "a number twice: {panel}");
        ensure!(
            places.insert((panel["gridPos"]["x"].as_u64(), panel["gridPos"]["y"].as_u64())),
            "a place twice: {panel}"
        );
        ensure!(
            panel["type"] == "row" || panel["description"].as_str().is_some_and(|text| !text.is_empty()),
            "{panel}"
        );
    }
    Ok(())
}

/// The deployed configuration with this laboratory's sensor, files and patience.
fn config(folder: &Path) -> Result<String> {
    let deployed = |file: &str| fs::read_to_string(deployed(&format!("prometheus/{file}")));
    let place = |file: &str| folder.join(file).to_string_lossy().into_owned();
    fs::write(folder.join("recording.rules.yml"), deployed("recording.rules.yml")?)?;
    fs::write(folder.join("alerts.rules.yml"), deployed("alerts.rules.yml")?.replacen("for: 2m", "for: 1s", 1))?;
    let (token, certificate) = (place("token"), place("server.pem"));
    let mut config = deployed("prometheus.yml")?;
    for (from, to) in [
        ("scrape_interval: 15s", "scrape_interval: 1s"),
        ("evaluation_interval: 15s", "evaluation_interval: 1s"),
        ("/etc/prometheus/ml-ids.token", token.as_str()),
        ("/etc/prometheus/ml-ids-ca.pem", &certificate),
        ("sensor.example.org:8000", "127.0.0.1:8000"),
    ] {
        ensure!(config.contains(from), "{from} is not in prometheus.yml");
        config = config.replace(from, to);
    }
    Ok(config)
}

fn start_sensor(lab: &mut Lab) -> Result<()> {
    let (binary, folder) = (binary()?, lab.directory().to_owned());
    let place = |file: &str| folder.join(file).to_string_lossy().into_owned();
    let (binary, logs) = (binary.to_string_lossy().into_owned(), place("logs"));
    let (token, certificate, key) = (place("token"), place("server.pem"), place("server.key"));
    let argv = [binary.as_str(), "run", "-i", SERVER_IF, "--attach", "host", "--log-dir", &logs, "--linger", "0.1"];
    let access = ["--token-file", &token, "--tls-cert", &certificate, "--tls-key", &key];
    let state = place("state");
    let environment = [("ML_IDS_STATE_DIR", state.as_str()), ("LOG_NEGATIVE_PREDICTIONS", "true")];
    lab.start(Side::Server, "sensor", &[argv.as_slice(), &access].concat(), &environment)?;
    wait_until(PATIENCE, || scrape(lab).is_ok_and(|text| text.contains("\nml_ids_ready 1.0")))
        .with_context(|| format!("the sensor did not become ready:\n{}", lab.log("sensor")))
}

/// The sensor's metrics as they are now.
fn scrape(lab: &Lab) -> Result<String> {
    let (certificate, bearer) = (lab.directory().join("server.pem"), format!("authorization: Bearer {TOKEN}"));
    let certificate = certificate.to_string_lossy();
    lab.succeed(Side::Server, &["curl", "-sSf", "--max-time", "5", "--cacert", &certificate, "-H", &bearer, METRICS])
}

fn make_secrets(lab: &Lab) -> Result<()> {
    let place = |file: &str| lab.directory().join(file).to_string_lossy().into_owned();
    fs::write(place("token"), format!("{TOKEN}\n"))?;
    fs::set_permissions(place("token"), fs::Permissions::from_mode(0o600))?;
    let (certificate, key) = (place("server.pem"), place("server.key"));
    let mut openssl = vec!["openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=sensor", "-addext"];
    openssl.extend(["subjectAltName=IP:127.0.0.1", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    openssl.extend(["-keyout", &key, "-out", &certificate]);
    lab.succeed(Side::Server, &openssl).map(|_| ())
}

/// Connections from both sides, some of which the sensor judges within a second.
fn send_traffic(lab: &Lab) -> Result<()> {
    // Refused connections: two packets and a flow that is over each.
    for port in 1000..1040 {
        let address = format!("http://{CLIENT_V4}:{port}");
        let refused = lab.output(Side::Server, &["curl", "-s", "--max-time", "5", &address])?;
        ensure!(refused.status.code() == Some(7), "{address}: {refused:?}");
    }
    Ok(())
}

fn value(samples: &[Value]) -> Option<f64> {
    samples.first()?["value"][1].as_str()?.parse().ok()
}

/// The expressions of the dashboard with what Grafana puts in for its variables.
fn asked_by_grafana() -> Result<Vec<String>> {
    let mut expressions = Vec::new();
    strings(&dashboard()?, "expr", &mut expressions);
    let filled = |text: String| {
        let text = text.replace("$__rate_interval", "10s").replace("$__range", "1m");
        text.replace("$job", "ml-ids").replace("$instance", ".*")
    };
    Ok(expressions.into_iter().map(filled).collect())
}

#[test]
fn prometheus_reads_a_live_sensor_and_alertmanager_tells_when_it_is_gone_and_back() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    make_secrets(&lab)?;
    let config = config(lab.directory())?;
    let Some(monitoring) = Monitoring::start(&mut lab, &config)? else { return Ok(()) };
    start_sensor(&mut lab)?;
    send_traffic(&lab)?;

    let mut targets = Vec::new();
    wait_until(PATIENCE, || {
        targets = monitoring.targets(&lab).unwrap_or_default();
        targets.len() == 1 && targets.iter().all(|target| target["health"] == "up")
    })
    .with_context(|| format!("{targets:?}\n{}", lab.log("prometheus")))?;
    numbers_agree(&lab, &monitoring)?;
    metrics_are_in_order(&lab)?;
    for expression in asked_by_grafana()? {
        monitoring.query(&lab, &expression)?;
    }

    lab.kill("sensor")?;
    let down = monitoring.wait_for_alert(&lab, "MlIdsDown", "firing", PATIENCE)?;
    ensure!(down["labels"]["instance"] == "127.0.0.1:8000" && down["labels"]["severity"] == "page", "{down}");
    let said = down["annotations"]["summary"].as_str().unwrap_or_default();
    ensure!(said == "127.0.0.1:8000 does not answer" && down["annotations"]["runbook"].is_string(), "{down}");
    start_sensor(&mut lab)?;
    monitoring.wait_for_alert(&lab, "MlIdsDown", "resolved", PATIENCE)?;
    Ok(())
}

/// What Prometheus has is what the sensor says, once nothing moves any more.
fn numbers_agree(lab: &Lab, monitoring: &Monitoring) -> Result<()> {
    let told = |text: &str, name: &str| -> f64 {
        let samples = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    let names = ["ml_ids_packets_total", "ml_ids_flows_ended_total", "ml_ids_verdict_delay_seconds_count"];
    let mut last = String::new();
    wait_until(PATIENCE, || {
        let Ok(text) = scrape(lab) else { return false };
        let found = names.map(|name| monitoring.query(lab, &format!("sum({name})")).ok().as_deref().and_then(value));
        last = format!("{found:?} for {names:?} of\n{text}");
        names
            .iter()
            .zip(found)
            .all(|(name, found)| found.is_some_and(|found| found >= 40.0 && found == told(&text, name)))
    })
    .with_context(|| last)
}

/// The page of a live sensor: promtool finds nothing to improve, and every metric of it is documented.
fn metrics_are_in_order(lab: &Lab) -> Result<()> {
    let text = scrape(lab)?;
    let Some(checked) = promtool(&["check", "metrics"], text.as_bytes())? else { return Ok(()) };
    ensure!(checked.code == Some(0) && checked.stderr.is_empty(), "{}\n{text}", checked.stderr);
    let known = known()?;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        ensure!(known.contains(name), "docs/API.md does not list {name}");
    }
    Ok(())
}
