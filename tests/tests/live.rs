//! Real traffic over a veth pair, the sensor in host mode on one end: flows, packets and bytes are what tcpdump recorded
//! on the same interface and offline replay makes of it, the books balance, and every way to end a flow is told right.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    binary,
    lab::{CLIENT_V4, Lab, SERVER_IF, SERVER_V4, SERVER_V6, SERVER_VLAN, Side, wait_until},
    sensor::{self, HEALTH},
    tally::{live_flows, recorded_flows},
};
use serde_json::Value;

/// A bounded mix: HTTP, DNS, bulk transfer and ping, over IPv4, IPv6 and a VLAN.
fn make_traffic(lab: &mut Lab) -> Result<()> {
    let www = lab.directory().join("www");
    fs::create_dir_all(&www)?;
    fs::write(www.join("page"), vec![b'x'; 200_000])?;
    let www = www.to_string_lossy().into_owned();
    lab.start(
        Side::Server,
        "http",
        &["python3", "-m", "http.server", "8080", "--bind", "::", "--directory", &www],
        &[],
    )?;
    lab.start(
        Side::Server,
        "dns",
        &["dnsmasq", "--no-daemon", "--no-resolv", "--no-hosts", "--port=5353", "--address=/example.test/10.1.2.3"],
        &[],
    )?;
    lab.start(Side::Server, "iperf", &["iperf3", "-s", "-1"], &[])?;
    wait_until(Duration::from_secs(10), || {
        lab.succeed(Side::Server, &["ss", "-Htuln"])
            .is_ok_and(|table| [":8080", ":5353", ":5201"].iter().all(|port| table.contains(port)))
    })
    .context("the services did not start")?;
    for server in [SERVER_V4, "[fd77::2]", SERVER_VLAN] {
        for _ in 0..3 {
            let url = format!("http://{server}:8080/page");
            lab.succeed(Side::Client, &["curl", "-sS", "-o", "/dev/null", "--max-time", "10", &url])?;
        }
    }
    for server in [SERVER_V4, SERVER_V6] {
        let at = format!("@{server}");
        lab.succeed(Side::Client, &["dig", "+short", "-p", "5353", &at, "host.example.test"])?;
        lab.succeed(Side::Client, &["ping", "-q", "-c", "3", "-i", "0.2", server])?;
    }
    lab.succeed(Side::Client, &["iperf3", "-c", SERVER_V4, "-n", "4M"])?;
    Ok(())
}

#[test]
fn live_flows_are_what_tcpdump_recorded_and_the_books_balance() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    let capture = lab.directory().join("wire.pcap").to_string_lossy().into_owned();
    lab.start(
        Side::Server,
        "tcpdump",
        &["tcpdump", "-i", SERVER_IF, "--immediate-mode", "-s", "0", "-B", "8192", "-U", "-w", &capture],
        &[],
    )?;
    lab.wait_for_log("tcpdump", "listening on")?;
    sensor::start(&mut lab, &[])?;
    make_traffic(&mut lab)?;
    std::thread::sleep(Duration::from_millis(500));
    let health: Value = serde_json::from_str(&lab.get(HEALTH)?)?;
    sensor::stop(&mut lab, libc::SIGINT)?;
    lab.stop("tcpdump", libc::SIGINT)?;

    for hook in ["ingress", "egress"] {
        let number = |name: &str| health.pointer(&format!("/sensor/packets/{hook}/{name}")).and_then(Value::as_u64);
        let (seen, in_flow) = (number("seen").context("seen")?, number("in_flow").context("in_flow")?);
        let skipped = health.pointer(&format!("/sensor/packets/{hook}/skipped")).and_then(Value::as_object);
        let skipped: u64 = skipped.context("skipped")?.values().filter_map(Value::as_u64).sum();
        ensure!(seen > 100, "{hook} saw only {seen} packets");
        ensure!(seen == in_flow + skipped, "{hook}: {seen} seen, {in_flow} in flows, {skipped} skipped");
    }

    let live = live_flows(&sensor::events(&lab)?);
    let recorded = recorded_flows(Path::new(&capture))?;
    ensure!(live.len() > 10, "only {} flows: {live:?}", live.len());
    for (name, tallies) in &recorded {
        ensure!(
            live.get(name) == Some(tallies),
            "flow {name}: recorded {tallies:?}, live {:?}\n{}",
            live.get(name),
            lab.log("tcpdump")
        );
    }
    for name in live.keys() {
        ensure!(recorded.contains_key(name), "flow {name} was seen live but is not in the capture");
    }
    Ok(())
}

/// Sends one UDP datagram from the client.
fn datagram(lab: &Lab, source_port: u16) -> Result<()> {
    let script = format!(
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); \
         s.bind(('{CLIENT_V4}', {source_port})); s.sendto(b'x', ('{SERVER_V4}', 9))"
    );
    lab.succeed(Side::Client, &["python3", "-c", &script]).map(drop)
}

