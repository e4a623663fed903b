//! A laboratory of two network namespaces joined by a veth pair: `client` and `server`, the sensor runs on the server's
//! end. All traffic stays inside; dropping the laboratory kills what still runs in it and removes the namespaces.

use std::{
    fs, io,
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

/// Address of the client.
pub const CLIENT_V4: &str = "10.77.0.1";
/// Address of the server.
pub const SERVER_V4: &str = "10.77.0.2";
/// Address of the client.
pub const CLIENT_V6: &str = "fd77::1";
/// Address of the server.
pub const SERVER_V6: &str = "fd77::2";
/// Address of the server on VLAN 5.
pub const SERVER_VLAN: &str = "10.78.0.2";
/// The server's interface, which the sensor watches.
pub const SERVER_IF: &str = "srv0";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Two namespaces and what runs in them.
pub struct Lab {
    client: String,
    server: String,
    children: Vec<(String, Child)>,
    /// Those of the children that lead a process group.
    leaders: Vec<u32>,
    directory: PathBuf,
}

/// Which namespace.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    /// Where traffic starts.
    Client,
    /// Where the services and the sensor run.
    Server,
}

impl Lab {
    /// Builds the laboratory. `None` without root; the caller's test is skipped, loudly.
    ///
    /// # Errors
    /// When a command fails that should not.
    pub fn build() -> Result<Option<Self>> {
        // SAFETY: no preconditions.
        if unsafe { libc::geteuid() } != 0 {
            eprintln!("SKIPPED: network namespaces and eBPF need root");
            return Ok(None);
        }
        let tag = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(format!("ml-ids-lab-{tag}"));
        fs::create_dir_all(&directory)?;
        let mut lab = Self {
            client: format!("mlids-c-{tag}"),
            server: format!("mlids-s-{tag}"),
            children: Vec::new(),
            leaders: Vec::new(),
            directory,
        };
        lab.wire()?;
        lab.add_vlan(Side::Client, "cli0", "10.78.0.1/24")?;
        lab.add_vlan(Side::Server, SERVER_IF, "10.78.0.2/24")?;
        Ok(Some(lab))
    }

    fn wire(&self) -> Result<()> {
        let (client, server) = (&self.client, &self.server);
        for name in [client, server] {
            run(&["ip", "netns", "add", name])?;
            run(&["ip", "-n", name, "link", "set", "lo", "up"])?;
        }
        self.connect("cli0", SERVER_IF, 77)
    }

    /// Joins the namespaces by a veth pair; its ends are `10.NET.0.1` and `fdNET::1` at the client, `.2` and `::2` at the
    /// server.
    ///
    /// # Errors
    /// When a command fails that should not.
    pub fn connect(&self, client_if: &str, server_if: &str, net: u8) -> Result<()> {
        let (client, server) = (&self.client, &self.server);
        run(&[
            "ip", "link", "add", client_if, "netns", client, "type", "veth", "peer", "name", server_if, "netns", server,
        ])?;
        for (name, interface, last) in [(client, client_if, 1), (server, server_if, 2)] {
            // One packet a frame, as on a wire: otherwise a capture holds merged and not yet segmented ones.
            run(&["ip", "netns", "exec", name, "ethtool", "-K", interface, "gro", "off", "gso", "off", "tso", "off"])?;
            run(&["ip", "-n", name, "addr", "add", &format!("10.{net}.0.{last}/24"), "dev", interface])?;
            run(&["ip", "-n", name, "addr", "add", &format!("fd{net}::{last}/64"), "dev", interface, "nodad"])?;
            run(&["ip", "-n", name, "link", "set", interface, "up"])?;
        }
        Ok(())
    }

