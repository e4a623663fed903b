//! The image at work, in a network of two namespaces: Docker and with it the sensor in one, a web server in the other.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use super::{TAG, engine::Engine};
use crate::{process, workspace};

/// The sensor's side and the other.
pub(super) const NAMESPACES: [&str; 2] = ["ml-ids-image", "ml-ids-image-peer"];
/// The ends of the wire between them.
pub(super) const WIRE: [&str; 2] = ["image0", "image1"];
/// Addresses of these ends.
pub(super) const ADDRESSES: [&str; 2] = ["10.88.0.1", "10.88.0.2"];
const CONTAINER: &str = "ml-ids-image";
/// Connections that are made.
pub(super) const CONNECTIONS: usize = 10;
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest that the sensor may take to end, as Docker counts it.
const END: Duration = Duration::from_secs(5);

/// Removes the namespaces, and all that is in them, whatever happens.
pub(super) struct Network {
    server: Option<Child>,
}

impl Network {
    pub(super) fn make() -> anyhow::Result<Self> {
        let network = Self { server: None };
        network.remove();
        for namespace in NAMESPACES {
            ip(&["netns", "add", namespace])?;
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        }
        ip(&[
            "-n",
            NAMESPACES[0],
            "link",
            "add",
            WIRE[0],
            "type",
            "veth",
            "peer",
            "name",
            WIRE[1],
            "netns",
            NAMESPACES[1],
        ])?;
        for side in [0, 1] {
            ip(&["-n", NAMESPACES[side], "address", "add", &format!("{}/24", ADDRESSES[side]), "dev", WIRE[side]])?;
            ip(&["-n", NAMESPACES[side], "link", "set", WIRE[side], "up"])?;
        }
        Ok(network)
    }

    /// A web server on the other side.
    pub(super) fn serve(&mut self, folder: &Path) -> anyhow::Result<()> {
        let mut server = inside(1, "python3");
        server.args(["-m", "http.server", "8080", "--bind", ADDRESSES[1], "--directory"]).arg(folder);
        self.server = Some(server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("cannot start python3")?);
        let address = format!("http://{}:8080/", ADDRESSES[1]);
        until("the web server answers", PATIENCE, || Ok(fetch(&address).is_some()))
    }

