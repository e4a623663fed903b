//! The `ml-ids` binary as a person or a client meets it: run to its end within a time limit, or serving on a socket.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// Longest time that anything here may take.
pub const LIMIT: Duration = Duration::from_secs(20);

/// How a command ended and what it printed.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Ended {
    /// Requires an exit code, and that nothing panicked.
    ///
    /// # Errors
    /// When it ended otherwise, with what it printed.
    pub fn expect(self, code: i32) -> Result<Self> {
        self.in_order()?;
        ensure!(self.code == Some(code), "exit code {:?} instead of {code}: {}", self.code, self.stderr);
        Ok(self)
    }

    /// Requires that it ended by itself and that nothing panicked, even where the panic was caught.
    ///
    /// # Errors
    /// When it did not, with what it printed.
    pub fn in_order(&self) -> Result<()> {
        ensure!(self.code.is_some(), "ended by signal {:?}: {}", self.signal, self.stderr);
        ensure!(self.code != Some(101) && !self.stderr.contains("panicked"), "panicked: {}", self.stderr);
        Ok(())
    }

    /// Standard output as text.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn text(&self) -> Result<&str> {
        Ok(std::str::from_utf8(&self.stdout)?)
    }
}

/// Runs `ml-ids` with these arguments and standard input.
///
/// # Errors
/// When it cannot be started or does not end within [`LIMIT`].
pub fn ml_ids(arguments: &[&str], input: &[u8]) -> Result<Ended> {
    run(Command::new(crate::binary()?).args(arguments), input, LIMIT)
}

/// Runs a command with this standard input.
///
/// # Errors
/// When it cannot be started or does not end in time.
pub fn run(command: &mut Command, input: &[u8], limit: Duration) -> Result<Ended> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let (mut stdin, mut stdout, mut stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        scope.spawn(move || {
            // A command that does not read all of its input is free to do so.
            stdin.as_mut().map(|pipe| pipe.write_all(input))
        });
        let stdout = scope.spawn(move || {
            let mut bytes = Vec::new();
            stdout.as_mut().map_or(Ok(0), |pipe| pipe.read_to_end(&mut bytes)).map(|_| bytes)
        });
        let stderr = scope.spawn(move || {
            let mut bytes = Vec::new();
            stderr.as_mut().map_or(Ok(0), |pipe| pipe.read_to_end(&mut bytes)).map(|_| bytes)
        });
        let status = wait(&mut child, limit);
        let (stdout, stderr) = (join(stdout)?, String::from_utf8_lossy(&join(stderr)?).into_owned());
        let status = status.with_context(|| format!("{command:?}: {stderr}"))?;
        Ok(Ended { code: status.code(), signal: status.signal(), stdout, stderr })
    })
}

fn join(thread: thread::ScopedJoinHandle<'_, std::io::Result<Vec<u8>>>) -> Result<Vec<u8>> {
    match thread.join() {
        Ok(bytes) => Ok(bytes?),
        Err(_) => bail!("the reader of a pipe panicked"),
    }
}

/// Waits for the end, which it brings about itself when the time is over.
fn wait(child: &mut Child, limit: Duration) -> Result<std::process::ExitStatus> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if begun.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            bail!("did not end within {limit:?}");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// `ml-ids serve` on a free port of this host; ended with the value.
pub struct Server {
    process: Child,
    log: Arc<Mutex<String>>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts it with further arguments. It listens when this returns; its model may still be loading.
    ///
    /// # Errors
    /// When it ends or says nothing of listening within [`LIMIT`].
    pub fn start(arguments: &[&str]) -> Result<Self> {
        Self::start_by(&crate::binary()?.to_string_lossy(), &[], arguments)
    }

