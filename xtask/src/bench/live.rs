//! The live sensor under load: what it counts of what a generator in another namespace sends, at rising rates, and what it
//! takes. Small packets over ten thousand flows, over a million, and a flood of spoofed SYNs.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::figure::Figure;
use crate::{process, workspace};

const NAME: &str = "live";
pub(super) const CLIENT: &str = "mlids-bench-c";
pub(super) const SERVER: &str = "mlids-bench-s";
/// Seconds of each load.
const SECONDS: f64 = 5.0;
/// Clock ticks a second, as `/proc` counts CPU time.
pub(super) const TICKS: f64 = 100.0;

/// What the generator sends.
struct Load {
    name: &'static str,
    flows: &'static str,
    packets: &'static str,
    /// Packets a second; as many as possible if there is none.
    rate: Option<&'static str>,
    max_flows: &'static str,
}

const TABLE: &str = "131072";
const LARGE_TABLE: &str = "1048576";
const STEADY: &str = "1000000000";

const LOADS: [Load; 8] = [
    Load { name: "10,000 flows, 50,000/s", flows: "10000", packets: STEADY, rate: Some("50000"), max_flows: TABLE },
    Load { name: "10,000 flows, 100,000/s", flows: "10000", packets: STEADY, rate: Some("100000"), max_flows: TABLE },
    Load { name: "10,000 flows, 200,000/s", flows: "10000", packets: STEADY, rate: Some("200000"), max_flows: TABLE },
    Load { name: "10,000 flows, 400,000/s", flows: "10000", packets: STEADY, rate: Some("400000"), max_flows: TABLE },
    Load { name: "10,000 flows, all that goes", flows: "10000", packets: STEADY, rate: None, max_flows: TABLE },
    // In the loads above no flow ends while it is measured; here the agent has a verdict to give for every twentieth packet.
    Load {
        name: "flows of 20 packets, 10,000 ending a second, 200,000/s",
        flows: "10000",
        packets: "20",
        rate: Some("200000"),
        max_flows: TABLE,
    },
    Load {
        name: "1,000,000 flows, 200,000/s",
        flows: "1000000",
        packets: STEADY,
        rate: Some("200000"),
        max_flows: LARGE_TABLE,
    },
    Load { name: "SYN flood, all that goes", flows: "16000000", packets: "1", rate: None, max_flows: TABLE },
];

/// Measures each load with a sensor of its own.
pub(crate) fn run() -> anyhow::Result<Vec<Figure>> {
    ensure!(process::is_root(), "the live bench makes network namespaces and loads eBPF programs, which needs root");
    let mut figures = Vec::new();
    for load in &LOADS {
        figures.extend(measure(load).with_context(|| format!("load: {}", load.name))?);
    }
    Ok(figures)
}

/// Two namespaces and a veth pair; gone when dropped.
pub(super) struct Namespaces;

impl Namespaces {
    pub(super) fn build() -> anyhow::Result<Self> {
        // What an earlier run that was killed may have left.
        drop(Self);
        let namespaces = Self;
        ip(&["netns", "add", CLIENT])?;
        ip(&["netns", "add", SERVER])?;
        ip(&["link", "add", "cli0", "netns", CLIENT, "type", "veth", "peer", "name", "srv0", "netns", SERVER])?;
        for (namespace, interface) in [(CLIENT, "cli0"), (SERVER, "srv0")] {
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
            ip(&["-n", namespace, "link", "set", interface, "up"])?;
        }
        Ok(namespaces)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for namespace in [CLIENT, SERVER] {
            // It may not be there.
            let _ = process::stdout(Command::new("ip").args(["netns", "del", namespace]));
        }
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    process::visible(Command::new("ip").args(arguments))
}

pub(super) fn within(namespace: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]);
    command
}

/// A running sensor; killed when dropped.
pub(super) struct Sensor(Child);

impl Sensor {
    pub(super) fn start(max_flows: &str, logs: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(logs).context("cannot make a folder for logs")?;
        let mut command = within(SERVER);
        command.arg(workspace::agent("release")).args(["run", "-i", "srv0", "--attach", "host"]);
        command.args(["--max-flows", max_flows, "--log-dir"]).arg(logs).env("ML_IDS_STATE_DIR", logs);
        // A line for each verdict is the terminal's cost, not the sensor's.
        command.env("RUST_LOG", "error").stdout(Stdio::null()).stderr(Stdio::null());
        let sensor = Self(command.spawn().context("cannot start the sensor")?);
        let limit = Instant::now() + Duration::from_secs(60);
        while sensor.health("/health/ready").is_none_or(|ready| ready["status"] != "ready") {
            ensure!(Instant::now() < limit, "the sensor did not become ready");
            thread::sleep(Duration::from_millis(100));
        }
        Ok(sensor)
    }