    fn remove(&self) {
        for namespace in NAMESPACES {
            // Most often there is none.
            let _ = Command::new("ip").args(["netns", "delete", namespace]).stderr(Stdio::null()).status();
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
        self.remove();
    }
}

/// Runs the image as `deploy/compose` does, and returns what was seen, a line each.
pub(super) fn run() -> anyhow::Result<Vec<String>> {
    let mut network = Network::make()?;
    let Folders { scratch, logs, site } = Folders::make("image")?;
    std::os::unix::fs::chown(&logs, Some(65532), Some(65532)).context("cannot give the log folder away")?;
    let engine = Engine::start(Some(NAMESPACES[0]))?;
    network.serve(&site)?;
    let mut seen = Vec::new();
    needs_nothing(&engine)?;
    seen.push("what needs no capability starts without any".to_owned());
    let container = Container::start(&engine, &logs)?;
    seen.push(format!("attached {:.1} s after the start", container.attached()?.as_secs_f64()));
    connect()?;
    seen.push(container.sees_traffic()?);
    seen.push(in_the_folder(&logs)?);
    seen.push(container.is_healthy()?);
    seen.push(container.stop()?);
    drop(container);
    seen.push(pins(&engine, &scratch)?);
    Ok(seen)
}

/// Where an exercise works.
pub(super) struct Folders {
    scratch: PathBuf,
    /// What the sensor writes.
    pub(super) logs: PathBuf,
    /// What the web server has.
    pub(super) site: PathBuf,
}

impl Folders {
    pub(super) fn make(name: &str) -> anyhow::Result<Self> {
        let scratch = workspace::target().join("xtask").join(name);
        super::engine::remove(&scratch)?;
        let (logs, site) = (scratch.join("logs"), scratch.join("site"));
        for folder in [&logs, &site] {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        fs::write(site.join("index.html"), "x".repeat(4096))?;
        Ok(Self { scratch, logs, site })
    }
}

/// Makes the connections, one after the other.
pub(super) fn connect() -> anyhow::Result<()> {
    for _ in 0..CONNECTIONS {
        fetch(&format!("http://{}:8080/", ADDRESSES[1])).context("the web server has stopped answering")?;
    }
    Ok(())
}

/// As root with `--pin`: the sensor becomes its user, its programs go on when it has ended, and are removed by hand.
fn pins(engine: &Engine, scratch: &Path) -> anyhow::Result<String> {
    let bpffs = BpfFs::mount(scratch.join("bpffs"))?;
    let volume = format!("{}:/sys/fs/bpf", bpffs.0.display());
    let interface = format!("CIC_INTERFACE={}", WIRE[0]);
    let mut root = vec!["--network", "host", "--user", "0", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"];
    for capability in ["BPF", "NET_ADMIN", "PERFMON", "CHOWN", "DAC_OVERRIDE", "SETUID", "SETGID", "SETPCAP"] {
        root.extend(["--cap-add", capability]);
    }
    root.extend(["--volume", &volume, "--env", &interface]);
    let own = ["--tmpfs", "/var/lib/ml-ids:uid=65532,gid=65532", "--tmpfs", "/app/logs:uid=65532,gid=65532"];
    engine.said(&[&["run", "--detach", "--name", CONTAINER], &root[..], &own, &[TAG, "run", "--pin"]].concat())?;
    let container = Container { engine, started: Instant::now() };
    container.attached()?;
    let user = engine.said(&["top", CONTAINER, "-eo", "pid,uid"])?;
    ensure!(user.split_whitespace().last() == Some("65532"), "the sensor has not become its user: {user}");
    container.stop()?;
    let left = || fs::read_dir(bpffs.0.join("ml-ids")).map_or(0, Iterator::count);
    ensure!(left() > 0, "nothing is left of what was pinned");
    drop(container);
    engine.said(&[&["run", "--rm"], &root[..], &[TAG, "unpin"]].concat())?;
    ensure!(left() == 0, "`ml-ids unpin` leaves something pinned");
    Ok("as root with --pin: it becomes user 65532, its programs go on without it, `unpin` removes them".to_owned())
}

/// A BPF file system of the exercise's own.
struct BpfFs(PathBuf);

impl BpfFs {
    fn mount(folder: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        process::visible(Command::new("mount").args(["-t", "bpf", "-o", "mode=0700", "bpf"]).arg(&folder))?;
        Ok(Self(folder))
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        // A container that still runs keeps it for itself.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// What needs no capability must start where none is granted.
fn needs_nothing(engine: &Engine) -> anyhow::Result<()> {
    for arguments in [&["model", "inspect", "embedded"][..], &["--version"]] {
        let run = ["run", "--rm", "--network", "none", "--cap-drop", "ALL", "--read-only", TAG];
        engine.said(&[&run[..], arguments].concat())?;
    }
    Ok(())
}

struct Container<'a> {
    engine: &'a Engine,
    started: Instant,
}

impl<'a> Container<'a> {
    fn start(engine: &'a Engine, logs: &Path) -> anyhow::Result<Self> {
        let started = Instant::now();
        let mount = format!("{}:/app/logs", logs.display());
        let interface = format!("CIC_INTERFACE={}", WIRE[0]);
        let mut run =
            vec!["run", "--detach", "--name", CONTAINER, "--network", "host", "--read-only", "--tmpfs", "/tmp"];
        run.extend(["--cap-drop", "ALL", "--cap-add", "BPF", "--cap-add", "NET_ADMIN", "--cap-add", "PERFMON"]);
        run.extend(["--tmpfs", "/var/lib/ml-ids:uid=65532,gid=65532", "--health-interval", "2s", "--volume", &mount]);
        run.extend(["--env", &interface, "--env", "LOG_NEGATIVE_PREDICTIONS=1", TAG]);
        // One that an earlier run has left behind.
        let _ = engine.said(&["rm", "--force", CONTAINER]);
        engine.said(&run)?;
        Ok(Self { engine, started })
    }

    fn attached(&self) -> anyhow::Result<Duration> {
        let ready =
            until("the sensor is ready", PATIENCE, || Ok(fetch("http://127.0.0.1:8000/health/ready").is_some()));
        ready.with_context(|| self.said())?;
        Ok(self.started.elapsed())
    }

    fn sees_traffic(&self) -> anyhow::Result<String> {
        let mut judged = 0;
        let health = || -> anyhow::Result<serde_json::Value> {
            let body = fetch("http://127.0.0.1:8000/health").context("/health does not answer")?;
            serde_json::from_str(&body).context("/health is not JSON")
        };
        until("every connection is judged", PATIENCE, || {
            judged = number(&health()?, "scored").unwrap_or(0);
            Ok(judged >= CONNECTIONS as u64)
        })
        .with_context(|| format!("{judged} flows judged\n{}", self.said()))?;
        Ok(format!("{judged} flows judged of {CONNECTIONS} connections"))
    }

    fn is_healthy(&self) -> anyhow::Result<String> {
        let mut state = String::new();
        until("Docker finds it healthy", PATIENCE, || {
            state = self.engine.said(&["inspect", "--format", "{{.State.Health.Status}}", CONTAINER])?;
            Ok(state.trim() == "healthy")
        })
        .with_context(|| {
            let log = self.engine.said(&["inspect", "--format", "{{json .State.Health.Log}}", CONTAINER]);
            format!("Docker says {}: {}", state.trim(), log.unwrap_or_default())
        })?;
        Ok("Docker's health check passes".to_owned())
    }

    fn stop(&self) -> anyhow::Result<String> {
        let started = Instant::now();
        self.engine.said(&["stop", "--time", "20", CONTAINER])?;
        let took = started.elapsed();
        let code = self.engine.said(&["inspect", "--format", "{{.State.ExitCode}}", CONTAINER])?;
        ensure!(code.trim() == "0", "the sensor ended with {}:\n{}", code.trim(), self.said());
        ensure!(took < END, "the sensor took {:.1} s to end:\n{}", took.as_secs_f64(), self.said());
        Ok(format!("ended {:.1} s after SIGTERM, exit code 0", took.as_secs_f64()))
    }

    /// Its log, for whoever has to find out.
    fn said(&self) -> String {
        let output = self.engine.docker(&["logs", CONTAINER]).output();
        output.map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).unwrap_or_default()
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let _ = self.engine.said(&["rm", "--force", CONTAINER]);
    }
}

/// What the sensor writes lands outside of the container.
fn in_the_folder(logs: &Path) -> anyhow::Result<String> {
    until("verdicts are in the mounted folder", PATIENCE, || Ok(verdicts(logs) >= CONNECTIONS))
        .with_context(|| format!("{} lines in {}", verdicts(logs), logs.display()))?;
    Ok(format!("{} verdicts in the mounted folder", verdicts(logs)))
}

/// Lines of both logs of verdicts.
pub(super) fn verdicts(logs: &Path) -> usize {
    let both = ["negative_predictions.log", "positive_predictions.log"].map(|name| logs.join(name));
    both.iter().filter_map(|file| fs::read_to_string(file).ok()).map(|text| text.lines().count()).sum()
}

/// The number under a key, wherever it stands.
fn number(value: &serde_json::Value, key: &str) -> Option<u64> {
    match value {
        serde_json::Value::Object(fields) => fields
            .get(key)
            .and_then(serde_json::Value::as_u64)
            .or_else(|| fields.values().find_map(|value| number(value, key))),
        serde_json::Value::Array(values) => values.iter().find_map(|value| number(value, key)),
        _ => None,
    }
}

/// The body of an answer of 200, asked for on the sensor's side.
pub(super) fn fetch(address: &str) -> Option<String> {
    process::stdout(inside(0, "curl").args(["--silent", "--fail", "--max-time", "5", address]))
}

fn inside(side: usize, program: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", NAMESPACES[side], program]);
    command
}

fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    process::visible(Command::new("ip").args(arguments))
}

/// Waits until something holds, but not longer than that.
pub(super) fn until(
    what: &str,
    patience: Duration,
    mut holds: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if holds()? {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(100));
    }
    bail!("waited in vain for this: {what}")
}
