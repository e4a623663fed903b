//! The live sensor under load: what it counts of what a generator in another namespace sends, at rising rates, and what it
//! takes. Small packets over ten thousand flows, over a million, and a flood of spoofed SYNs.

use std::{
    env, fs,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::figure::Figure;
use crate::{
    process,
    wire::{CLIENT_INTERFACE, SERVER_INTERFACE, Wire},
    workspace,
};

const NAME: &str = "live";
/// What their names begin with.
const NAMESPACES: &str = "mlids-bench";
/// Seconds of each load.
const SECONDS: f64 = 10.0;
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

const SMALL_TABLE: &str = "16384";
const TABLE: &str = "131072";
const LARGE_TABLE: &str = "1048576";
const STEADY: &str = "1000000000";

const LOADS: [Load; 11] = [
    Load { name: "1,000 flows, 10,000/s", flows: "1000", packets: STEADY, rate: Some("10000"), max_flows: SMALL_TABLE },
    Load { name: "10,000 flows, 50,000/s", flows: "10000", packets: STEADY, rate: Some("50000"), max_flows: TABLE },
    Load { name: "10,000 flows, 100,000/s", flows: "10000", packets: STEADY, rate: Some("100000"), max_flows: TABLE },
    Load { name: "10,000 flows, 200,000/s", flows: "10000", packets: STEADY, rate: Some("200000"), max_flows: TABLE },
    Load { name: "10,000 flows, 400,000/s", flows: "10000", packets: STEADY, rate: Some("400000"), max_flows: TABLE },
    Load { name: "10,000 flows, all that goes", flows: "10000", packets: STEADY, rate: None, max_flows: TABLE },
    // In the loads above no flow ends while it is measured; here the agent has a verdict to give for every twentieth packet.
    Load {
        name: "flows of 20 packets, 500 ending a second, 10,000/s",
        flows: "500",
        packets: "20",
        rate: Some("10000"),
        max_flows: TABLE,
    },
    Load {
        name: "flows of 20 packets, 2,500 ending a second, 50,000/s",
        flows: "2500",
        packets: "20",
        rate: Some("50000"),
        max_flows: TABLE,
    },
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
    let mut figures = Vec::new();
    for load in &LOADS {
        figures.extend(measure(load).with_context(|| format!("load: {}", load.name))?);
    }
    Ok(figures)
}

fn softirq_ticks() -> anyhow::Result<f64> {
    let stat = fs::read_to_string("/proc/stat").context("no /proc/stat")?;
    let field = stat.lines().next().and_then(|line| line.split_ascii_whitespace().nth(7));
    field.and_then(|ticks| ticks.parse().ok()).context("no softirq time in /proc/stat")
}

/// Packets that the sensor's interface has received so far by its own count.
fn received(wire: &Wire) -> anyhow::Result<f64> {
    let file = format!("/sys/class/net/{SERVER_INTERFACE}/statistics/rx_packets");
    let text = process::stdout(wire.server().args(["cat", &file])).context("the interface has no counters")?;
    text.trim().parse().context("rx_packets is no number")
}

fn measure(load: &Load) -> anyhow::Result<Vec<Figure>> {
    let wire = Wire::build(NAMESPACES)?;
    let folder = env::temp_dir().join("ml-ids-bench-live");
    // A line for each verdict is the terminal's cost, not the sensor's.
    let arguments = ["--max-flows", load.max_flows];
    let sensor = wire.sensor(&workspace::agent("release"), &arguments, &folder, Stdio::null(), "error")?;
    let seen = || -> anyhow::Result<f64> {
        let health = wire.ask("/health").context("the sensor does not answer")?;
        health.pointer("/sensor/packets/ingress/seen").and_then(Value::as_f64).context("no packets in /health")
    };
    let unseen_before = received(&wire)? - seen()?;
    let cpu_before = sensor.cpu_seconds()?;
    let (softirq_before, began) = (softirq_ticks()?, Instant::now());
    let mut generate = wire.client();
    generate.arg(workspace::agent("release")).args(["bench", "generate", "--interface", CLIENT_INTERFACE]);
    generate.args(["--flows", load.flows, "--packets", load.packets, "--seconds", &SECONDS.to_string()]);
    if let Some(rate) = load.rate {
        generate.args(["--rate", rate]);
    }
    let Some(text) = process::stdout(&mut generate) else { bail!("the generator failed") };
    let seconds = began.elapsed().as_secs_f64();
    let (cpu, softirq) = (sensor.cpu_seconds()? - cpu_before, softirq_ticks()? - softirq_before);
    let sent = text
        .lines()
        .filter_map(Figure::from_json)
        .find_map(|figure| (figure.figure == "sent").then_some(figure.value))
        .context("the generator does not say what it sent")?;
    // What is still on its way arrives.
    thread::sleep(Duration::from_millis(500));
    let health = wire.ask("/health").context("the sensor does not answer")?;
    let number = |path: &str| health.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let ingress = |path: &str| number(&format!("/sensor/packets/ingress/{path}"));
    let skipped = health.pointer("/sensor/packets/ingress/skipped").and_then(Value::as_object);
    let skipped: f64 = skipped.into_iter().flatten().filter_map(|(_, count)| count.as_f64()).sum();
    let unseen = (received(&wire)? - ingress("seen") - unseen_before).max(0.0);
    let figure = |what: &str, value, unit| Figure::new(NAME, &format!("{}: {what}", load.name), value, unit);
    Ok(vec![
        figure("offered", sent / SECONDS, "packets/s"),
        // The namespaces speak a little of their own (neighbour discovery), so that a few more can be seen than were sent.
        figure("sent and not seen", (sent - ingress("seen")).max(0.0), "packets"),
        // The sensor's own loss. What was sent and is not among these was lost on the way to the interface.
        figure("received by the interface and not seen", unseen, "packets"),
        figure("seen and not accounted for", ingress("seen") - ingress("in_flow") - skipped, "packets"),
        figure("turned away by a full table", ingress("skipped/table_full"), "packets"),
        figure("agent", 100.0 * cpu / seconds, "% of a core"),
        figure("softirqs, generator's sending not among them", 100.0 * softirq / TICKS / seconds, "% of a core"),
        figure("resident memory", sensor.resident_mib()?, "MiB"),
        figure("kernel memory", number("/sensor/table/memory_bytes") / f64::from(1 << 20), "MiB"),
        figure("slots in use", 100.0 * number("/sensor/table/fill"), "%"),
    ])
}
