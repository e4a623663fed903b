//! Blocking with real traffic: the source of a port scan gets nothing through while it is blocked, the command has the
//! last word, what is protected is never blocked, and a sensor that ends leaves nothing behind.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    binary,
    lab::{CLIENT_V4, CLIENT_V6, Lab, SERVER_IF, SERVER_V4, SERVER_V6, Side, wait_until},
};
use serde_json::Value;

const HEALTH: &str = "http://127.0.0.1:8000/health";
/// Longest wait for what takes a second on an idle machine.
const SOON: Duration = Duration::from_secs(60);

/// A laboratory with a BPF file system that every namespace sees.
struct Yard {
    lab: Lab,
    bpffs: PathBuf,
}

impl Yard {
    fn build() -> Result<Option<Self>> {
        let Some(lab) = Lab::build()? else { return Ok(None) };
        let bpffs = lab.directory().join("bpffs");
        fs::create_dir(&bpffs)?;
        // `ip netns exec` gives each command a /sys of its own, but shares what is mounted elsewhere.
        let mounted = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&bpffs).status()?;
        ensure!(mounted.success(), "cannot mount a BPF file system");
        Ok(Some(Self { lab, bpffs }))
    }

    fn start(&mut self, flags: &[&str]) -> Result<()> {
        let binary = binary()?.to_string_lossy().into_owned();
        let logs = self.lab.directory().join("logs").to_string_lossy().into_owned();
        let bpffs = self.bpffs.to_string_lossy().into_owned();
        let mut argv = vec![binary.as_str(), "run", "-i", SERVER_IF, "--attach", "host", "--log-dir", &logs];
        argv.extend(["--bpffs", &bpffs, "--block-threshold", "0"]);
        argv.extend(flags);
        self.lab.start(Side::Server, "sensor", &argv, &[("RUST_LOG", "info,verdict=warn")])?;
        let ready = || self.lab.get("http://127.0.0.1:8000/health/ready").is_ok_and(|body| body.contains("ready\""));
        wait_until(SOON, ready).with_context(|| format!("the sensor did not start:\n{}", self.lab.log("sensor")))?;
        let log = self.lab.log("sensor");
        ensure!(
            !log.contains("may not be watched"),
            "the kernel refused a program for interfaces that come later:\n{log}"
        );
        Ok(())
    }

    /// Ends the sensor as it should end: well, with balanced books, and with nothing left behind.
    fn stop(&mut self) -> Result<()> {
        let code = self.lab.stop("sensor", libc::SIGTERM)?;
        let log = self.lab.log("sensor");
        ensure!(code == Some(0) && log.contains("the books balance"), "the sensor ended with {code:?}:\n{log}");
        self.nothing_left()
    }

    fn nothing_left(&self) -> Result<()> {
        // The kernel's own two files, where it has them.
        let ours = |entry: &fs::DirEntry| !entry.file_name().to_string_lossy().ends_with(".debug");
        let left: Vec<_> = fs::read_dir(&self.bpffs)?.filter_map(Result::ok).filter(ours).collect();
        ensure!(left.is_empty(), "left in the BPF file system: {left:?}");
        let link = self.lab.succeed(Side::Server, &["ip", "-details", "link", "show", "dev", SERVER_IF])?;
        ensure!(!link.contains("xdp"), "a program is still attached:\n{link}");
        Ok(())
    }

    fn block(&self, arguments: &[&str]) -> Result<Output> {
        let binary = binary()?.to_string_lossy().into_owned();
        let bpffs = self.bpffs.to_string_lossy().into_owned();
        let argv = [&[binary.as_str(), "block", "--bpffs", &bpffs], arguments].concat();
        self.lab.output(Side::Server, &argv)
    }

    /// `ml-ids block`, which succeeds.
    fn done(&self, arguments: &[&str]) -> Result<String> {
        let output = self.block(arguments)?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "block {arguments:?}: {stderr}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &stderr)
    }

    /// `ml-ids block`, which is refused in these words.
    fn refused(&self, arguments: &[&str], words: &str) -> Result<()> {
        let output = self.block(arguments)?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(1) && stderr.contains(words), "block {arguments:?}: {stderr}");
        Ok(())
    }

    /// What is blocked now.
    fn blocked(&self) -> Result<Vec<String>> {
        let list = self.done(&["list", "--json"])?;
        let lines = list.lines().filter(|line| line.starts_with('{'));
        lines.map(|line| Ok(text(&serde_json::from_str(line)?, "/src_ip"))).collect()
    }

    fn reaches(&self, server: &str) -> bool {
        let ping = ["ping", "-n", "-c", "1", "-W", "1", server];
        self.lab.output(Side::Client, &ping).is_ok_and(|output| output.status.success())
    }

    fn wait_to_reach(&self, server: &str) -> Result<()> {
        wait_until(SOON, || self.reaches(server)).with_context(|| format!("{server} cannot be reached"))
    }

    /// A port scan that the default model takes for one.
    fn scan(&mut self) -> Result<()> {
        self.lab.start(Side::Client, "nmap", &["nmap", "-sS", "-Pn", "-n", "-T4", "-p", "1-1000", SERVER_V4], &[])
    }

    fn health(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.lab.get(HEALTH)?)?)
    }

    fn wait_for(&self, pointer: &str) -> Result<()> {
        let counted = || self.health().is_ok_and(|health| number(&health, pointer) > 0);
        wait_until(SOON, counted).with_context(|| format!("{pointer} stays 0:\n{}", self.lab.log("sensor")))
    }

    /// Action, source and reason of each event.
    fn events(&self) -> Result<Vec<[String; 3]>> {
        let log = fs::read_to_string(self.lab.directory().join("logs/block_events.log"))?;
        let mut events = Vec::new();
        for line in log.lines() {
            let event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
            ensure!(event["event_type"] == "block" && event["timestamp"].is_string(), "{line}");
            events.push(["/action", "/src_ip", "/reason"].map(|pointer| text(&event, pointer)));
        }
        Ok(events)
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        // A sensor that still runs keeps nothing of it open.
        let _ = Command::new("umount").arg("-l").arg(&self.bpffs).status();
    }
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

