//! A real Prometheus and a real Alertmanager in the server's namespace of a laboratory, set up with the files of `deploy`,
//! and a receiver of what they notify of.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    agent::{Ended, LIMIT, run},
    cached,
    lab::{Lab, Side, wait_until},
    root,
};

/// Where Prometheus answers, in the server's namespace.
const PROMETHEUS: &str = "http://127.0.0.1:9090";
/// Where Alertmanager does.
const ALERTMANAGER: &str = "http://127.0.0.1:9093";
/// Where notifications go.
const RECEIVER: &str = "127.0.0.1:9099";
/// Both are there within a second or two on an idle machine.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// Notifications that are let in, larger ones are cut off.
const LARGEST: u64 = 1 << 20;

/// Tells at once and repeats nothing.
const ALERTMANAGER_CONFIG: &str = "\
route: {receiver: test, group_by: [alertname, instance], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}
receivers: [{name: test, webhook_configs: [{url: 'http://127.0.0.1:9099/', send_resolved: true}]}]
";

/// The files that are deployed.
#[must_use]
pub fn deployed(part: &str) -> PathBuf {
    root().join("deploy").join(part)
}

/// Runs promtool, in the folder of the rules. `None`, said loudly, if setup has not put it in place.
///
/// # Errors
/// When it cannot be started.
pub fn promtool(arguments: &[&str], input: &[u8]) -> Result<Option<Ended>> {
    let Some(promtool) = cached("tools/servers/usr/bin/promtool")? else { return Ok(None) };
    let mut command = Command::new(promtool);
    command.args(arguments).current_dir(deployed("prometheus"));
    Ok(Some(run(&mut command, input, LIMIT * 3)?))
}

/// The servers, running.
pub struct Monitoring {
    notified: Arc<Mutex<Vec<Value>>>,
}

impl Monitoring {
    /// Starts both with this configuration of Prometheus. `None`, said loudly, if setup has not put them in place.
    ///
    /// # Errors
    /// When one does not come up.
    pub fn start(lab: &mut Lab, config: &str) -> Result<Option<Self>> {
        let (Some(prometheus), Some(alertmanager)) =
            (cached("tools/servers/usr/bin/prometheus")?, cached("tools/servers/usr/bin/prometheus-alertmanager")?)
        else {
            return Ok(None);
        };
        let notified = receive(lab)?;
        let folder = lab.directory().to_owned();
        let file = |name: &str, text: &str| -> Result<String> {
            let path = folder.join(name);
            fs::write(&path, text)?;
            Ok(path.to_string_lossy().into_owned())
        };
        let data = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let (config, routes) = (file("prometheus.yml", config)?, file("alertmanager.yml", ALERTMANAGER_CONFIG)?);
        let mut argv = at_home(&alertmanager)?;
        argv.extend(
            [
                &*format!("--config.file={routes}"),
                &format!("--storage.path={}", data("alertmanager")),
                "--web.listen-address=127.0.0.1:9093",
                "--cluster.listen-address=",
            ]
            .map(str::to_owned),
        );
        start(lab, "alertmanager", &argv)?;
        let mut argv = at_home(&prometheus)?;
        argv.extend(
            [
                &*format!("--config.file={config}"),
                &format!("--storage.tsdb.path={}", data("prometheus")),
                "--web.listen-address=127.0.0.1:9090",
            ]
            .map(str::to_owned),
        );
        start(lab, "prometheus", &argv)?;
        for (name, url) in [("alertmanager", ALERTMANAGER), ("prometheus", PROMETHEUS)] {
            let ready = format!("{url}/-/ready");
            let up = || lab.succeed(Side::Server, &["curl", "-sSf", "--max-time", "5", &ready]).is_ok();
            wait_until(STARTS_WITHIN, up).with_context(|| format!("no {name}:\n{}", lab.log(name)))?;
        }
        Ok(Some(Self { notified }))
    }

    /// What Prometheus answers to an expression: its samples.
    ///
    /// # Errors
    /// When it does not understand the expression.
    pub fn query(&self, lab: &Lab, expression: &str) -> Result<Vec<Value>> {
        let (query, url) = (format!("query={expression}"), format!("{PROMETHEUS}/api/v1/query"));
        let body = lab.succeed(Side::Server, &["curl", "-sS", "--max-time", "10", "--data-urlencode", &query, &url])?;
        let answer: Value = serde_json::from_str(&body).with_context(|| body.clone())?;
        ensure!(answer["status"] == "success", "{expression}: {body}");
        Ok(answer["data"]["result"].as_array().cloned().unwrap_or_default())
    }

    /// The targets as Prometheus sees them.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn targets(&self, lab: &Lab) -> Result<Vec<Value>> {
        let answer: Value = serde_json::from_str(&lab.get(&format!("{PROMETHEUS}/api/v1/targets?state=active"))?)?;
        Ok(answer["data"]["activeTargets"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until Alertmanager has told the receiver of an alert in this state, `firing` or `resolved`. Returns it.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_for_alert(&self, lab: &Lab, name: &str, status: &str, limit: Duration) -> Result<Value> {
        let mut found = None;
        wait_until(limit, || {
            let notified = self.notified.lock().unwrap_or_else(PoisonError::into_inner);
            let mut alerts = notified.iter().filter_map(|told| told["alerts"].as_array()).flatten();
            found = alerts.find(|alert| alert["labels"]["alertname"] == name && alert["status"] == status).cloned();
            found.is_some()
        })
        .with_context(|| {
            let (prometheus, alertmanager) = (lab.log("prometheus"), lab.log("alertmanager"));
            format!("{name} is not {status}; Prometheus:\n{prometheus}\nAlertmanager:\n{alertmanager}")
        })?;
        found.context("nothing found")
    }
}

/// Takes notifications, on a thread that ends with the process.
fn receive(lab: &Lab) -> Result<Arc<Mutex<Vec<Value>>>> {
    let listener = lab.within(Side::Server, || Ok(TcpListener::bind(RECEIVER)?))?;
    let notified = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&notified);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            match notification(stream) {
                Ok(told) => kept.lock().unwrap_or_else(PoisonError::into_inner).push(told),
                Err(error) => eprintln!("the receiver of notifications: {error:#}"),
            }
        }
    });
    Ok(notified)
}

/// Reads one request and answers that all is well.
fn notification(mut stream: TcpStream) -> Result<Value> {
    stream.set_read_timeout(Some(LIMIT))?;
    let mut reader = BufReader::new(stream.try_clone()?.take(LARGEST));
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
    Ok(serde_json::from_slice(&body)?)
}

/// How a program is started that looks for its own files in `/usr/share`, where they are not, as it was only unpacked: with
/// what was unpacked mounted there. Seen by the program alone: each command in a laboratory has mounts of its own.
fn at_home(program: &Path) -> Result<Vec<String>> {
    let share = program.ancestors().nth(2).context("a program in no package")?.join("share");
    let script = r#"mount --bind "$0" /usr/share && exec "$@""#;
    Ok(["sh", "-c", script, text(&share)?, text(program)?].map(str::to_owned).to_vec())
}

fn start(lab: &mut Lab, name: &str, argv: &[String]) -> Result<()> {
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    lab.start(Side::Server, name, &argv, &[])
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no text")
}
