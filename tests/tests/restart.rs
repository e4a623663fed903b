//! Restarts with pinned maps and links: a sensor that is killed costs no packet and no flow, what is given up is a number,
//! and nothing stays behind that was not asked to.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    agent, binary, fixture,
    lab::{CLIENT_V4, Lab, SERVER_IF, SERVER_V4, Side, wait_until},
    sensor,
    tally::{live_flows, recorded_flows},
};

/// How often the sensor is killed.
const KILLS: u32 = 5;

/// A BPF file system in the laboratory's directory. `ip netns exec` gives each command a `/sys` of its own, and what is
/// mounted below that goes with the command.
struct Bpffs(PathBuf);

impl Bpffs {
    fn mount(lab: &Lab) -> Result<Self> {
        let path = lab.directory().join("bpf");
        fs::create_dir_all(&path)?;
        let text = path.to_string_lossy().into_owned();
        agent::run(Command::new("mount").args(["-t", "bpf", "bpf", &text]), b"", agent::LIMIT)?.expect(0)?;
        Ok(Self(path))
    }

    fn pins(&self) -> String {
        self.0.join("ml-ids").to_string_lossy().into_owned()
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        // With it go all pins, and with these the hooks; lazily, because after a failure a sensor may still be using it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn arguments<'a>(pins: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["-i", SERVER_IF, "--attach", "host", "--pin", "--pin-dir", pins], more].concat()
}

/// Whether something is attached to the server's interface.
fn attached(lab: &Lab) -> Result<bool> {
    Ok(lab.succeed(Side::Server, &["ip", "-details", "link", "show", "dev", SERVER_IF])?.contains("xdp"))
}

/// Ends a sensor that leaves its programs in place.
fn leave(lab: &mut Lab) -> Result<String> {
    let code = lab.stop("sensor", libc::SIGTERM)?;
    let log = lab.log("sensor");
    ensure!(code == Some(0) && log.contains("the books balance"), "the sensor ended with {code:?}:\n{log}");
    ensure!(log.contains("go on counting") && log.contains("ml-ids unpin"), "it does not say what stays:\n{log}");
    ensure!(attached(lab)?, "nothing is attached any more");
    Ok(log)
}

/// Runs `ml-ids unpin`. Returns its exit code and all that it printed.
fn unpin(lab: &Lab, pins: &str, more: &[&str]) -> Result<(Option<i32>, String)> {
    let binary = binary()?.to_string_lossy().into_owned();
    let output = lab.output(Side::Server, &[&[binary.as_str(), "unpin", "--pin-dir", pins], more].concat())?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&text).into_owned()))
}

