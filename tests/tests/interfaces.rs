//! Interfaces that come, go, and go down and up while the sensor runs; interfaces without an Ethernet header, loopback and
//! jumbo frames; and a hook that is attached but sees nothing. Every packet that was sent is counted once.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    fixture,
    lab::{Lab, SERVER_IF, Side, wait_until},
    sensor, tcx,
};
use serde_json::Value;

/// Datagrams of one step.
const COUNT: u64 = 40;

/// Sends [`COUNT`] UDP datagrams of `size` bytes to an address and port.
fn send(lab: &Lab, side: Side, address: &str, port: u16, size: usize) -> Result<()> {
    let family = if address.contains(':') { "AF_INET6" } else { "AF_INET" };
    let script = format!(
        "import socket, time\n\
         s = socket.socket(socket.{family}, socket.SOCK_DGRAM)\n\
         for _ in range({COUNT}):\n\
         \x20   s.sendto(b'x' * {size}, ('{address}', {port}))\n\
         \x20   time.sleep(0.002)"
    );
    lab.succeed(side, &["python3", "-c", &script]).map(drop)
}

/// A socket on each of these ports that takes what comes, so that nothing is answered.
fn listen(lab: &mut Lab, ports: &[u16]) -> Result<()> {
    let script = format!(
        "import socket, time\n\
         kept = [socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in {ports:?}]\n\
         for s, port in zip(kept, {ports:?}): s.bind(('::', port))\n\
         print('ready', flush=True)\n\
         time.sleep(600)"
    );
    lab.start(Side::Server, "sockets", &["python3", "-c", &script], &[])?;
    lab.wait_for_log("sockets", "ready")
}

/// Packets and bytes to and from a port, and the interfaces that are named, over all flows.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    to: u64,
    from: u64,
    bytes_to: u64,
    interfaces: Vec<String>,
}

fn seen(events: &[Value], port: u16) -> Seen {
    let mut seen = Seen::default();
    for event in events.iter().filter(|event| event["dest_port"] == port && event["proto"] == "UDP") {
        let number = |name: &str| event["flow"][name].as_u64().unwrap_or(u64::MAX);
        seen.to += number("pkts_toserver");
        seen.from += number("pkts_toclient");
        seen.bytes_to += number("payload_bytes_toserver");
        let interface = event["in_iface"].as_str().unwrap_or("?").to_owned();
        if !seen.interfaces.contains(&interface) {
            seen.interfaces.push(interface);
        }
    }
    seen
}

fn expect(events: &[Value], port: u16, interface: &str, from: u64, size: u64) -> Result<()> {
    let expected = Seen { to: COUNT, from, bytes_to: COUNT * size, interfaces: vec![interface.to_owned()] };
    let found = seen(events, port);
    ensure!(found == expected, "port {port}: {expected:?} expected, {found:?} found");
    Ok(())
}

