//! `cargo xtask soak`: mixed traffic for long, during which nothing may grow; then a sensor that is killed at random times,
//! which may lose no flow without a number, and never its alerts.
//!
//! Conversations of twenty packets, lone packets from ever new addresses, and clients of the API, all at once. The second part
//! runs with `--pin`: flows that left the kernel must be judged, or said to be lost, by one of the agents.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::{
    process, setup,
    wire::{self, CLIENT_INTERFACE, Wire},
    workspace,
};

const NAMESPACES: &str = "mlids-soak";
/// What resident memory may grow by from the second to the last quarter: a twentieth, or what an allocator keeps for itself.
const GROWTH: f64 = 0.05;
const GROWTH_MIB: f64 = 8.0;
/// Descriptors that clients of the API may happen to hold.
const CLIENTS: f64 = 8.0;
/// Part of the flows that killed agents may take with them: those that they have read and not judged yet.
const MOST_TAKEN: f64 = 0.25;
/// Sample that often at least, so that a short run has quarters, too.
const SAMPLES: f64 = 20.0;
const LONGEST_STEP: Duration = Duration::from_secs(10);
/// Packets a second of each flow between the kills, so that flows end between two of them whatever the rate.
const RATE_OF_A_FLOW: u64 = 50;
/// One packet in so many is a lone one. Each is a flow for two minutes.
const LONE: u64 = 100;

/// How long and how hard.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How long the sensor runs under load, in minutes
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    /// Packets a second
    #[arg(long, default_value_t = 50_000)]
    rate: u64,
    /// How often it is killed afterwards
    #[arg(long, default_value_t = 20)]
    kills: u32,
    /// Soak a debug build, as the tests do
    #[arg(long)]
    debug: bool,
}

/// Builds the agent and soaks it.
pub(crate) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    setup::build_tools()?;
    let (build, folder): (&[&str], _) = if arguments.debug { (&[], "debug") } else { (&["--release"], "release") };
    process::visible(process::cargo(["build", "--package", "ml-ids"]).args(build))?;
    run(arguments, &workspace::agent(folder))?;
    Ok(ExitCode::SUCCESS)
}

fn run(arguments: &Arguments, agent: &Path) -> anyhow::Result<()> {
    let scratch = Scratch::new()?;
    let wire = Wire::build(NAMESPACES)?.without_ipv6()?;
    let time = Duration::try_from_secs_f64(arguments.minutes * 60.0).context("--minutes makes no sense")?;
    soak(&wire, agent, &scratch.0.join("soak"), time, arguments.rate)?;
    kills(&wire, agent, &scratch.0, arguments.kills, arguments.rate)
}

/// A folder that everybody may look into, as the sensor gives up its rights.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        let path = env::temp_dir().join(format!("ml-ids-soak-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Where pins are there is a BPF file system; without it nothing is there to unmount.
        let _ = Command::new("umount").arg("-l").arg(self.0.join("bpf")).stderr(Stdio::null()).status();
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Traffic that goes on until this is dropped.
struct Traffic(Vec<Child>);

