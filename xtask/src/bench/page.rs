//! What an open page costs the sensor: its CPU time while a client asks for what the page asks for, less that of the same
//! time without, with 100,000 open flows and 1,000 alerts.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    os::fd::AsRawFd as _,
    process::{Child, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use super::{figure::Figure, page_alerts};
use crate::{
    wire::{self, CLIENT_INTERFACE, Wire},
    workspace,
};

const NAME: &str = "page";
const NAMESPACES: &str = "mlids-page";
/// How long each half is measured.
const MEASURED: Duration = Duration::from_secs(30);
const FLOWS: u64 = 100_000;
const ALERTS: u64 = 1_000;
const MAX_FLOWS: &str = "262144";
/// Packets a second that keep the flows open.
const RATE: &str = "20000";

/// What the page asks for, and how often; once if it says nothing.
const ASKED: [(&str, Option<Duration>); 5] = [
    ("/timeline", None),
    // While one of them grows, and when one is told.
    (LISTED, Some(Duration::from_secs(10))),
    // After changes, and no more often.
    ("/alerts?since=1h&limit=100", Some(Duration::from_secs(5))),
    ("/flows?limit=25", Some(Duration::from_secs(5))),
    ("/health", Some(Duration::from_secs(10))),
];
const LISTED: &str = "/alerts?limit=25";
const LISTENED: &str = "/events?types=alert,pulse";

/// Measures without a page and with one.
pub(crate) fn run() -> anyhow::Result<Vec<Figure>> {
    let folder = tempfolder()?;
    let wire = Wire::build(NAMESPACES)?;
    // A line for each verdict is the terminal's cost, not the sensor's.
    let sensor =
        wire.sensor(&workspace::agent("release"), &["--max-flows", MAX_FLOWS], &folder, Stdio::null(), "error")?;
    page_alerts::store(&wire::state(&folder).join("alerts.db"), ALERTS)?;
    let _traffic = Traffic::begin(&wire)?;
    let open = || wire.ask("/health").and_then(|health| health.pointer("/sensor/flows/live")?.as_u64());
    let limit = Instant::now() + Duration::from_secs(60);
    while open() < Some(FLOWS) {
        ensure!(Instant::now() < limit, "only {:?} flows are open", open());
        thread::sleep(Duration::from_millis(500));
    }
    let kept = enter(&wire, || get("/alerts?limit=1000"))?;
    let kept = kept.matches("\"title\":").count() as u64;
    ensure!(
        kept >= ALERTS,
        "the sensor knows {kept} of {ALERTS} alerts: page_alerts.rs no longer writes what it reads"
    );

    let share = |before: f64, after: f64, time: Duration| 100.0 * (after - before) / time.as_secs_f64();
    let (before, begun) = (sensor.cpu_seconds()?, Instant::now());
    thread::sleep(MEASURED);
    let without = share(before, sensor.cpu_seconds()?, begun.elapsed());
    let (before, begun) = (sensor.cpu_seconds()?, Instant::now());
    let sizes = enter(&wire, watch)?;
    let with = share(before, sensor.cpu_seconds()?, begun.elapsed());
    let mut figures = vec![
        Figure::new(NAME, "open flows", open().unwrap_or(0) as f64, "flows"),
        Figure::new(NAME, "alerts stored", kept as f64, "alerts"),
        Figure::new(NAME, "agent without a page", without, "% of a core"),
        Figure::new(NAME, "agent with a page open", with, "% of a core"),
        Figure::new(NAME, "an open page costs", with - without, "% of a core"),
    ];
    for (path, bytes) in sizes {
        let (name, unit) =
            if path == LISTENED { (format!("{path}, a second"), "bytes/s") } else { (path.to_owned(), "bytes") };
        figures.push(Figure::new(NAME, &name, bytes, unit));
    }
    fs::remove_dir_all(&folder).context("cannot remove the folder of the bench")?;
    Ok(figures)
}

/// An empty folder for the sensor's state.
fn tempfolder() -> anyhow::Result<std::path::PathBuf> {
    let folder = std::env::temp_dir().join(format!("ml-ids-bench-page-{}", std::process::id()));
    fs::create_dir_all(&folder).context("cannot make a folder")?;
    Ok(folder)
}

/// The generator; killed when dropped.
struct Traffic(Child);

impl Traffic {
    fn begin(wire: &Wire) -> anyhow::Result<Self> {
        let mut generate = wire.client();
        generate.arg(workspace::agent("release")).args([
            "bench",
            "generate",
            "--interface",
            CLIENT_INTERFACE,
            "--rate",
            RATE,
        ]);
        generate.args(["--flows", &FLOWS.to_string(), "--seconds", "3600"]).stdout(Stdio::null());
        Ok(Self(generate.spawn().context("cannot start the generator")?))
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a function in the sensor's namespace, on a thread of its own.
fn enter<T: Send>(wire: &Wire, function: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    let namespace = File::open(wire.server_namespace()).context("the namespace is gone")?;
    let entered = move || {
        // SAFETY: an open descriptor; only this thread changes its namespace.
        let entered = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
        ensure!(entered == 0, "cannot enter the namespace of the sensor: {}", std::io::Error::last_os_error());
        function()
    };
    thread::scope(|scope| scope.spawn(entered).join()).unwrap_or_else(|_| bail!("a client panicked"))
}

fn ask(path: &str) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect("127.0.0.1:8000").context("the sensor does not listen")?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    Ok(stream)
}

/// A whole answer, head and all.
fn get(path: &str) -> anyhow::Result<String> {
    let mut answer = String::new();
    ask(path)?.read_to_string(&mut answer).with_context(|| format!("{path}: no answer"))?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{path}: {}", answer.lines().next().unwrap_or_default());
    Ok(answer)
}

/// Does what the page does for as long as it is measured. Returns what was asked for, and the bytes of the largest answer.
fn watch() -> anyhow::Result<Vec<(&'static str, f64)>> {
    let (end, begun) = (Instant::now() + MEASURED, Instant::now());
    let (heard, changed) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut stream = ask(LISTENED)?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut sizes = ASKED.map(|(path, _)| (path, 0.0f64));
    let mut due = ASKED.map(|_| Some(begun));
    thread::scope(|scope| -> anyhow::Result<()> {
        let listener = scope.spawn(|| -> anyhow::Result<()> {
            let mut piece = [0; 65_536];
            while Instant::now() < end {
                let read = match stream.read(&mut piece) {
                    Ok(0) => bail!("{LISTENED}: the sensor has ended the stream"),
                    Ok(read) => read,
                    // Nothing has come for a while.
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => continue,
                    Err(error) => return Err(error).context(LISTENED),
                };
                heard.fetch_add(read as u64, Ordering::Relaxed);
                let text = String::from_utf8_lossy(piece.get(..read).unwrap_or_default());
                if text.contains("event: alert") {
                    changed.store(true, Ordering::Relaxed);
                }
            }
            Ok(())
        });
        while Instant::now() < end {
            for (((path, every), size), due) in ASKED.iter().zip(&mut sizes).zip(&mut due) {
                let now = Instant::now();
                let again = *path == LISTED && changed.swap(false, Ordering::Relaxed);
                if again || due.is_some_and(|due| due <= now) {
                    size.1 = size.1.max(get(path)?.len() as f64);
                    *due = every.map(|every| now + every);
                }
            }
            thread::sleep(Duration::from_millis(200));
        }
        listener.join().unwrap_or_else(|_| bail!("the listener panicked"))
    })?;
    let second = heard.into_inner() as f64 / begun.elapsed().as_secs_f64();
    Ok(sizes.into_iter().chain([(LISTENED, second)]).collect())
}