    /// Starts it by another program that becomes it: the program, what it is told, and the server's own arguments.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_by(program: &str, before: &[&str], arguments: &[&str]) -> Result<Self> {
        Self::of(Command::new(program).args(before).args(["serve", "--listen", "127.0.0.1:0"]).args(arguments))
    }

    /// Starts a command that listens, as `ml-ids serve` does and says. It listens when this returns.
    ///
    /// # Errors
    /// When it ends or says nothing of listening within [`LIMIT`].
    pub fn of(command: &mut Command) -> Result<Self> {
        let mut process = command
            .env("RUST_LOG", "info")
            .env_remove("ML_IDS_MODEL")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = process.stderr.take().context("no standard error")?;
        let log = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&log);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                kept.lock().unwrap_or_else(PoisonError::into_inner).push_str(&(line + "\n"));
            }
        });
        let mut server = Self { process, log, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let begun = Instant::now();
        loop {
            if let Some(address) = listening_on(&server.log()) {
                server.address = address;
                return Ok(server);
            }
            if let Some(status) = server.process.try_wait()? {
                bail!("it ended with {status}: {}", server.log());
            }
            ensure!(begun.elapsed() < LIMIT, "it does not listen: {}", server.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts it and waits until its model is loaded.
    ///
    /// # Errors
    /// When it is not ready within [`LIMIT`].
    pub fn ready(arguments: &[&str]) -> Result<Self> {
        let server = Self::start(arguments)?;
        server.wait_ready()?;
        Ok(server)
    }

    /// Waits until `/health/ready` says so.
    ///
    /// # Errors
    /// When it does not within [`LIMIT`].
    pub fn wait_ready(&self) -> Result<()> {
        crate::lab::wait_until(LIMIT, || self.get("/health/ready").is_ok_and(|answer| answer.status == 200))
            .with_context(|| format!("not ready: {}", self.log()))
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it has printed on standard error so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a `GET`.
    ///
    /// # Errors
    /// When there is no well-formed answer.
    pub fn get(&self, path: &str) -> Result<Answer> {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes())
    }

    /// Posts a body with further header lines, each ending in CRLF.
    ///
    /// # Errors
    /// When there is no well-formed answer.
    pub fn post(&self, path: &str, headers: &str, body: &[u8]) -> Result<Answer> {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        self.send(&[head.as_bytes(), body].concat())
    }

    /// Posts JSON to `/predict`.
    ///
    /// # Errors
    /// When there is no well-formed answer.
    pub fn predict(&self, body: &Value) -> Result<Answer> {
        self.post("/predict", "content-type: application/json\r\n", body.to_string().as_bytes())
    }

    /// Sends bytes and reads until the server closes.
    ///
    /// # Errors
    /// When what comes back is no HTTP.
    pub fn send(&self, request: &[u8]) -> Result<Answer> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        // A server may answer and close before it has read everything.
        let sent = stream.write_all(request);
        let mut bytes = Vec::new();
        let received = stream.read_to_end(&mut bytes);
        Answer::parse(&bytes).with_context(|| format!("sent: {sent:?}, received: {received:?}"))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: libc::c_int) -> Result<()> {
        let pid = i32::try_from(self.process.id())?;
        // SAFETY: a child that has not been waited for, so the pid is still its own.
        let sent = unsafe { libc::kill(pid, signal) };
        ensure!(sent == 0, "cannot signal: {}", std::io::Error::last_os_error());
        Ok(())
    }

    /// Waits for its end. Returns the exit code.
    ///
    /// # Errors
    /// When it does not end within [`LIMIT`].
    pub fn wait(&mut self) -> Result<Option<i32>> {
        let status = wait(&mut self.process, LIMIT).with_context(|| self.log())?;
        Ok(status.code())
    }

    /// Asks it to end, which it has to do in order.
    ///
    /// # Errors
    /// When it does not, or something panicked while it ran.
    pub fn stop(mut self) -> Result<()> {
        self.signal(libc::SIGTERM)?;
        let code = self.wait()?;
        ensure!(code == Some(0) && !self.log().contains("panicked"), "serve ended with {code:?}: {}", self.log());
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing to do about it if it is gone already, as it should be.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn listening_on(log: &str) -> Option<SocketAddr> {
    let (_, rest) = log.split_once("listening on http")?;
    rest.split_once("://")?.1.split_once('\n')?.0.trim().parse().ok()
}

/// An HTTP answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Status line and header fields, in lower case.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Result<Self> {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no HTTP: {text:?}"))?;
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        Ok(Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
    }

    /// Requires a status. Returns the body as JSON.
    ///
    /// # Errors
    /// When the status is another or the body is no JSON.
    pub fn expect(&self, status: u16) -> Result<Value> {
        ensure!(self.status == status, "{} instead of {status}: {}", self.status, self.body);
        serde_json::from_str(&self.body).with_context(|| format!("no JSON: {}", self.body))
    }
}

/// Gives a file to the account that `ml-ids` becomes when root starts it, so that it can be read again later.
///
/// # Errors
/// When the system refuses.
pub fn give(path: &str) -> Result<()> {
    // SAFETY: no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        return Ok(());
    }
    let accounts = std::fs::read_to_string("/etc/passwd")?;
    let account = |name: &str| accounts.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":x:"));
    let ids = account("ml-ids").or_else(|| account("nobody")).context("no account")?;
    let mut ids = ids.split(':').map(str::parse::<u32>);
    let (uid, gid) = (ids.next().context("no user")??, ids.next().context("no group")??);
    Ok(std::os::unix::fs::chown(path, Some(uid), Some(gid))?)
}

/// A directory that is removed with the value.
pub struct Scratch(std::path::PathBuf);

impl Scratch {
    /// Makes one for the test of this name.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("ml-ids-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// A path in it, as text for a command line.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }

    /// Writes a file in it. Returns its path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> Result<String> {
        let path = self.path(name);
        std::fs::write(&path, bytes)?;
        Ok(path)
    }

    /// Makes a named pipe in it. Returns its path.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn pipe(&self, name: &str) -> Result<String> {
        let path = self.path(name);
        run(Command::new("mkfifo").arg(&path), b"", LIMIT)?.expect(0)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What a failed test leaves behind helps to understand it.
        if !thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