#[test]
fn interfaces_that_come_go_and_flap_are_followed_and_every_packet_is_counted() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    listen(&mut lab, &[9001, 9002, 9003, 9004])?;
    sensor::start(&mut lab, &["-i", "srv0,ext*", "--attach", "host"])?;
    let first = sensor::wait_for_state(&lab, SERVER_IF, "attached")?;
    send(&lab, Side::Client, "10.77.0.2", 9001, 100)?;

    lab.succeed(Side::Server, &["ip", "link", "set", SERVER_IF, "down"])?;
    let down = sensor::wait_for_state(&lab, SERVER_IF, "down")?;
    ensure!(down["ingress"] == first["ingress"] && down["index"] == first["index"], "{first} became {down}");
    ensure!(sensor::health(&lab)?["status"] == "degraded", "a named interface that is down degrades nothing");
    lab.succeed(Side::Server, &["ip", "link", "set", SERVER_IF, "up"])?;
    sensor::wait_for_state(&lab, SERVER_IF, "attached")?;
    send(&lab, Side::Client, "10.77.0.2", 9002, 100)?;

    lab.succeed(Side::Server, &["ip", "link", "del", SERVER_IF])?;
    let gone = sensor::wait_for_state(&lab, SERVER_IF, "gone")?;
    ensure!(gone["ingress"].is_null() && gone["egress"].is_null(), "{gone}");
    let health = sensor::health(&lab)?;
    ensure!(health["status"] == "degraded" && health["reasons"].to_string().contains("srv0 is gone"), "{health}");
    lab.connect("cli0", SERVER_IF, 77)?;
    let again = sensor::wait_for_state(&lab, SERVER_IF, "attached")?;
    ensure!(again["index"] != first["index"] && again["ingress"] == first["ingress"], "{first} became {again}");
    send(&lab, Side::Client, "10.77.0.2", 9003, 100)?;

    lab.connect("cli1", "ext1", 79)?;
    sensor::wait_for_state(&lab, "ext1", "attached")?;
    send(&lab, Side::Client, "10.79.0.2", 9004, 100)?;
    wait_until(Duration::from_secs(5), || sensor::health(&lab).is_ok_and(|health| health["status"] == "healthy"))
        .with_context(|| format!("{:?}", sensor::health(&lab)))?;
    // An interface of a pattern may go without being missed.
    lab.succeed(Side::Server, &["ip", "link", "del", "ext1"])?;
    sensor::wait_for_state(&lab, "ext1", "gone")?;
    let health = sensor::health(&lab)?;
    ensure!(health["status"] == "healthy", "{health}");
    sensor::stop(&mut lab, libc::SIGINT)?;

    let events = sensor::events(&lab)?;
    for (port, interface) in [(9001, SERVER_IF), (9002, SERVER_IF), (9003, SERVER_IF), (9004, "ext1")] {
        expect(&events, port, interface, 0, 100)?;
    }
    Ok(())
}

#[test]
fn an_interface_that_is_waited_for_is_attached_when_it_appears() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    listen(&mut lab, &[9001])?;
    sensor::begin(&mut lab, &["-i", "late0", "--wait-for-interface"])?;
    sensor::wait_for_state(&lab, "late0", "waiting")?;
    let health = sensor::health(&lab)?;
    ensure!(health["status"] == "degraded" && health["reasons"].to_string().contains("late0"), "{health}");
    let ready = lab.get("http://127.0.0.1:8000/health/ready")?;
    ensure!(ready.contains("capture is not attached"), "{ready}");
    lab.connect("cli1", "late0", 79)?;
    sensor::wait_for_state(&lab, "late0", "attached")?;
    send(&lab, Side::Client, "10.79.0.2", 9001, 100)?;
    sensor::stop(&mut lab, libc::SIGTERM)?;
    expect(&sensor::events(&lab)?, 9001, "late0", 0, 100)
}

#[test]
fn packets_of_an_interface_without_ethernet_headers_are_counted_both_ways() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    let script = fixture("tun_device.py").to_string_lossy().into_owned();
    lab.start(Side::Server, "tun", &["python3", &script, "tun0", "10.80.0.1/24", "fd80::1/64"], &[])?;
    lab.wait_for_log("tun", "ready")?;
    sensor::start(&mut lab, &["-i", "tun0"])?;
    let tun = sensor::interface(&lab, "tun0")?;
    ensure!(tun["ingress"] == "tcx-ingress" && tun["egress"] == "tcx", "{tun}");
    send(&lab, Side::Server, "10.80.0.2", 9001, 300)?;
    send(&lab, Side::Server, "fd80::2", 9002, 300)?;
    sensor::stop(&mut lab, libc::SIGINT)?;
    let events = sensor::events(&lab)?;
    for port in [9001, 9002] {
        expect(&events, port, "tun0", COUNT, 300).with_context(|| lab.log("tun"))?;
    }
    Ok(())
}