/// The number before `words` in a text.
fn number_before(text: &str, words: &str) -> Option<u64> {
    let (before, _) = text.split_once(words)?;
    before.rsplit(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

/// Sends UDP datagrams from the client, each a flow of its own.
fn datagrams(lab: &Lab, count: u32) -> Result<()> {
    let script = format!(
        "import socket\nfor _ in range({count}):\n with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s: \
         s.sendto(b'x', ('{SERVER_V4}', 9))"
    );
    lab.succeed(Side::Client, &["python3", "-c", &script]).map(drop)
}

/// A time between a tenth of a second and nearly one, another with each call.
fn a_moment() {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
    sleep(Duration::from_millis(100 + u64::from(nanos / 1_000 % 800)));
}

#[test]
fn a_sensor_that_is_killed_again_and_again_loses_no_packet_and_no_flow() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    let bpffs = Bpffs::mount(&lab)?;
    let pins = bpffs.pins();
    let capture = lab.directory().join("wire.pcap").to_string_lossy().into_owned();
    let tcpdump = ["tcpdump", "-i", SERVER_IF, "--immediate-mode", "-s", "0", "-B", "16384", "-U", "-w", &capture];
    lab.start(Side::Server, "tcpdump", &tcpdump, &[])?;
    lab.wait_for_log("tcpdump", "listening on")?;
    sensor::start(&mut lab, &arguments(&pins, &[]))?;

    let script = fixture("chatter.py").to_string_lossy().into_owned();
    let stop = lab.directory().join("stop");
    lab.start(Side::Server, "server", &["python3", &script, "serve", SERVER_V4], &[])?;
    lab.wait_for_log("server", "ready")?;
    lab.start(Side::Client, "client", &["python3", &script, "talk", SERVER_V4, &stop.to_string_lossy()], &[])?;
    lab.wait_for_log("client", "long")?;

    // Flows that were read from the kernel by a sensor that was killed before it had judged them.
    let mut lost = 0;
    for kill in 1..=KILLS {
        a_moment();
        lab.stop("sensor", libc::SIGKILL)?;
        ensure!(attached(&lab)?, "kill {kill} detached the hooks");
        a_moment();
        sensor::start(&mut lab, &arguments(&pins, &[]))?;
        let log = lab.log("sensor");
        ensure!(
            log.contains("going on with the pinned flow table") && log.contains("was killed"),
            "kill {kill}:\n{log}"
        );
        lost += number_before(&log, " flows that the previous sensor had taken").unwrap_or(0);
    }
    a_moment();
    fs::write(&stop, "")?;
    lab.wait_for_log("client", "done")?;
    // Until the ended conversations have lingered.
    sleep(Duration::from_millis(1_500));
    let log = leave(&mut lab)?;
    let open = number_before(&log, " stay open in the pinned table").context("how many flows stay open")?;
    ensure!(open > 50, "only {open} flows were open at the end");

    // Another size of the table: what is still open in the old one is ended and judged.
    sensor::start(&mut lab, &arguments(&pins, &["--max-flows", "2048"]))?;
    let log = lab.log("sensor");
    ensure!(log.contains("it has --max-flows 131072, not 2048"), "the reason is missing:\n{log}");
    ensure!(number_before(&log, " open flows end here").is_some_and(|flows| flows >= open), "{open} flows:\n{log}");
    leave(&mut lab)?;
    let (code, said) = unpin(&lab, &pins, &[])?;
    ensure!(code == Some(0) && !attached(&lab)? && !Path::new(&pins).exists(), "unpin: {code:?}\n{said}");
    lab.stop("tcpdump", libc::SIGINT)?;

    let recorded = recorded_flows(Path::new(&capture))?;
    let live = live_flows(&sensor::events(&lab)?);
    let port = lab.log("client").split_whitespace().nth(1).context("the long conversation's port")?.to_owned();
    let long = recorded.iter().find(|(name, _)| name.contains(&format!(":{port} >"))).context("not recorded")?;
    ensure!(long.1.len() == 1 && long.1[0][0] > 1_000, "the long conversation in the capture: {long:?}");
    ensure!(live.get(long.0) == Some(long.1), "{}: recorded {:?}, live {:?}", long.0, long.1, live.get(long.0));
    let mut missing = 0;
    for (name, tallies) in &recorded {
        match live.get(name) {
            Some(flows) => ensure!(flows == tallies, "{name}: recorded {tallies:?}, live {flows:?}"),
            None => missing += tallies.len() as u64,
        }
    }
    ensure!(missing <= lost, "{missing} of {} flows are missing, but only {lost} were reported lost", recorded.len());
    for name in live.keys() {
        ensure!(recorded.contains_key(name), "{name} was seen live but is not in the capture");
    }
    println!("{} flows, {missing} missing, {lost} reported lost, {:?} in the long one", recorded.len(), long.1);
    Ok(())
}

#[test]
fn one_sensor_has_the_pins_and_unpin_leaves_nothing_behind() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    let bpffs = Bpffs::mount(&lab)?;
    let pins = bpffs.pins();
    let (code, said) = unpin(&lab, &pins, &[])?;
    ensure!(code == Some(0) && said.contains("nothing is pinned"), "unpin of nothing: {code:?}\n{said}");
    sensor::start(&mut lab, &arguments(&pins, &[]))?;

    let binary = binary()?.to_string_lossy().into_owned();
    let logs = lab.directory().join("second").to_string_lossy().into_owned();
    let second =
        [&[binary.as_str(), "run", "--listen", "127.0.0.1:8001", "--log-dir", &logs][..], &arguments(&pins, &[])];
    let output = lab.output(Side::Server, &second.concat())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1) && said.contains("in use by a running sensor (process "), "second: {said}");
    let (code, said) = unpin(&lab, &pins, &[])?;
    ensure!(code == Some(1) && said.contains("--force") && attached(&lab)?, "unpin of a running one: {code:?}\n{said}");

    leave(&mut lab)?;
    // Nobody is there but the programs.
    datagrams(&lab, 25)?;
    let (code, said) = unpin(&lab, &pins, &[])?;
    ensure!(code == Some(0) && said.contains("detached xdp-native on interface"), "{code:?}\n{said}");
    ensure!(number_before(&said, " live flows").is_some_and(|flows| flows >= 25), "25 flows were open:\n{said}");
    ensure!(!attached(&lab)? && !Path::new(&pins).exists(), "something stays behind:\n{said}");

    // A table that another version made is detached and counted, and a new one begun.
    sensor::start(&mut lab, &arguments(&pins, &[]))?;
    datagrams(&lab, 25)?;
    leave(&mut lab)?;
    let ours = fs::read_dir(&pins)?.next().context("no table")??.path();
    fs::rename(&ours, Path::new(&pins).join("v1-00000000"))?;
    sensor::start(&mut lab, &arguments(&pins, &[]))?;
    let log = lab.log("sensor");
    ensure!(log.contains("another version of ml-ids made it") && ours.exists(), "{log}");
    ensure!(number_before(&log, " live flows and").is_some_and(|flows| flows >= 25), "25 flows were open:\n{log}");
    ensure!(fs::read_dir(&pins)?.count() == 1, "the other version's table is still there");
    leave(&mut lab)?;

    // From a sensor that runs, its hooks can be taken by force. It ends in order all the same.
    sensor::start(&mut lab, &arguments(&pins, &[]))?;
    let (code, said) = unpin(&lab, &pins, &["--force"])?;
    ensure!(code == Some(0) && !attached(&lab)? && !Path::new(&pins).exists(), "by force: {code:?}\n{said}");
    ensure!(lab.stop("sensor", libc::SIGTERM)? == Some(0), "the sensor:\n{}", lab.log("sensor"));
    Ok(())
}