#[test]
fn a_port_scan_blocks_its_source_and_the_command_has_the_last_word() -> Result<()> {
    let Some(mut yard) = Yard::build()? else { return Ok(()) };
    yard.refused(&["list"], "no sensor runs with --block")?;
    yard.lab.succeed(Side::Server, &["ip", "route", "add", "default", "via", "10.77.0.254"])?;
    yard.start(&["--block"])?;
    yard.wait_to_reach(SERVER_V4)?;
    ensure!(yard.blocked()?.is_empty() && yard.done(&["list"])?.contains("nothing is blocked"));

    yard.scan()?;
    wait_until(SOON, || yard.blocked().is_ok_and(|blocked| blocked == [CLIENT_V4]))
        .with_context(|| format!("not blocked:\n{}", yard.lab.log("sensor")))?;
    yard.lab.stop("nmap", libc::SIGKILL)?;
    ensure!(!yard.reaches(SERVER_V4), "a blocked source gets through");
    let url = format!("http://{SERVER_V4}:81/");
    let curl = yard.lab.output(Side::Client, &["curl", "-sS", "--max-time", "1", &url])?;
    // 28 is a timeout: not even a reset comes back.
    ensure!(curl.status.code() == Some(28), "a blocked source is answered: {curl:?}");
    yard.wait_to_reach(SERVER_V6)?;
    let health = yard.health()?;
    let dropped = number(&health, "/sensor/block/dropped");
    ensure!(dropped > 0 && dropped == number(&health, "/sensor/packets/ingress/skipped/blocked"), "{health}");
    ensure!(number(&health, "/sensor/block/entries") == 1 && number(&health, "/sensor/block/blocked") == 1, "{health}");
    let list = yard.done(&["list"])?;
    ensure!(list.contains(CLIENT_V4) && list.contains("Portscan"), "{list}");

    // What lingers of the scan is judged later and does not block again what was unblocked by hand.
    yard.done(&["rm", CLIENT_V4])?;
    yard.wait_to_reach(SERVER_V4)?;
    yard.refused(&["rm", CLIENT_V4], "is not blocked")?;

    for (protected, words) in [
        (SERVER_V4, "is an address of this host"),
        (SERVER_V6, "is an address of this host"),
        ("10.77.0.0/24", "an address of this host"),
        ("0.0.0.0/0", "an address of this host"),
        ("10.77.0.254", "is a gateway of this host"),
        ("127.0.0.2", "loopback"),
        ("fe80::1", "link-local"),
        ("224.0.0.1", "multicast"),
    ] {
        yard.refused(&["add", protected], words)?;
    }
    // Long enough to see that it holds, then so short that it ends.
    yard.done(&["add", CLIENT_V4, "--ttl", "1h"])?;
    ensure!(!yard.reaches(SERVER_V4), "blocked by hand and not dropped");
    yard.done(&["add", CLIENT_V4, "--ttl", "1s"])?;
    yard.refused(&["rm", "10.77.0.5"], "is not blocked")?;
    yard.wait_to_reach(SERVER_V4)?;
    ensure!(yard.blocked()?.is_empty());
    wait_until(SOON, || yard.events().is_ok_and(|events| events.iter().any(|[action, ..]| action == "expire")))?;

    yard.done(&["add", "10.77.0.1/32"])?;
    yard.done(&["add", "192.0.2.0/24", "--ttl", "1h"])?;
    ensure!(yard.done(&["clear"])?.contains("unblocked 2"));
    yard.wait_to_reach(SERVER_V4)?;
    yard.done(&["add", CLIENT_V6])?;
    ensure!(!yard.reaches(SERVER_V6), "blocked by hand and not dropped");
    yard.stop()?;
    yard.wait_to_reach(SERVER_V6)?;
    yard.refused(&["clear"], "no sensor runs with --block")?;

    let events = yard.events()?;
    let told: Vec<String> = events.iter().map(|event| event.join(" ")).collect();
    for expected in [
        "block 10.77.0.1 verdict",
        "unblock 10.77.0.1 hand",
        "block 10.77.0.1 hand",
        "expire 10.77.0.1 ttl",
        "block 192.0.2.0/24 hand",
        "unblock 192.0.2.0/24 hand",
        "block fd77::1 hand",
        "unblock fd77::1 shutdown",
    ] {
        ensure!(told.iter().any(|event| event == expected), "no event {expected}: {told:#?}");
    }
    ensure!(told.iter().filter(|event| event.ends_with("verdict")).count() == 1, "blocked again: {told:#?}");
    Ok(())
}

