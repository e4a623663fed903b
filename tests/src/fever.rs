//! FEVER, which takes Suricata's events from a sensor, sums up its flows and forwards the rest: a reader of EVE that knows
//! nothing of ours. Debian packages it; `cargo xtask setup --tests` unpacks it into the cache.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{agent, lab::wait_until};

/// Longest time for anything it has to do.
const LIMIT: Duration = Duration::from_secs(20);
/// How long an event may take to come out again. It lets go of events while it is busy with another one.
const FORWARDING: Duration = Duration::from_millis(500);
const TRIES: u32 = 10;

/// The program; `None`, said loudly, if it is not there.
///
/// # Errors
/// When there is no place for it.
pub fn program() -> Result<Option<PathBuf>> {
    let cache = match env::var_os("ML_IDS_CACHE") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".cache/ml-ids"),
    };
    let program = cache.join("tools/servers/usr/bin/fever");
    if program.exists() {
        return Ok(Some(program));
    }
    eprintln!("SKIPPED: {} is not there; `cargo xtask setup --tests` unpacks it", program.display());
    Ok(None)
}

/// What FEVER has understood of flows: by `SOURCE_DESTINATION_PORT`, TCP flows that were answered, with their bytes to the
/// client and to the server.
pub type Tuples = std::collections::BTreeMap<String, [u64; 3]>;

/// FEVER at work; ended with the value.
pub struct Fever {
    process: Child,
    log: PathBuf,
    input: UnixStream,
    output: BufReader<UnixStream>,
}

impl Fever {
    /// Starts it with its files in a folder. It sums up once a second.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start(program: &Path, folder: &Path) -> Result<Self> {
        let [input, output, management, log] = ["in", "out", "management", "log"].map(|name| folder.join(name));
        let listener = UnixListener::bind(&output)?;
        listener.set_nonblocking(true)?;
        let process = Command::new(program)
            .args(["run", "--dummy", "--logjson", "--in-buffer-drop=false", "--flowextract-enable"])
            .args(["--flushtime", "1s", "--flowreport-interval", "1s", "--flowreport-nocompress"])
            .arg("--in-socket")
            .arg(&input)
            .arg("--out-socket")
            .arg(&output)
            .arg("--mgmt-socket")
            .arg(&management)
            .env("HOME", folder)
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .spawn()?;
        // From here on it is ended with the value, whatever happens.
        let mut started = Started(Some(process));
        let mut forwarded = None;
        let come_up = wait_until(LIMIT, || {
            forwarded = forwarded.take().or_else(|| listener.accept().ok());
            forwarded.is_some() && input.exists()
        });
        come_up.with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        let (forwarded, _) = forwarded.context("no connection")?;
        forwarded.set_nonblocking(false)?;
        forwarded.set_read_timeout(Some(FORWARDING))?;
        let input = UnixStream::connect(&input)?;
        let process = started.0.take().context("not started")?;
        Ok(Self { process, log, input, output: BufReader::new(forwarded) })
    }

    /// Hands it an event.
    ///
    /// # Errors
    /// When it no longer reads.
    pub fn tell(&mut self, event: &Value) -> Result<()> {
        Ok(self.input.write_all(format!("{event}\n").as_bytes())?)
    }

    /// Hands it an alert or statistics, which it forwards. Returns what comes out.
    ///
    /// # Errors
    /// When nothing does.
    pub fn forward(&mut self, event: &Value) -> Result<Value> {
        for _ in 0..TRIES {
            self.tell(event)?;
            let mut line = String::new();
            if self.output.read_line(&mut line).is_ok() {
                return serde_json::from_str(&line).with_context(|| format!("forwarded: {line}"));
            }
        }
        anyhow::bail!("it does not forward {event}:\n{}", self.log())
    }

    /// What it has said, a JSON object a line.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Everything that it has warned of.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let said = self.said();
        let grave = said.filter(|entry| matches!(entry["level"].as_str(), Some("warning" | "error" | "fatal")));
        grave.map(|entry| entry.to_string()).collect()
    }

    /// Answered TCP flows that it has summed up so far.
    #[must_use]
    pub fn tuples(&self) -> Tuples {
        let mut all = Tuples::new();
        for report in self.said().filter_map(|entry| serde_json::from_str::<Value>(entry["msg"].as_str()?).ok()) {
            for (name, sums) in report["tuples"].as_object().into_iter().flatten() {
                let of = ["count", "total_bytes_toclient", "total_bytes_toserver"];
                let totals = all.entry(name.clone()).or_default();
                for (total, name) in totals.iter_mut().zip(of) {
                    *total += sums[name].as_u64().unwrap_or(u64::MAX / 4);
                }
            }
        }
        all
    }

    /// Bytes of the binary records that it has made of flows so far: 39 a flow over IPv4, 63 over IPv6.
    #[must_use]
    pub fn extracted_bytes(&self) -> u64 {
        let length = |entry: Value| entry["msg"].as_str()?.split_once("byte array of length ")?.1.parse::<u64>().ok();
        self.said().filter_map(length).sum()
    }

    fn said(&self) -> impl Iterator<Item = Value> {
        let entries: Vec<Value> = self.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        entries.into_iter()
    }
}

impl Drop for Fever {
    fn drop(&mut self) {
        // Nothing to do about it if it is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A process that is ended unless it is taken out.
struct Started(Option<Child>);

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(process) = &mut self.0 {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Has events read by `fever alertify`, which makes an alert of each: its time as it was read, in `timestamp_event`.
///
/// # Errors
/// When it complains.
pub fn alertify(program: &Path, events: &[Value]) -> Result<Vec<Value>> {
    let input: String = events.iter().map(|event| format!("{event}\n")).collect();
    let ended =
        agent::run(Command::new(program).args(["alertify", "--ioc", "any"]), input.as_bytes(), LIMIT)?.expect(0)?;
    ensure!(ended.stderr.is_empty(), "fever alertify: {}", ended.stderr);
    ended.text()?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}