    /// Runs a function on a thread of its own in a namespace.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or what the function fails with.
    pub fn within<T: Send>(&self, side: Side, function: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let name = match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        };
        let namespace = fs::File::open(Path::new("/run/netns").join(name))?;
        let run = || {
            // SAFETY: an open descriptor; only this thread changes its namespace.
            let entered = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
            ensure!(entered == 0, "cannot enter {name}: {}", io::Error::last_os_error());
            function()
        };
        thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|_| bail!("a thread in {name} panicked"))
    }

    /// A VLAN 5 device on an interface: the kernel's, or one in user space where the kernel was built without.
    fn add_vlan(&mut self, side: Side, interface: &str, address: &str) -> Result<()> {
        let vlan = format!("{interface}.5");
        let add = ["ip", "link", "add", "link", interface, "name", &vlan, "type", "vlan", "id", "5"];
        if self.output(side, &add)?.status.success() {
            self.succeed(side, &["ip", "addr", "add", address, "dev", &vlan])?;
            self.succeed(side, &["ip", "link", "set", &vlan, "up"])?;
            return Ok(());
        }
        let script = crate::fixture("vlan_device.py").to_string_lossy().into_owned();
        self.start(side, &vlan, &["python3", &script, interface, &vlan, "5", address], &[])?;
        self.wait_for_log(&vlan, "ready")
    }

    /// A directory of this laboratory for logs and captures.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn command(&self, side: Side, argv: &[&str]) -> Command {
        let name = match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        };
        let mut command = Command::new("ip");
        command.args(["netns", "exec", name]).args(argv);
        // Not that of the machine.
        command.env("ML_IDS_STATE_DIR", self.directory.join("state"));
        command
    }

    /// Runs a command to its end, whatever its exit status.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn output(&self, side: Side, argv: &[&str]) -> Result<Output> {
        self.command(side, argv).output().with_context(|| format!("cannot run {argv:?}"))
    }

    /// Runs a command and requires that it succeeds. Returns its standard output.
    ///
    /// # Errors
    /// When it fails.
    pub fn succeed(&self, side: Side, argv: &[&str]) -> Result<String> {
        let output = self.output(side, argv)?;
        ensure!(
            output.status.success(),
            "{argv:?} failed with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts a command that runs until it is stopped; its output goes to `NAME.log` in the laboratory's directory.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self, side: Side, name: &str, argv: &[&str], environment: &[(&str, &str)]) -> Result<()> {
        let command = self.command(side, argv);
        self.spawn(name, command, environment)
    }

    /// Starts a command that has children of its own, which end with it: by [`Lab::kill`], and with the laboratory.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_group(&mut self, side: Side, name: &str, argv: &[&str], environment: &[(&str, &str)]) -> Result<()> {
        let mut command = self.command(side, argv);
        command.process_group(0);
        self.spawn(name, command, environment)?;
        let leader = self.pid(name)?;
        self.leaders.push(leader);
        Ok(())
    }

    fn spawn(&mut self, name: &str, mut command: Command, environment: &[(&str, &str)]) -> Result<()> {
        let log = fs::File::create(self.log_path(name))?;
        let child = command
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        self.children.push((name.to_owned(), child));
        Ok(())
    }

    /// Kills a command that was started with [`Lab::start_group`], and all of its children.
    ///
    /// # Errors
    /// When there is no such command.
    pub fn kill(&mut self, name: &str) -> Result<()> {
        let position = self.children.iter().position(|(other, _)| other == name);
        let position = position.with_context(|| format!("nothing named {name} is running"))?;
        let (_, mut child) = self.children.remove(position);
        kill_group(&child, &self.leaders);
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Stops a command with a signal and waits for its end. Returns its exit code.
    ///
    /// # Errors
    /// When there is no such command or it does not end within 20 s.
    pub fn stop(&mut self, name: &str, signal: libc::c_int) -> Result<Option<i32>> {
        self.signal(name, signal)?;
        let position = self.children.iter().position(|(other, _)| other == name);
        let (_, mut child) = self.children.remove(position.context("no such child")?);
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status.code());
            }
            if Instant::now() > end {
                child.kill()?;
                bail!("{name} did not end within 20 s of signal {signal}:\n{}", self.log(name));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal to a command that is running, or has ended by itself and was not waited for.
    ///
    /// # Errors
    /// When there is no such command.
    pub fn signal(&self, name: &str, signal: libc::c_int) -> Result<()> {
        let pid = i32::try_from(self.pid(name)?)?;
        // SAFETY: a child that has not been waited for, so the pid is still its own. `ip netns exec` execs the command.
        unsafe { libc::kill(pid, signal) };
        Ok(())
    }

    /// The process of a command that is running.
    ///
    /// # Errors
    /// When there is no such command.
    pub fn pid(&self, name: &str) -> Result<u32> {
        let child = self.children.iter().find(|(other, _)| other == name);
        Ok(child.with_context(|| format!("nothing named {name} is running"))?.1.id())
    }

    /// Waits for a command to end by itself. Returns its exit code.
    ///
    /// # Errors
    /// When there is no such command or it does not end in time.
    pub fn wait(&mut self, name: &str, limit: Duration) -> Result<Option<i32>> {
        let position = self.children.iter().position(|(other, _)| other == name);
        let position = position.with_context(|| format!("nothing named {name} is running"))?;
        let (_, child) = self.children.get_mut(position).context("no such child")?;
        let mut status = None;
        wait_until(limit, || {
            status = child.try_wait().ok().flatten();
            status.is_some()
        })
        .with_context(|| format!("{name} did not end"))?;
        self.children.remove(position);
        Ok(status.and_then(|status| status.code()))
    }

    /// Moves the calling thread into a namespace: the sockets that it opens from now on are there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enter(&self, side: Side) -> Result<()> {
        let name = match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        };
        let file = fs::File::open(Path::new("/run/netns").join(name))?;
        // SAFETY: an open descriptor of a namespace.
        let result = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
        ensure!(result == 0, "cannot enter namespace {name}: {}", std::io::Error::last_os_error());
        Ok(())
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.log"))
    }

    /// What a command has printed so far.
    #[must_use]
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.log_path(name)).unwrap_or_default()
    }

    /// Waits until a command's output holds `text`.
    ///
    /// # Errors
    /// When it does not within 30 s, with what it printed.
    pub fn wait_for_log(&self, name: &str, text: &str) -> Result<()> {
        wait_until(Duration::from_secs(30), || self.log(name).contains(text))
            .with_context(|| format!("{name} did not print {text:?}:\n{}", self.log(name)))
    }

    /// `GET` of a local URL in the server's namespace, by curl. Returns the body.
    ///
    /// # Errors
    /// When curl fails.
    pub fn get(&self, url: &str) -> Result<String> {
        self.succeed(Side::Server, &["curl", "-sS", "--max-time", "5", url])
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for (_, child) in &mut self.children {
            kill_group(child, &self.leaders);
            let _ = child.kill();
            let _ = child.wait();
        }
        for name in [&self.client, &self.server] {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// Kills the process group that a child leads, if it does.
fn kill_group(child: &Child, leaders: &[u32]) {
    if let (true, Ok(group)) = (leaders.contains(&child.id()), i32::try_from(child.id())) {
        // SAFETY: the group of a child that has not been waited for, so its number is still its own.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
}

/// Polls a condition.
///
/// # Errors
/// When it does not hold in time.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if condition() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(25));
    }
    bail!("not within {limit:?}")
}

fn run(argv: &[&str]) -> Result<()> {
    let (program, arguments) = argv.split_first().context("empty command")?;
    let output = Command::new(program).args(arguments).output().with_context(|| format!("cannot run {argv:?}"))?;
    ensure!(output.status.success(), "{argv:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