#[test]
fn every_way_to_end_a_flow_is_told_right() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    sensor::start(&mut lab, &[])?;
    let www = lab.directory().to_string_lossy().into_owned();
    lab.start(
        Side::Server,
        "http",
        &["python3", "-m", "http.server", "8080", "--bind", SERVER_V4, "--directory", &www],
        &[],
    )?;
    let url = format!("http://{SERVER_V4}:8080/");
    wait_until(Duration::from_secs(10), || {
        lab.succeed(Side::Server, &["ss", "-Htln"]).is_ok_and(|table| table.contains(":8080"))
    })?;
    lab.succeed(Side::Client, &["curl", "-sS", "-o", "/dev/null", "--local-port", "40001", &url])?;
    // Refused by an RST.
    let refused = format!("http://{SERVER_V4}:81/");
    lab.output(Side::Client, &["curl", "-sS", "--local-port", "40002", &refused])?;
    // Silent after one packet.
    datagram(&lab, 40003)?;
    // A packet a second, past the limit.
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(123) {
        datagram(&lab, 40004)?;
        std::thread::sleep(Duration::from_millis(900));
    }
    // Still open when the sensor stops.
    datagram(&lab, 40005)?;
    std::thread::sleep(Duration::from_millis(300));
    sensor::stop(&mut lab, libc::SIGTERM)?;

    let events = sensor::events(&lab)?;
    let reasons = |port: u64| -> Vec<&str> {
        let of_port = events.iter().filter(|event| event.get("src_port").and_then(Value::as_u64) == Some(port));
        of_port.filter_map(|event| event.pointer("/flow/reason").and_then(Value::as_str)).collect()
    };
    ensure!(reasons(40001) == ["fin"], "40001: {:?}", reasons(40001));
    ensure!(reasons(40002) == ["rst"], "40002: {:?}", reasons(40002));
    ensure!(reasons(40003) == ["idle"], "40003: {:?}", reasons(40003));
    ensure!(reasons(40004) == ["timeout", "shutdown"], "40004: {:?}", reasons(40004));
    ensure!(reasons(40005) == ["shutdown"], "40005: {:?}", reasons(40005));
    Ok(())
}

#[test]
fn a_port_scan_alerts_within_two_seconds_of_its_first_finished_flow() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    sensor::start(&mut lab, &[])?;
    let log = lab.directory().join("logs/positive_predictions.log");
    lab.start(Side::Client, "nmap", &["nmap", "-sS", "-Pn", "-n", "-T4", "-p", "1-1000", SERVER_V4], &[])?;
    wait_until(Duration::from_secs(20), || fs::metadata(&log).is_ok_and(|file| file.len() > 0))
        .with_context(|| format!("no alert:\n{}", lab.log("sensor")))?;
    let seen = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    let text = fs::read_to_string(&log)?;
    let alert: Value = serde_json::from_str(text.lines().next().context("empty log")?)?;
    let end = alert.pointer("/flow/end").and_then(Value::as_str).context("no flow.end")?;
    let delay = seen - sensor::unix_seconds(end)?;
    eprintln!("first alert {delay:.2} s after the last packet of its flow: {}", alert["ml"]["label"]);
    ensure!(
        delay < 2.0 + 1.0,
        "the alert came {delay:.2} s after its flow's last packet (1 s of it is the linger time)"
    );
    ensure!(alert["src_ip"] == CLIENT_V4, "{alert}");
    sensor::stop(&mut lab, libc::SIGINT)?;
    Ok(())
}

#[test]
fn health_and_log_say_which_hooks_are_in_use() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    // A veth pair has native XDP; loopback is watched one way, or each packet would count twice.
    for (interface, attach, ingress, egress) in [
        (SERVER_IF, "auto", "xdp-native", "tcx"),
        (SERVER_IF, "mirror", "xdp-native", ""),
        ("lo", "auto", "tcx-ingress", ""),
    ] {
        sensor::start(&mut lab, &["-i", interface, "--attach", attach])?;
        let health: Value = serde_json::from_str(&lab.get(HEALTH)?)?;
        let first = health.pointer("/sensor/interfaces/0").context("no interface")?;
        let text = |name: &str| first.get(name).and_then(Value::as_str).unwrap_or_default();
        let found = (text("name"), text("ingress"), text("egress"));
        ensure!(found == (interface, ingress, egress), "{attach} on {interface}: {first}");
        ensure!(lab.log("sensor").contains(&format!("ingress {ingress}")), "{}", lab.log("sensor"));
        sensor::stop(&mut lab, libc::SIGINT)?;
    }
    Ok(())
}

#[test]
fn a_second_sensor_a_missing_interface_and_an_unprivileged_user_get_a_clear_answer() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    sensor::start(&mut lab, &[])?;
    let binary = binary()?.to_string_lossy().into_owned();
    let logs = lab.directory().join("logs2").to_string_lossy().into_owned();
    let cases: [(&[&str], i32, &str); 3] = [
        (&["run", "-i", SERVER_IF, "--listen", "127.0.0.1:8001", "--log-dir", &logs], 1, "already has an XDP program"),
        (&["run", "-i", "nope0", "--listen", "127.0.0.1:8001", "--log-dir", &logs], 2, "no interface named nope0"),
        (&["run", "-i", SERVER_IF, "--log-dir", &logs], 1, "127.0.0.1:8000"),
    ];
    for (arguments, code, text) in cases {
        let argv: Vec<&str> = std::iter::once(binary.as_str()).chain(arguments.iter().copied()).collect();
        let output = lab.output(Side::Server, &argv)?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.code() == Some(code) && stderr.contains(text),
            "{arguments:?}: {}\n{stderr}",
            output.status
        );
    }
    // An unprivileged user: the binary is copied to where that user can run it.
    let copy = lab.directory().join("ml-ids");
    fs::copy(&binary, &copy)?;
    let copy = copy.to_string_lossy().into_owned();
    lab.succeed(Side::Server, &["chmod", "755", &lab.directory().to_string_lossy()])?;
    let output = lab.output(
        Side::Server,
        &[
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            &copy,
            "run",
            "-i",
            "lo",
            "--listen",
            "127.0.0.1:8002",
            "--log-dir",
            "/tmp",
        ],
    )?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(1) && stderr.contains("no permission"),
        "unprivileged: {}\n{stderr}",
        output.status
    );
    sensor::stop(&mut lab, libc::SIGINT)?;
    Ok(())
}