    pub(super) fn health(&self, path: &str) -> Option<Value> {
        let url = format!("http://127.0.0.1:8000{path}");
        serde_json::from_str(&process::stdout(within(SERVER).args(["curl", "-s", &url]))?).ok()
    }

    /// CPU time so far in ticks, and resident memory in kilobytes.
    pub(super) fn takes(&self) -> anyhow::Result<(f64, f64)> {
        let folder = format!("/proc/{}", self.0.id());
        let stat = fs::read_to_string(format!("{folder}/stat")).context("the sensor is gone")?;
        let (_, fields) = stat.rsplit_once(") ").context("no fields in /proc/PID/stat")?;
        let ticks = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
        let status = fs::read_to_string(format!("{folder}/status")).context("the sensor is gone")?;
        let resident =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().split(' ').next()?.parse().ok());
        Ok((ticks, resident.context("no VmRSS")?))
    }
}

impl Drop for Sensor {
    fn drop(&mut self) {
        // Detaching by the kernel: it held the links.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn softirq_ticks() -> anyhow::Result<f64> {
    let stat = fs::read_to_string("/proc/stat").context("no /proc/stat")?;
    let field = stat.lines().next().and_then(|line| line.split_ascii_whitespace().nth(7));
    field.and_then(|ticks| ticks.parse().ok()).context("no softirq time in /proc/stat")
}

/// Packets that the sensor's interface has received so far by its own count.
fn received() -> anyhow::Result<f64> {
    let file = "/sys/class/net/srv0/statistics/rx_packets";
    let text = process::stdout(within(SERVER).args(["cat", file])).context("the interface has no counters")?;
    text.trim().parse().context("rx_packets is no number")
}

fn measure(load: &Load) -> anyhow::Result<Vec<Figure>> {
    let _namespaces = Namespaces::build()?;
    let sensor = Sensor::start(load.max_flows, &std::env::temp_dir().join("ml-ids-bench-live"))?;
    let seen = || -> anyhow::Result<f64> {
        let health = sensor.health("/health").context("the sensor does not answer")?;
        health.pointer("/sensor/packets/ingress/seen").and_then(Value::as_f64).context("no packets in /health")
    };
    let unseen_before = received()? - seen()?;
    let (cpu_before, _) = sensor.takes()?;
    let (softirq_before, began) = (softirq_ticks()?, Instant::now());
    let mut generate = within(CLIENT);
    generate.arg(workspace::agent("release")).args(["bench", "generate", "--interface", "cli0"]);
    generate.args(["--flows", load.flows, "--packets", load.packets, "--seconds", &SECONDS.to_string()]);
    if let Some(rate) = load.rate {
        generate.args(["--rate", rate]);
    }
    let Some(text) = process::stdout(&mut generate) else { bail!("the generator failed") };
    let seconds = began.elapsed().as_secs_f64();
    let (cpu, softirq) = (sensor.takes()?.0 - cpu_before, softirq_ticks()? - softirq_before);
    let sent = text
        .lines()
        .filter_map(Figure::from_json)
        .find_map(|figure| (figure.figure == "sent").then_some(figure.value))
        .context("the generator does not say what it sent")?;
    // What is still on its way arrives.
    thread::sleep(Duration::from_millis(500));
    let health = sensor.health("/health").context("the sensor does not answer")?;
    let number = |path: &str| health.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let ingress = |path: &str| number(&format!("/sensor/packets/ingress/{path}"));
    let skipped = health.pointer("/sensor/packets/ingress/skipped").and_then(Value::as_object);
    let skipped: f64 = skipped.into_iter().flatten().filter_map(|(_, count)| count.as_f64()).sum();
    let unseen = (received()? - ingress("seen") - unseen_before).max(0.0);
    let (_, resident) = sensor.takes()?;
    let figure = |what: &str, value, unit| Figure::new(NAME, &format!("{}: {what}", load.name), value, unit);
    Ok(vec![
        figure("offered", sent / SECONDS, "packets/s"),
        // The namespaces speak a little of their own (neighbour discovery), so that a few more can be seen than were sent.
        figure("sent and not seen", (sent - ingress("seen")).max(0.0), "packets"),
        // The sensor's own loss. What was sent and is not among these was lost on the way to the interface.
        figure("received by the interface and not seen", unseen, "packets"),
        figure("seen and not accounted for", ingress("seen") - ingress("in_flow") - skipped, "packets"),
        figure("turned away by a full table", ingress("skipped/table_full"), "packets"),
        figure("agent", 100.0 * cpu / TICKS / seconds, "% of a core"),
        figure("softirqs, generator's sending not among them", 100.0 * softirq / TICKS / seconds, "% of a core"),
        figure("resident memory", resident / 1024.0, "MiB"),
        figure("kernel memory", number("/sensor/table/memory_bytes") / f64::from(1 << 20), "MiB"),
        figure("slots in use", 100.0 * number("/sensor/table/fill"), "%"),
    ])
}
