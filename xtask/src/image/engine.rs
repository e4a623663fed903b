//! A Docker to work with: the one that answers, or one of our own that ends with this value.
//!
//! Its own is Debian 13's, unpacked into the cache (Debian 12's does not know `CAP_BPF`) with Debian 12's runc, which is built
//! for an older C library. No bridge and no firewall rules: everything uses the network in which the daemon runs.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use crate::{archive::Archive, process, workspace};

const PACKAGES: [&str; 5] = ["docker.io", "docker-cli", "docker-buildx", "docker-compose", "containerd"];
const SOURCE: &str = "http://deb.debian.org/debian trixie main";
const RUNC_SOURCE: &str = "http://deb.debian.org/debian bookworm main";
/// Longest that the daemon may take to answer, and to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A Docker that answers.
pub(super) struct Engine {
    own: Option<Own>,
}

/// A daemon of ours.
struct Own {
    daemon: Child,
    socket: PathBuf,
    configuration: PathBuf,
    path: OsString,
    /// Holds the socket and the log.
    run: PathBuf,
}

impl Engine {
    /// Finds or starts one; `namespace` names the network namespace that it is to run in, and then it is always one of ours.
    pub(super) fn start(namespace: Option<&str>) -> anyhow::Result<Self> {
        if namespace.is_none()
            && process::stdout(Command::new("docker").args(["version", "--format", "{{.Server.Version}}"])).is_some()
        {
            return Ok(Self { own: None });
        }
        Ok(Self { own: Some(Own::start(namespace)?) })
    }

    /// Whether `docker version` of the machine answers, so that images are not in our own store.
    pub(super) fn is_the_machines(&self) -> bool {
        self.own.is_none()
    }

    /// A command of `docker`.
    pub(super) fn docker(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        if let Some(Own { socket, configuration, path, .. }) = &self.own {
            command = Command::new("/usr/bin/env");
            command
                .env("PATH", path)
                .env("DOCKER_HOST", format!("unix://{}", socket.display()))
                .env("DOCKER_CONFIG", configuration)
                .arg("docker");
        }
        command.args(arguments).current_dir(workspace::root());
        command
    }

    /// What a command of `docker` prints when it succeeds.
    pub(super) fn said(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = self.docker(arguments);
        let output = command.output().with_context(|| format!("cannot start {}", process::shown(&command)))?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "docker {} failed:\n{out}{err}", arguments.join(" "));
        Ok(out.into_owned())
    }
}

impl Own {
    fn start(namespace: Option<&str>) -> anyhow::Result<Self> {
        let root = provide()?;
        let path = env::var_os("PATH").unwrap_or_default();
        let own = ["usr/bin", "usr/sbin"].map(|part| root.join(part));
        let path =
            env::join_paths(own.into_iter().chain(env::split_paths(&path))).context("PATH cannot be extended")?;
        // Short: a socket's path may have 107 bytes.
        let run = PathBuf::from(format!("/tmp/ml-ids-docker-{}", std::process::id()));
        let configuration = run.join("config");
        fs::create_dir_all(&configuration).with_context(|| format!("cannot create {}", configuration.display()))?;
        let plugins = root.join("usr/libexec/docker/cli-plugins");
        fs::write(configuration.join("config.json"), format!("{{\"cliPluginsExtraDirs\": [{plugins:?}]}}"))?;
        let socket = run.join("socket");
        let log = File::create(run.join("dockerd.log")).context("cannot write the daemon's log")?;
        let mut command = match namespace {
            Some(name) => {
                // `ip netns exec` would mount another /sys, without the control groups.
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{name}")).arg(root.join("usr/sbin/dockerd"));
                command
            }
            None => Command::new(root.join("usr/sbin/dockerd")),
        };
        command
            .env("PATH", &path)
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--data-root"])
            .arg(workspace::cache()?.join("docker/data"))
            .arg("--exec-root")
            .arg(run.join("exec"))
            .arg("--pidfile")
            .arg(run.join("pid"))
            .arg("--host")
            .arg(format!("unix://{}", socket.display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let daemon = command.spawn().context("cannot start dockerd")?;
        let own = Self { daemon, socket, configuration, path, run };
        own.wait()
    }

    fn wait(mut self) -> anyhow::Result<Self> {
        let log = self.run.join("dockerd.log");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut version = Command::new("/usr/bin/env");
            version.env("PATH", &self.path).env("DOCKER_HOST", format!("unix://{}", self.socket.display()));
            if process::stdout(version.args(["docker", "version"])).is_some() {
                return Ok(self);
            }
            if self.daemon.try_wait()?.is_some() || Instant::now() > deadline {
                let said = fs::read_to_string(&log).unwrap_or_default();
                bail!("dockerd does not come up:\n{said}");
            }
            thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Own {
    /// Asks the daemon to end, and waits; containers end with it.
    fn drop(&mut self) {
        let Ok(pid) = i32::try_from(self.daemon.id()) else { return };
        // SAFETY: the child has not been waited for, so the number is still its own.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if !matches!(self.daemon.try_wait(), Ok(None)) {
                // What is left are sockets and a log.
                let _ = fs::remove_dir_all(&self.run);
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        eprintln!("dockerd (process {pid}) does not end; its log is {}", self.run.join("dockerd.log").display());
    }
}

/// Unpacks it unless it is there.
fn provide() -> anyhow::Result<PathBuf> {
    let folder = workspace::cache()?.join("docker");
    let root = folder.join("tools");
    if root.exists() {
        return Ok(root);
    }
    eprintln!("fetching Docker from {SOURCE}");
    let (scratch, lists) = (folder.join("tools.new"), folder.join("apt"));
    remove(&scratch)?;
    Archive::open(lists.join("docker"), SOURCE)?.unpack(&PACKAGES.map(str::to_owned), &scratch)?;
    Archive::open(lists.join("runc"), RUNC_SOURCE)?.unpack(&["runc".to_owned()], &scratch)?;
    remove(&lists)?;
    fs::rename(&scratch, &root).with_context(|| format!("cannot create {}", root.display()))?;
    Ok(root)
}

/// Removes a folder, if it is there.
pub(super) fn remove(folder: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
