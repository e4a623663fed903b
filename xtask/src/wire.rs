//! Two network namespaces with a veth pair between them, a sensor in one of them, and what it takes: where benches and the
//! soak test send their packets.

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::process;

/// The sender's interface.
pub(crate) const CLIENT_INTERFACE: &str = "cli0";
/// The interface that the sensor watches.
pub(crate) const SERVER_INTERFACE: &str = "srv0";
/// How long a sensor may take until it is ready.
const START: Duration = Duration::from_secs(60);
/// Clock ticks a second, as `/proc` counts CPU time.
const TICKS: f64 = 100.0;

/// The namespaces; gone when dropped.
pub(crate) struct Wire {
    client: String,
    server: String,
}

impl Wire {
    /// Makes them. `name` is how their names begin.
    pub(crate) fn build(name: &str) -> anyhow::Result<Self> {
        ensure!(process::is_root(), "network namespaces and eBPF programs take root; run it as root");
        let wire = Self { client: format!("{name}-c"), server: format!("{name}-s") };
        // What an earlier run that was killed may have left.
        wire.remove();
        ip(&["netns", "add", &wire.client])?;
        ip(&["netns", "add", &wire.server])?;
        let (client, server) = (&wire.client, &wire.server);
        ip(&[
            "link",
            "add",
            CLIENT_INTERFACE,
            "netns",
            client,
            "type",
            "veth",
            "peer",
            "name",
            SERVER_INTERFACE,
            "netns",
            server,
        ])?;
        for (namespace, interface) in [(client, CLIENT_INTERFACE), (server, SERVER_INTERFACE)] {
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
            ip(&["-n", namespace, "link", "set", interface, "up"])?;
        }
        Ok(wire)
    }

    /// The same without IPv6, whose neighbour discovery makes flows of its own.
    pub(crate) fn without_ipv6(self) -> anyhow::Result<Self> {
        for mut command in [self.client(), self.server()] {
            process::visible(command.args(["sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6"]))?;
        }
        Ok(self)
    }

    /// A command where packets are sent.
    pub(crate) fn client(&self) -> Command {
        within(&self.client)
    }

    /// A command where the sensor runs.
    pub(crate) fn server(&self) -> Command {
        within(&self.server)
    }

    /// The file that is the namespace of the sensor.
    pub(crate) fn server_namespace(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.server)
    }

    /// The answer of the sensor to a path, if it gives JSON.
    pub(crate) fn ask(&self, path: &str) -> Option<Value> {
        let url = format!("http://127.0.0.1:8000{path}");
        serde_json::from_str(&process::stdout(self.server().args(["curl", "-s", "--max-time", "5", &url]))?).ok()
    }

    /// Starts a sensor on the server's interface and waits until it is ready.
    pub(crate) fn sensor(
        &self,
        agent: &Path,
        arguments: &[impl AsRef<OsStr>],
        folder: &Path,
        log: Stdio,
        level: &str,
    ) -> anyhow::Result<Sensor> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut command = self.server();
        command.arg(agent).args(["run", "-i", SERVER_INTERFACE, "--attach", "host", "--log-dir"]).arg(logs(folder));
        command.args(arguments).env("ML_IDS_STATE_DIR", state(folder)).env("RUST_LOG", level);
        let mut sensor = Sensor(command.stdout(Stdio::null()).stderr(log).spawn().context("cannot start the sensor")?);
        let limit = Instant::now() + START;
        while self.ask("/health/ready").is_none_or(|ready| ready["status"] != "ready") {
            ensure!(sensor.0.try_wait()?.is_none(), "the sensor ended before it was ready; its log says why");
            ensure!(Instant::now() < limit, "the sensor did not become ready within {} s", START.as_secs());
            thread::sleep(Duration::from_millis(100));
        }
        Ok(sensor)
    }

    fn remove(&self) {
        for namespace in [&self.client, &self.server] {
            // It may not be there.
            let _ = process::stdout(Command::new("ip").args(["netns", "del", namespace]));
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.remove();
    }
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    process::visible(Command::new("ip").args(arguments))
}

fn within(namespace: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]);
    command
}

/// A running sensor; killed when dropped, and the kernel detaches.
pub(crate) struct Sensor(Child);

impl Sensor {
    /// CPU time so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).context("the sensor is gone")?;
        let (_, fields) = stat.rsplit_once(") ").context("no fields in /proc/PID/stat")?;
        let ticks: f64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
        Ok(ticks / TICKS)
    }

    /// Resident memory now, in MiB.
    pub(crate) fn resident_mib(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).context("the sensor is gone")?;
        let kilobytes: Option<f64> =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().split(' ').next()?.parse().ok());
        Ok(kilobytes.context("no VmRSS")? / 1024.0)
    }

    /// Descriptors that are open now.
    pub(crate) fn descriptors(&self) -> anyhow::Result<f64> {
        let folder = format!("/proc/{}/fd", self.0.id());
        Ok(fs::read_dir(folder).context("the sensor is gone")?.count() as f64)
    }

    /// Kills it with no time for anything.
    pub(crate) fn kill(mut self) -> anyhow::Result<()> {
        self.0.kill().context("the sensor is gone")?;
        self.0.wait().context("the sensor is gone").map(drop)
    }

    /// Ends it as an operator does. Returns its exit code.
    pub(crate) fn stop(mut self) -> anyhow::Result<Option<i32>> {
        let id = self.0.id().to_string();
        process::visible(Command::new("sh").args(["-c", &format!("kill -TERM {id}")]))?;
        Ok(self.0.wait().context("the sensor is gone")?.code())
    }
}

impl Drop for Sensor {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where a sensor of this folder has its log files. It makes that by itself, as the account that it becomes.
pub(crate) fn logs(folder: &Path) -> PathBuf {
    folder.join("logs")
}

/// Where it keeps its alerts.
pub(crate) fn state(folder: &Path) -> PathBuf {
    folder.join("state")
}

/// A log file that a sensor appends to.
pub(crate) fn log_file(path: &Path) -> anyhow::Result<Stdio> {
    let file = File::options().create(true).append(true).open(path);
    Ok(file.with_context(|| format!("cannot write {}", path.display()))?.into())
}
