//! A VLAN tag that the network card is to write stands beside the frame, not in it: the books hold what the wire carries.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    binary,
    lab::{Lab, SERVER_IF, Side, wait_until},
};
use serde_json::Value;

const HEALTH: &str = "http://127.0.0.1:8000/health";
const FRAMES: u64 = 10;
/// UDP with 100 bytes in IPv4, behind Ethernet and a tag.
const FRAME_LENGTH: u64 = 14 + 4 + 20 + 8 + 100;

/// Sends tagged frames into the bridge, which takes the tag out of the frame and floods them to the other port.
const SEND: &str = "
import socket
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(('in0', 0))
ip = bytes.fromhex('45000080000040004011000a0a4e00010a4e0002')
udp = bytes.fromhex('03e80035006c0000') + b'x' * 100
for _ in range(10):
    wire.send(bytes.fromhex('020000000099') + bytes.fromhex('020000000098') + bytes.fromhex('810000050800') + ip + udp)
";

/// Packets and bytes sent, as the sensor has counted them.
fn sent(lab: &Lab) -> Result<(u64, u64)> {
    let health: Value = serde_json::from_str(&lab.get(HEALTH)?)?;
    let number = |name: &str| {
        let path = format!("/sensor/packets/egress/{name}");
        health.pointer(&path).and_then(Value::as_u64).with_context(|| format!("no {path} in {health}"))
    };
    Ok((number("seen")?, number("seen_bytes")?))
}

#[test]
fn a_tag_beside_the_frame_is_among_the_bytes_sent() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    // No packets but the test's own.
    lab.succeed(Side::Server, &["sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1"])?;
    lab.succeed(Side::Server, &["sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"])?;
    // A bridge that snoops joins the group of those that do, and says so at its ports.
    let bridge = ["ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0"];
    if !lab.output(Side::Server, &bridge)?.status.success() {
        eprintln!("SKIPPED: this kernel has no bridge");
        return Ok(());
    }
    lab.succeed(Side::Server, &["ip", "link", "add", "in0", "type", "veth", "peer", "name", "in1"])?;
    for port in ["in1", SERVER_IF] {
        lab.succeed(Side::Server, &["ip", "link", "set", port, "master", "br0"])?;
    }
    for link in ["in0", "in1", "br0"] {
        lab.succeed(Side::Server, &["ip", "link", "set", link, "up"])?;
    }
    let binary = binary()?.to_string_lossy().into_owned();
    let logs = lab.directory().join("logs").to_string_lossy().into_owned();
    lab.start(Side::Server, "sensor", &[&binary, "run", "--log-dir", &logs, "-i", SERVER_IF, "--attach", "host"], &[])?;
    wait_until(Duration::from_secs(30), || lab.get("http://127.0.0.1:8000/health/ready").is_ok())
        .and_then(|()| wait_until(Duration::from_secs(30), || sent(&lab).is_ok()))
        .with_context(|| format!("the sensor did not become ready:\n{}", lab.log("sensor")))?;
    let (packets_before, bytes_before) = sent(&lab)?;
    lab.succeed(Side::Server, &["python3", "-c", SEND])?;
    wait_until(Duration::from_secs(10), || sent(&lab).is_ok_and(|(packets, _)| packets >= packets_before + FRAMES))
        .context("the frames did not come by")?;
    let (packets, bytes) = sent(&lab)?;
    let (packets, bytes) = (packets - packets_before, bytes - bytes_before);
    ensure!(
        (packets, bytes) == (FRAMES, FRAMES * FRAME_LENGTH),
        "{packets} frames of {bytes} bytes; the wire carried {FRAMES} of {FRAME_LENGTH} each"
    );
    let code = lab.stop("sensor", libc::SIGTERM)?;
    ensure!(code == Some(0), "the sensor ended with {code:?}:\n{}", lab.log("sensor"));
    Ok(())
}
