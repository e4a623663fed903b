//! The Python `cicflowmeter` of PyPI, unmodified, posts its flows to `ml-ids serve` and has to get a 2xx for each.
//!
//! Release 0.2.0 is what pip gives on Python 3.11; it works with scapy 2.5.0 only. Reading a capture it cannot serialise
//! the two bulk rates (they are `Decimal`), so they are left out by its own `--fields`. The client is installed into `$ML_IDS_CACHE/venv-client` (default `~/.cache/ml-ids`).

use std::{
    env, fs,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use ml_ids_tests::{binary, fixture};

/// What the client is made of.
const PACKAGES: [&str; 2] = ["cicflowmeter==0.2.0", "scapy==2.5.0"];
/// What its offline mode cannot post.
const UNPOSTABLE: [&str; 2] = ["fwd_blk_rate_avg", "bwd_blk_rate_avg"];
/// Captures, and how many flows this client makes of each.
const CAPTURES: [(&str, usize); 3] = [("tcp_basic.pcap", 1), ("bulk.pcap", 1), ("random.pcap", 400)];
const STARTED_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn real_python_client_gets_2xx_for_every_flow() -> Result<()> {
    let binary = binary()?;
    let captures = fixture("handmade");
    let client = match client() {
        Ok(client) => client,
        Err(error) => {
            eprintln!("SKIPPED: the Python client cannot be installed: {error:#}");
            return Ok(());
        }
    };
    let server = Server::start(&binary)?;
    let scratch = env::temp_dir().join(format!("ml-ids-python-client-{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    for (name, flows) in CAPTURES {
        let capture = captures.join(name);
        let fields = postable_fields(&client, &capture, &scratch)?;
        let wire = Wire::to(server.address)?;
        let url = format!("http://{}/predict", wire.address);
        let output = Command::new(&client).arg("-f").arg(&capture).args(["-u", &url, "--fields", &fields]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        // It exits with 0 even if the thread that reads and posts has died.
        ensure!(output.status.success() && !said.contains("Traceback"), "{name}: the client did not survive:\n{said}");
        let statuses = wire.statuses();
        ensure!(statuses.len() == flows, "{name}: {} answers for {flows} flows", statuses.len());
        ensure!(statuses.iter().all(|status| status.starts_with('2')), "{name}: {statuses:?}");
    }
    fs::remove_dir_all(&scratch)?;
    server.stop()
}

/// The client's command, installed if need be.
fn client() -> Result<PathBuf> {
    let cache = match env::var_os("ML_IDS_CACHE") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".cache/ml-ids"),
    };
    let venv = cache.join("venv-client");
    let (client, done) = (venv.join("bin/cicflowmeter"), venv.join("installed"));
    if !done.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        run(Command::new(venv.join("bin/pip")).args(["install", "--quiet"]).args(PACKAGES))?;
        fs::write(done, PACKAGES.join("\n"))?;
    }
    Ok(client)
}

/// All that the client knows of a flow but what it cannot post, from the header of its own CSV.
fn postable_fields(client: &Path, capture: &Path, scratch: &Path) -> Result<String> {
    let csv = scratch.join("flows.csv");
    run(Command::new(client).arg("-f").arg(capture).arg("-c").arg(&csv))?;
    let text = fs::read_to_string(&csv)?;
    let header = text.lines().next().context("the client wrote no flow")?;
    let fields: Vec<&str> = header.split(',').filter(|field| !UNPOSTABLE.contains(field)).collect();
    ensure!(fields.len() > 70 && fields.contains(&"flow_duration"), "an unknown header: {header}");
    Ok(fields.join(","))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// `ml-ids serve` on a free port.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    fn start(binary: &Path) -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let process = Command::new(binary).args(["serve", "--listen", &address.to_string()]).spawn()?;
        let mut server = Self { process, address };
        let begun = Instant::now();
        while !server.is_ready() {
            if let Some(status) = server.process.try_wait()? {
                bail!("{} serve ended with {status}", binary.display());
            }
            ensure!(begun.elapsed() < STARTED_WITHIN, "{} serve is not ready", binary.display());
            thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    fn is_ready(&self) -> bool {
        let ask = || -> io::Result<String> {
            let mut stream = TcpStream::connect(self.address)?;
            stream.write_all(b"GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// Asks it to end, which it has to do in order.
    fn stop(mut self) -> Result<()> {
        let pid = libc::pid_t::try_from(self.process.id())?;
        // SAFETY: `kill` takes no pointers; the child has not been waited for, so the number is still its own.
        ensure!(unsafe { libc::kill(pid, libc::SIGTERM) } == 0, "cannot signal serve: {}", io::Error::last_os_error());
        let status = self.process.wait()?;
        ensure!(status.success(), "serve ended with {status}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing to do about it if it is gone already, as it should be.
        let _gone = self.process.kill().is_err();
        let _reaped = self.process.wait().is_err();
    }
}

/// A wire with a tap: passes bytes on and keeps what the server said on each connection.
struct Wire {
    address: SocketAddr,
    answers: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Wire {
    fn to(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let answers = Arc::new(Mutex::new(Vec::new()));
        let kept = answers.clone();
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let Ok(server) = TcpStream::connect(server) else { return };
                let index = {
                    let mut answers = kept.lock().expect("no thread panics with it");
                    answers.push(Vec::new());
                    answers.len() - 1
                };
                let (Ok(from_client), Ok(to_server)) = (client.try_clone(), server.try_clone()) else { return };
                thread::spawn(move || pass(from_client, to_server, |_| {}));
                let kept = kept.clone();
                thread::spawn(move || {
                    pass(server, client, |bytes| {
                        if let Some(answer) = kept.lock().expect("no thread panics with it").get_mut(index) {
                            answer.extend_from_slice(bytes);
                        }
                    });
                });
            }
        });
        Ok(Self { address, answers })
    }

    /// Status codes of all answers that the client has received. The bodies hold no status line.
    fn statuses(&self) -> Vec<String> {
        let answers = self.answers.lock().expect("no thread panics with it");
        let texts = answers.iter().map(|answer| String::from_utf8_lossy(answer).into_owned());
        texts
            .flat_map(|text| {
                text.split("HTTP/1.1 ").skip(1).map(|rest| rest.chars().take(3).collect()).collect::<Vec<String>>()
            })
            .collect()
    }
}

/// Keeps what it reads before it passes it on, so that nothing the client acted on is missing.
fn pass(mut from: TcpStream, mut to: TcpStream, mut keep: impl FnMut(&[u8])) {
    let mut buffer = [0; 16 << 10];
    while let Ok(count) = from.read(&mut buffer) {
        let bytes = &buffer[..count];
        keep(bytes);
        if count == 0 || to.write_all(bytes).is_err() {
            break;
        }
    }
    let _closed = to.shutdown(Shutdown::Write).is_err();
}