#[test]
fn blocks_of_a_sensor_that_was_killed_can_be_ended_by_hand_and_by_the_next_sensor() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    let bpffs = Bpffs::mount(&lab)?;
    let (pins, root) = (bpffs.pins(), bpffs.0.to_string_lossy().into_owned());
    let binary = binary()?.to_string_lossy().into_owned();
    let block = |lab: &Lab, more: &[&str]| {
        lab.succeed(Side::Server, &[&[binary.as_str(), "block", "--bpffs", &root], more].concat())
    };
    let reaches = |lab: &Lab| {
        lab.output(Side::Client, &["ping", "-q", "-c", "2", "-i", "0.2", "-W", "1", SERVER_V4])
            .is_ok_and(|output| output.status.success())
    };
    let with_block = ["--block", "--bpffs", &root];
    sensor::start(&mut lab, &arguments(&pins, &with_block))?;
    ensure!(reaches(&lab), "nothing is blocked yet");
    block(&lab, &["add", CLIENT_V4, "--ttl", "1h"])?;
    ensure!(!reaches(&lab), "a blocked source gets through");
    lab.stop("sensor", libc::SIGKILL)?;
    ensure!(!reaches(&lab), "the kill ended the block");
    block(&lab, &["clear"])?;
    ensure!(reaches(&lab), "the block of a killed sensor cannot be ended");

    block_and_kill(&mut lab, &pins, &with_block, &block)?;
    sensor::start(&mut lab, &arguments(&pins, &[]))?;
    ensure!(reaches(&lab), "the next sensor goes on with the block");
    leave(&mut lab)?;

    block_and_kill(&mut lab, &pins, &with_block, &block)?;
    let (code, said) = unpin(&lab, &pins, &[])?;
    ensure!(code == Some(0) && reaches(&lab) && !Path::new(&pins).exists(), "unpin: {code:?}\n{said}");
    Ok(())
}

/// A sensor that blocks the client and is killed.
fn block_and_kill(
    lab: &mut Lab,
    pins: &str,
    with_block: &[&str],
    block: &impl Fn(&Lab, &[&str]) -> Result<String>,
) -> Result<()> {
    sensor::start(lab, &arguments(pins, with_block))?;
    block(lab, &["add", CLIENT_V4, "--ttl", "1h"])?;
    lab.stop("sensor", libc::SIGKILL)?;
    Ok(())
}

#[test]
fn a_kill_without_pins_is_told_as_a_number_at_the_next_start() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    sensor::start(&mut lab, &[])?;
    datagrams(&lab, 25)?;
    let notes = |lab: &Lab| {
        let files = fs::read_dir(lab.directory().join("logs")).into_iter().flatten().filter_map(Result::ok);
        files
            .map(|file| file.path())
            .filter(|path| path.extension().is_some_and(|end| end == "state"))
            .collect::<Vec<_>>()
    };
    let noted = |lab: &Lab| notes(lab).iter().filter_map(|path| fs::read_to_string(path).ok()).collect::<String>();
    let live = |lab: &Lab| number_before(noted(lab).split_once("live_flows\":")?.1, ",");
    wait_until(Duration::from_secs(10), || live(&lab).is_some_and(|flows| flows >= 25))
        .with_context(|| format!("the number of flows is not noted: {}", noted(&lab)))?;
    lab.stop("sensor", libc::SIGKILL)?;
    ensure!(!attached(&lab)?, "the hooks outlive a sensor without pins");
    sensor::start(&mut lab, &[])?;
    let log = lab.log("sensor");
    ensure!(log.contains("ended without shutting down"), "no word of the killed sensor:\n{log}");
    ensure!(number_before(&log, " flows that it watched were lost").is_some_and(|flows| flows >= 25), "{log}");
    sensor::stop(&mut lab, libc::SIGTERM)?;
    ensure!(notes(&lab).is_empty(), "a note stays behind: {:?}", notes(&lab));
    Ok(())
}