#[test]
fn loopback_counts_each_packet_once_in_every_mode() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    listen(&mut lab, &[9001, 9002])?;
    for (mode, port) in [("host", 9001), ("mirror", 9002)] {
        sensor::start(&mut lab, &["-i", "lo", "--attach", mode])?;
        let lo = sensor::interface(&lab, "lo")?;
        ensure!(lo["ingress"] == "tcx-ingress" && lo["egress"].is_null() && lo["attach"] == mode, "{lo}");
        send(&lab, Side::Server, "127.0.0.1", port, 100)?;
        sensor::stop(&mut lab, libc::SIGINT)?;
    }
    let events = sensor::events(&lab)?;
    expect(&events, 9001, "lo", 0, 100)?;
    expect(&events, 9002, "lo", 0, 100)
}

#[test]
fn jumbo_frames_are_counted_by_native_xdp() -> Result<()> {
    const SIZE: usize = 8_900;
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    lab.succeed(Side::Client, &["ip", "link", "set", "cli0", "mtu", "9000"])?;
    lab.succeed(Side::Server, &["ip", "link", "set", SERVER_IF, "mtu", "9000"])?;
    listen(&mut lab, &[9001, 9002])?;
    sensor::start(&mut lab, &[])?;
    let interface = sensor::interface(&lab, SERVER_IF)?;
    ensure!(interface["ingress"] == "xdp-native", "{interface}\n{}", lab.log("sensor"));
    send(&lab, Side::Client, "10.77.0.2", 9001, SIZE)?;
    send(&lab, Side::Client, "fd77::2", 9002, SIZE)?;
    sensor::stop(&mut lab, libc::SIGINT)?;
    let events = sensor::events(&lab)?;
    expect(&events, 9001, SERVER_IF, 0, SIZE as u64)?;
    expect(&events, 9002, SERVER_IF, 0, SIZE as u64)
}

#[test]
fn a_hook_that_somebody_else_blinds_is_noticed_and_moved_to_the_front() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    sensor::start(&mut lab, &[])?;
    let script = "import socket, time\n\
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
        for _ in range(3000):\n\
        \x20   s.sendto(b'x', ('10.77.0.1', 9))\n\
        \x20   time.sleep(0.01)";
    lab.start(Side::Server, "stream", &["python3", "-c", script], &[])?;
    let sent = |health: &Value| health.pointer("/sensor/packets/egress/seen").and_then(Value::as_u64).unwrap_or(0);
    wait_until(Duration::from_secs(5), || sensor::health(&lab).is_ok_and(|health| sent(&health) > 20))?;

    let Some(blinder) = lab.within(Side::Server, || tcx::end_egress_chain(SERVER_IF))? else {
        eprintln!("SKIPPED: this kernel has no TCX");
        return Ok(());
    };
    let begun = Instant::now();
    let mut degraded = Value::Null;
    wait_until(Duration::from_secs(15), || {
        degraded = sensor::health(&lab).unwrap_or_default();
        degraded["status"] == "degraded"
    })
    .with_context(|| format!("nobody noticed\n{}", lab.log("sensor")))?;
    let noticed = begun.elapsed();
    ensure!(degraded["reasons"].to_string().contains("tcx on srv0 sees none"), "{degraded}");
    let before = sent(&degraded);
    wait_until(Duration::from_secs(10), || {
        sensor::health(&lab).is_ok_and(|health| health["status"] == "healthy" && sent(&health) > before)
    })
    .with_context(|| format!("no recovery: {:?}\n{}", sensor::health(&lab), lab.log("sensor")))?;
    eprintln!("noticed after {:.1} s, sees again after {:.1} s", noticed.as_secs_f64(), begun.elapsed().as_secs_f64());
    let log = lab.log("sensor");
    ensure!(log.contains("before the programs of others") && log.contains("sees packets again"), "{log}");
    drop(blinder);
    lab.stop("stream", libc::SIGKILL)?;
    sensor::stop(&mut lab, libc::SIGINT)
}
