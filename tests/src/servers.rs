//! Real servers that take the sensor's events: rsyslog, NATS with JetStream, and small receivers in Python. They listen on
//! loopback, keep everything in a folder of their own and end with the test.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{fixture, lab::wait_until};

/// How long a server may take to start.
const STARTS_WITHIN: Duration = Duration::from_secs(30);

/// A server that is running.
pub struct Server {
    child: Child,
}

impl Server {
    /// Starts a program whose output goes to a file.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let log = fs::File::options().create(true).append(true).open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { child })
    }

    /// Kills it as a crash would.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where setup unpacks servers. `None`, said loudly, if a program is not there; the caller then skips.
///
/// # Errors
/// When there is no place to look for it.
pub fn unpacked(program: &str) -> Result<Option<PathBuf>> {
    let cache = match env::var_os("ML_IDS_CACHE") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".cache/ml-ids"),
    };
    let root = cache.join("tools/servers");
    let file = root.join(program);
    if file.exists() {
        return Ok(Some(root));
    }
    eprintln!("SKIPPED: {} is not there; `cargo xtask setup --tests` makes it", file.display());
    Ok(None)
}

/// A port that was free a moment ago, for TCP and UDP.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Waits until somebody listens on a port of this host.
///
/// # Errors
/// When nobody does.
pub fn wait_for_port(port: u16, log: &Path) -> Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    wait_until(STARTS_WITHIN, || TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())
        .with_context(|| format!("nobody listens:\n{}", fs::read_to_string(log).unwrap_or_default()))
}

/// rsyslog in a folder.
#[derive(Clone, Debug)]
pub struct Rsyslog {
    root: PathBuf,
    folder: PathBuf,
    /// Its port, for TCP and UDP.
    pub port: u16,
}

impl Rsyslog {
    /// Prepares one; `None` when it is not there.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn prepare(folder: &Path) -> Result<Option<Self>> {
        let Some(root) = unpacked("usr/sbin/rsyslogd")? else { return Ok(None) };
        let rsyslog = Self { root, folder: folder.to_owned(), port: free_port()? };
        let (port, socket, output) = (rsyslog.port, rsyslog.socket(), rsyslog.output());
        // The local socket as Debian has it, but for its place.
        let configuration = format!(
            r#"module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="{}")
module(load="imtcp")
input(type="imtcp" address="127.0.0.1" port="{port}")
module(load="imudp")
input(type="imudp" address="127.0.0.1" port="{port}")
template(name="parts" type="string" string="%app-name%|%procid%|%msgid%|%syslogfacility-text%|%syslogseverity%|%hostname%|%structured-data%|%msg%\n")
action(type="omfile" file="{}" template="parts")
"#,
            socket.display(),
            output.display()
        );
        fs::write(rsyslog.folder.join("rsyslog.conf"), configuration)?;
        Ok(Some(rsyslog))
    }

    /// Its local socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("log.sock")
    }

    /// Where it writes.
    #[must_use]
    pub fn output(&self) -> PathBuf {
        self.folder.join("syslog")
    }

    /// Its command.
    #[must_use]
    pub fn command(&self) -> Command {
        let libraries = self.root.join("usr/lib/x86_64-linux-gnu");
        let libraries = if libraries.exists() { libraries } else { self.root.join("usr/lib/aarch64-linux-gnu") };
        let mut command = Command::new(self.root.join("usr/sbin/rsyslogd"));
        command.env("LD_LIBRARY_PATH", &libraries).arg("-n").arg("-f").arg(self.folder.join("rsyslog.conf"));
        command.arg("-i").arg(self.folder.join("rsyslog.pid")).arg("-M").arg(libraries.join("rsyslog"));
        command
    }

    /// Removes what one that was killed has left behind, and the next would stumble over.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn forget(&self) -> Result<()> {
        for file in [self.folder.join("rsyslog.pid"), self.socket()] {
            if file.exists() {
                fs::remove_file(file)?;
            }
        }
        Ok(())
    }

    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(&self) -> Result<Server> {
        self.forget()?;
        let log = self.folder.join("rsyslog.log");
        let server = Server::start(&mut self.command(), &log)?;
        wait_for_port(self.port, &log)?;
        wait_until(STARTS_WITHIN, || self.socket().exists()).context("no local socket")?;
        Ok(server)
    }
}

/// NATS with JetStream in a folder.
#[derive(Clone, Debug)]
pub struct Nats {
    root: PathBuf,
    folder: PathBuf,
    /// Its port.
    pub port: u16,
}

impl Nats {
    /// Prepares one; `None` when it is not there.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn prepare(folder: &Path) -> Result<Option<Self>> {
        let Some(root) = unpacked("usr/sbin/nats-server")? else { return Ok(None) };
        Ok(Some(Self { root, folder: folder.to_owned(), port: free_port()? }))
    }

    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(&self, arguments: &[&str]) -> Result<Server> {
        let mut command = Command::new(self.root.join("usr/sbin/nats-server"));
        command.args(["--addr", "127.0.0.1", "--port", &self.port.to_string(), "--jetstream", "--store_dir"]);
        command.arg(self.folder.join("jetstream")).args(arguments);
        let log = self.folder.join("nats.log");
        let server = Server::start(&mut command, &log)?;
        wait_for_port(self.port, &log)?;
        Ok(server)
    }
}

/// Starts `tests/data/receiver.py`, which appends what it gets to `output`: `http PORT`, `unix PATH` or `unixgram PATH`.
///
/// # Errors
/// When it does not get ready.
pub fn receiver(kind: &str, place: &str, output: &Path) -> Result<Server> {
    let log = output.with_extension("receiver.log");
    let _ = fs::remove_file(&log);
    let mut command = Command::new("python3");
    command.arg(fixture("receiver.py")).args([kind, place]).arg(output);
    let server = Server::start(&mut command, &log)?;
    let said = || fs::read_to_string(&log).unwrap_or_default();
    wait_until(STARTS_WITHIN, || said().contains("ready")).with_context(|| format!("no receiver: {}", said()))?;
    Ok(server)
}
