//! What waiting costs: nothing while nothing happens, and no more than milliseconds when a flow is over.

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    lab::{Lab, SERVER_V4, Side},
    load::process_ticks,
    sensor,
};
use serde_json::Value;

/// Ticks of CPU time in five idle seconds, of 500: less than one in a hundred.
const MOST_IDLE_TICKS: u64 = 4;
/// Flows that end one after the other.
const FLOWS: usize = 20;
/// The linger time of the sensor, in seconds.
const LINGER: f64 = 1.0;
/// How late the flow in the middle may be in the log, in seconds. Machines that run tests are busy.
const LATE: f64 = 0.15;

#[test]
fn a_sensor_with_nothing_to_do_takes_next_to_no_cpu_time() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    sensor::start(&mut lab, &[])?;
    let pid = lab.pid("sensor")?;
    // The namespaces' own chatter after a link came up is over by then.
    thread::sleep(Duration::from_secs(3));
    let before = process_ticks(pid)?;
    thread::sleep(Duration::from_secs(5));
    let ticks = process_ticks(pid)? - before;
    eprintln!("{ticks} ticks of CPU time in 5 s");
    ensure!(ticks <= MOST_IDLE_TICKS, "the idle sensor took {ticks} ticks of CPU time in 5 s");
    sensor::stop(&mut lab, libc::SIGINT)
}

/// Reads what has been added to a log file since the last time.
struct Tail {
    path: PathBuf,
    read: usize,
}

impl Tail {
    fn lines(&mut self) -> Vec<Value> {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        let fresh = text.get(self.read..).unwrap_or_default();
        let whole = fresh.rfind('\n').map_or(0, |end| end + 1);
        self.read += whole;
        fresh.get(..whole).unwrap_or_default().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }
}

#[test]
fn a_flow_is_in_the_log_within_milliseconds_of_the_end_of_its_linger_time() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    sensor::start(&mut lab, &[])?;
    // Refused by an RST, in pairs, so that there are looks at several flows, too.
    let script = format!(
        "import socket, time\nfor port in range({FLOWS}):\n  socket.socket().connect_ex(('{SERVER_V4}', 81 + port))\n  \
         time.sleep(0.04 * (port % 2))"
    );
    lab.succeed(Side::Client, &["python3", "-c", &script])?;
    let logs = lab.directory().join("logs");
    let mut tails =
        ["positive_predictions.log", "negative_predictions.log"].map(|name| Tail { path: logs.join(name), read: 0 });
    let mut delays = Vec::new();
    let end = Instant::now() + Duration::from_secs(10);
    while delays.len() < FLOWS && Instant::now() < end {
        for event in tails.iter_mut().flat_map(Tail::lines) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
            if event.pointer("/flow/reason").and_then(Value::as_str) == Some("rst") {
                let last = event.pointer("/flow/end").and_then(Value::as_str).context("no flow.end")?;
                let last = sensor::unix_seconds(last)?;
                delays.push(now - last - LINGER);
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    ensure!(delays.len() == FLOWS, "{} of {FLOWS} flows are in the logs\n{}", delays.len(), lab.log("sensor"));
    delays.sort_by(f64::total_cmp);
    let middle = delays[FLOWS / 2];
    eprintln!("in the log {:.1} ms after the linger time, at most {:.1} ms", middle * 1e3, delays[FLOWS - 1] * 1e3);
    ensure!((0.0..LATE).contains(&middle), "the flow in the middle was {middle:.3} s late: {delays:?}");
    sensor::stop(&mut lab, libc::SIGINT)
}