#[test]
fn a_dry_run_an_allow_list_and_a_gateway_let_the_scan_go_on_and_say_so() -> Result<()> {
    let Some(mut yard) = Yard::build()? else { return Ok(()) };
    yard.start(&["--block-dry-run"])?;
    yard.scan()?;
    yard.wait_for("/sensor/block/entries")?;
    yard.lab.stop("nmap", libc::SIGKILL)?;
    ensure!(yard.reaches(SERVER_V4), "a dry run keeps somebody out");
    yard.wait_for("/sensor/block/would_block")?;
    let health = yard.health()?;
    ensure!(health.pointer("/sensor/block/dry_run") == Some(&Value::Bool(true)), "{health}");
    ensure!(number(&health, "/sensor/block/dropped") == 0 && number(&health, "/sensor/block/entries") == 1, "{health}");
    ensure!(yard.done(&["list"])?.contains("nothing is dropped"));
    yard.stop()?;

    yard.start(&["--block", "--allow", "10.77.0.0/28,192.0.2.1", "--ignore", "udp:53,fd77::/64"])?;
    yard.scan()?;
    yard.wait_for("/sensor/verdicts/allowed")?;
    yard.lab.stop("nmap", libc::SIGKILL)?;
    yard.wait_to_reach(SERVER_V6)?;
    let health = yard.health()?;
    ensure!(number(&health, "/sensor/verdicts/alerts") == 0, "{health}");
    ensure!(yard.blocked()?.is_empty() && yard.reaches(SERVER_V4));
    yard.refused(&["add", CLIENT_V4], "is in 10.77.0.0/28, which is on the allow-list")?;
    for hook in ["ingress", "egress"] {
        ensure!(number(&health, &format!("/sensor/packets/{hook}/skipped/ignored")) > 0, "{health}");
    }
    yard.stop()?;

    yard.lab.succeed(Side::Server, &["ip", "route", "add", "default", "via", CLIENT_V4])?;
    yard.start(&["--block"])?;
    yard.scan()?;
    yard.wait_for("/sensor/block/refused/gateway")?;
    yard.lab.stop("nmap", libc::SIGKILL)?;
    ensure!(yard.blocked()?.is_empty() && yard.reaches(SERVER_V4));
    let told = yard.events()?;
    let refusals = told.iter().filter(|event| *event == &["refuse", CLIENT_V4, "gateway"]).count();
    ensure!(refusals == 1, "{refusals} refusals were told, one is enough: {told:#?}");
    yard.stop()
}