impl Traffic {
    fn start(wire: &Wire, agent: &Path, rate: u64, time: Duration, flows: (&str, &str)) -> anyhow::Result<Self> {
        let seconds = time.as_secs_f64().to_string();
        let (lone, rest) = (rate / LONE, rate - rate / LONE);
        let mut traffic = Self(Vec::new());
        for (flows, packets, rate, network) in [(flows.0, flows.1, rest, "10"), ("8000000", "1", lone, "11")] {
            let mut command = wire.client();
            command.arg(agent).args(["bench", "generate", "--interface", CLIENT_INTERFACE, "--flows", flows]);
            command.args(["--packets", packets, "--rate", &rate.to_string(), "--network", network]);
            command.args(["--seconds", &seconds]).stdout(Stdio::null()).stderr(Stdio::null());
            traffic.0.push(command.spawn().context("cannot start the generator")?);
        }
        Ok(traffic)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // It may have ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What the sensor takes at one moment.
struct Sample {
    resident_mib: f64,
    descriptors: f64,
}

fn soak(wire: &Wire, agent: &Path, folder: &Path, time: Duration, rate: u64) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let log = folder.join("sensor.log");
    let none: [&str; 0] = [];
    let sensor = wire.sensor(agent, &none, folder, wire::log_file(&log)?, "warn,verdict=error")?;
    let traffic = Traffic::start(wire, agent, rate, time, ("10000", "20"))?;
    let step = LONGEST_STEP.min(time.div_f64(SAMPLES));
    let (begun, cpu_before) = (Instant::now(), sensor.cpu_seconds()?);
    let mut samples = Vec::new();
    while begun.elapsed() < time {
        thread::sleep(step);
        // What people and probes ask for meanwhile.
        for path in ["/flows?limit=25", "/alerts?limit=50", "/model"] {
            ensure!(wire.ask(path).is_some(), "the sensor does not answer {path}; {}", tail(&log));
        }
        let health = wire.ask("/health").context("the sensor does not answer /health")?;
        samples.push(Sample { resident_mib: sensor.resident_mib()?, descriptors: sensor.descriptors()? });
        if let Some(Sample { resident_mib, descriptors }) = samples.last() {
            eprintln!(
                "{:>6.0} s: {:>11} packets seen, {:>9} flows judged, {resident_mib:>6.1} MiB, {descriptors} descriptors",
                begun.elapsed().as_secs_f64(),
                number(&health, "/sensor/packets/ingress/seen"),
                number(&health, "/sensor/verdicts/scored"),
            );
        }
    }
    let (seconds, cpu) = (begun.elapsed().as_secs_f64(), sensor.cpu_seconds()? - cpu_before);
    drop(traffic);
    // What is on its way arrives.
    thread::sleep(Duration::from_secs(2));
    let health = wire.ask("/health").context("the sensor does not answer /health")?;
    let seen = number(&health, "/sensor/packets/ingress/seen");
    ensure!(
        seen as f64 > 0.5 * rate as f64 * seconds,
        "only {seen} packets came in {seconds:.0} s; the generator does not keep up"
    );
    packets_balance(&health)?;
    let (early, late) = quarters(&samples).context("too short to tell growth; take more --minutes")?;
    println!(
        "soak: {seconds:.0} s, {seen} packets ({:.0}/s), {} flows judged, {} lost, agent {:.1} % of a core",
        seen as f64 / seconds,
        number(&health, "/sensor/verdicts/scored"),
        number(&health, "/sensor/flows/lost_ring_full"),
        100.0 * cpu / seconds,
    );
    println!("  resident memory: {:.1} MiB in the second quarter, {:.1} MiB in the last", early.0, late.0);
    println!("  descriptors: {} at most in the first half, {} in the second", early.1, late.1);
    ensure!(late.0 - early.0 < (early.0 * GROWTH).max(GROWTH_MIB), "resident memory grows");
    ensure!(late.1 <= early.1 + CLIENTS, "descriptors grow in number");
    ensure!(sensor.stop()? == Some(0), "the sensor did not end well; {}", tail(&log));
    let text = fs::read_to_string(&log).context("the sensor wrote no log")?;
    let errors: Vec<&str> = text.lines().filter(|line| line.contains("ERROR")).collect();
    println!("  errors in the log: {}", errors.len());
    ensure!(errors.is_empty(), "the first of {} errors: {}", errors.len(), errors.first().unwrap_or(&""));
    Ok(())
}

/// Median memory of the second and of the last quarter, and the most descriptors of either half.
fn quarters(samples: &[Sample]) -> Option<((f64, f64), (f64, f64))> {
    let quarter = samples.len() / 4;
    let memory = |part: &[Sample]| {
        let mut values: Vec<f64> = part.iter().map(|sample| sample.resident_mib).collect();
        values.sort_unstable_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    let descriptors = |part: &[Sample]| part.iter().map(|sample| sample.descriptors).fold(0.0, f64::max);
    let (first, second) = samples.split_at_checked(samples.len() / 2)?;
    let early = (memory(first.get(quarter..)?)?, descriptors(first));
    let late = (memory(samples.get(samples.len() - quarter..)?)?, descriptors(second));
    (quarter > 0).then_some((early, late))
}

fn kills(wire: &Wire, agent: &Path, scratch: &Path, kills: u32, rate: u64) -> anyhow::Result<()> {
    let (folder, bpffs) = (scratch.join("kills"), scratch.join("bpf"));
    fs::create_dir_all(&folder)?;
    fs::create_dir_all(&bpffs)?;
    process::visible(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&bpffs))?;
    let pins = bpffs.join("ml-ids").to_string_lossy().into_owned();
    // Logs that are not rotated: every line is counted.
    let arguments = ["--pin", "--pin-dir", &pins, "--log-negative-predictions", "--log-rotate-size", "1024GiB"];
    let log = folder.join("sensor.log");
    let start = || wire.sensor(agent, &arguments, &folder, wire::log_file(&log)?, "info,verdict=error");
    let mut sensor = start()?;
    // Long enough for all kills, and of longer flows, since each leaves a line in a log file.
    let traffic = Traffic::start(
        wire,
        agent,
        rate,
        Duration::from_secs(u64::from(kills + 1) * 60),
        (&(rate / RATE_OF_A_FLOW).max(1).to_string(), "200"),
    )?;
    for kill in 1..=kills {
        thread::sleep(a_moment());
        sensor.kill()?;
        alerts_are_whole(&folder).with_context(|| format!("after kill {kill}"))?;
        sensor = start().with_context(|| format!("after kill {kill}; {}", tail(&log)))?;
    }
    thread::sleep(a_moment());
    drop(traffic);
    let health = settled(wire)?;
    packets_balance(&health)?;
    let Flows { opened, emitted, .. } = Flows::of(&health);
    ensure!(sensor.stop()? == Some(0), "the sensor did not end well; {}", tail(&log));
    unpin(wire, agent, &pins)?;
    let text = fs::read_to_string(&log).context("the sensor wrote no log")?;
    let taken: u64 = text.lines().filter_map(|line| before(line, " flows that the previous sensor had taken")).sum();
    let logs = wire::logs(&folder);
    let judged = lines(&logs.join("positive_predictions.log")) + lines(&logs.join("negative_predictions.log"));
    println!(
        "kills: {kills}, {opened} flows opened, {emitted} left the kernel, {judged} judged, {taken} said to be lost"
    );
    ensure!(emitted > 0, "no flow ended; take more --kills");
    ensure!(
        taken as f64 <= MOST_TAKEN * emitted as f64,
        "{taken} of {emitted} flows went down with killed agents; that is more than what is under way at a time"
    );
    ensure!(
        judged <= emitted && emitted - judged <= taken,
        "{} flows are gone and only {taken} were said to be",
        emitted.abs_diff(judged)
    );
    alerts_are_whole(&folder)
}

fn unpin(wire: &Wire, agent: &Path, pins: &str) -> anyhow::Result<()> {
    process::visible(wire.server().arg(agent).args(["unpin", "--pin-dir", pins]))
}

/// The books of flows.
struct Flows {
    opened: u64,
    emitted: u64,
    /// Emitted or not.
    ended: u64,
    live: u64,
}

impl Flows {
    fn of(health: &Value) -> Self {
        let flow = |name: &str| number(health, &format!("/sensor/flows/{name}"));
        let emitted = flow("emitted");
        let ended = emitted + flow("discarded") + flow("lost_ring_full") + flow("evicted");
        Self { opened: flow("opened"), emitted, ended, live: flow("live") }
    }
}

/// `/health` at a moment in which the books of flows balance. They are read one number after the other while flows go on
/// ending by their age, so that it may take more than one look.
fn settled(wire: &Wire) -> anyhow::Result<Value> {
    let limit = Instant::now() + Duration::from_secs(60);
    loop {
        thread::sleep(Duration::from_secs(1));
        let health = wire.ask("/health").context("the sensor does not answer /health")?;
        let Flows { opened, ended, live, .. } = Flows::of(&health);
        if opened == ended + live {
            return Ok(health);
        }
        ensure!(Instant::now() < limit, "{opened} flows opened, {ended} ended, {live} live");
    }
}

fn packets_balance(health: &Value) -> anyhow::Result<()> {
    for hook in ["ingress", "egress"] {
        let books = |name: &str| number(health, &format!("/sensor/packets/{hook}/{name}"));
        let skipped = health.pointer(&format!("/sensor/packets/{hook}/skipped")).and_then(Value::as_object);
        let skipped: u64 = skipped.into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum();
        let (seen, counted) = (books("seen"), books("in_flow") + skipped);
        ensure!(seen == counted, "{hook}: {seen} packets seen, {counted} accounted for");
    }
    Ok(())
}

/// SQLite finds nothing wrong with the file of alerts.
fn alerts_are_whole(folder: &Path) -> anyhow::Result<()> {
    let script = "import glob, sqlite3, sys\n\
                  files = glob.glob(sys.argv[1] + '/**/*.db', recursive=True)\n\
                  print(*[sqlite3.connect(file).execute('pragma integrity_check').fetchone()[0] for file in files])";
    let said = process::stdout(Command::new("python3").args(["-c", script]).arg(folder)).context("python3 failed")?;
    ensure!(said.trim() == "ok", "the file of alerts: {}", said.trim());
    Ok(())
}

/// A time between a tenth of a second and two, another with each call.
fn a_moment() -> Duration {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
    Duration::from_millis(100 + u64::from(nanos / 1_000 % 1_900))
}

fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or(0)
}

fn lines(path: &Path) -> u64 {
    fs::read(path).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count() as u64)
}

/// The number before `words` in a line.
fn before(line: &str, words: &str) -> Option<u64> {
    let (before, _) = line.split_once(words)?;
    before.rsplit(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

/// The end of a log, for an error.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default();
    format!("the end of its log:\n{}", last.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_told_from_a_slow_start() {
        let samples = |memory: &[f64]| -> Vec<Sample> {
            memory.iter().map(|&resident_mib| Sample { resident_mib, descriptors: 3.0 }).collect()
        };
        assert!(quarters(&samples(&[1.0, 2.0, 3.0])).is_none());
        let (early, late) = quarters(&samples(&[10.0, 50.0, 60.0, 60.0, 60.0, 61.0, 60.0, 60.0])).unwrap();
        assert_eq!((early.0, late.0), (60.0, 60.0));
        let (early, late) = quarters(&samples(&[10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0])).unwrap();
        assert!(late.0 > early.0 + 30.0);
    }

    #[test]
    fn the_number_before_words_is_found() {
        assert_eq!(before("WARN 12 flows that the previous", " flows that"), Some(12));
        assert_eq!(before("WARN flows that", " flows that"), None);
    }
}