#[test]
fn a_sensor_that_is_killed_drops_nothing_any_more_and_the_next_one_clears_up() -> Result<()> {
    let Some(mut yard) = Yard::build()? else { return Ok(()) };
    yard.start(&["--block"])?;
    yard.done(&["add", CLIENT_V4])?;
    ensure!(!yard.reaches(SERVER_V4), "blocked by hand and not dropped");
    // Nobody takes the place of a sensor that lives.
    let binary = binary()?.to_string_lossy().into_owned();
    let (bpffs, logs) = (yard.bpffs.to_string_lossy().into_owned(), yard.lab.directory().join("logs2"));
    let logs = logs.to_string_lossy().into_owned();
    let second =
        [&binary, "run", "-i", "lo", "--block", "--bpffs", &bpffs, "--listen", "127.0.0.1:8001", "--log-dir", &logs];
    let output = yard.lab.output(Side::Server, &second)?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1) && stderr.contains("another sensor with --block"), "{stderr}");
    ensure!(yard.blocked()? == [CLIENT_V4]);

    yard.lab.stop("sensor", libc::SIGKILL)?;
    yard.wait_to_reach(SERVER_V4)?;
    ensure!(yard.done(&["list"])?.contains("the sensor is gone"));
    yard.refused(&["add", CLIENT_V4], "the sensor is gone")?;
    yard.start(&["--block"])?;
    ensure!(yard.blocked()?.is_empty() && yard.lab.log("sensor").contains("a sensor that was killed"));
    yard.stop()
}

#[test]
fn an_address_that_the_host_takes_is_no_longer_blocked() -> Result<()> {
    let Some(mut yard) = Yard::build()? else { return Ok(()) };
    yard.start(&["--block"])?;
    yard.done(&["add", "10.77.0.9", "--ttl", "1h"])?;
    yard.lab.succeed(Side::Server, &["ip", "addr", "add", "10.77.0.9/24", "dev", SERVER_IF])?;
    wait_until(SOON, || yard.blocked().is_ok_and(|blocked| blocked.is_empty()))?;
    wait_until(SOON, || yard.events().is_ok_and(|events| events.contains(&own("unblock"))))?;
    yard.refused(&["add", "10.77.0.9"], "is an address of this host")?;
    yard.stop()
}

fn own(action: &str) -> [String; 3] {
    [action, "10.77.0.9", "own_address"].map(str::to_owned)
}
