//! Rights end before anybody gets in: what the kernel says of every thread, and what still works then.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    agent::{self, Server},
    binary, default_model,
    lab::{CLIENT_V4, Lab, SERVER_IF, SERVER_V4, Side, wait_until},
    sensor,
};
use serde_json::Value;

/// Longest wait for what takes a second on an idle machine.
const SOON: Duration = Duration::from_secs(30);
const RELOAD: &str = "http://127.0.0.1:8000/model/reload";

/// A BPF file system in the laboratory's directory, which every namespace sees.
struct Bpffs(PathBuf);

impl Bpffs {
    fn mount(lab: &Lab) -> Result<Self> {
        let path = lab.directory().join("bpf");
        fs::create_dir_all(&path)?;
        // As systemd mounts it: for root alone.
        let mount = ["-t", "bpf", "-o", "mode=0700", "bpf"];
        let mounted = Command::new("mount").args(mount).arg(&path).status()?;
        ensure!(mounted.success(), "cannot mount a BPF file system");
        Ok(Self(path))
    }

    fn path(&self) -> String {
        self.0.to_string_lossy().into_owned()
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn is_root() -> bool {
    // SAFETY: no preconditions.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        eprintln!("SKIPPED: only root has rights to give up");
    }
    root
}

/// What `/proc` says of each thread of a process.
fn threads(process: u32) -> Result<Vec<String>> {
    let tasks = fs::read_dir(format!("/proc/{process}/task"))?;
    tasks.map(|task| Ok(fs::read_to_string(task?.path().join("status"))?)).collect()
}

fn field<'a>(status: &'a str, name: &str) -> Vec<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().split_ascii_whitespace().collect()
}

/// Requires that no thread of a process has anything left of root. Returns its user and how many threads there are.
fn nothing_left(process: u32) -> Result<(u32, usize)> {
    let mut user = None;
    let threads = threads(process)?;
    for status in &threads {
        for set in ["CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"] {
            ensure!(field(status, set) == ["0000000000000000"], "{set} of a thread:\n{status}");
        }
        ensure!(field(status, "NoNewPrivs") == ["1"] && field(status, "Seccomp") == ["2"], "{status}");
        ensure!(field(status, "Groups").is_empty(), "supplementary groups:\n{status}");
        for ids in ["Uid", "Gid"] {
            let ids = field(status, ids);
            ensure!(ids.len() == 4 && ids.iter().all(|id| *id == ids[0] && *id != "0"), "{status}");
        }
        let uid: u32 = field(status, "Uid").first().context("no user")?.parse()?;
        ensure!(*user.get_or_insert(uid) == uid, "threads of different users");
    }
    let core = fs::read_to_string(format!("/proc/{process}/limits"))?;
    let core = core.lines().find(|line| line.starts_with("Max core file size")).context("no limit of core files")?;
    ensure!(core.split_ascii_whitespace().nth(4) == Some("0"), "{core}");
    // Of a process that may not be dumped, everything belongs to root.
    ensure!(fs::metadata(format!("/proc/{process}/environ"))?.uid() == 0, "it may be dumped");
    Ok((user.context("no thread")?, threads.len()))
}

/// Sends UDP datagrams from the client, each a flow of its own.
fn datagrams(lab: &Lab, count: u32) -> Result<()> {
    let script = format!(
        "import socket\nfor _ in range({count}):\n with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s: \
         s.sendto(b'x', ('{SERVER_V4}', 9))"
    );
    lab.succeed(Side::Client, &["python3", "-c", &script]).map(drop)
}

/// Lets the client talk to the server over TCP, so that flows end at once.
fn conversations(lab: &mut Lab, count: u32) -> Result<()> {
    let serve = "import http.server, socketserver\n\
        class S(socketserver.ThreadingTCPServer): allow_reuse_address = True; request_queue_size = 128\n\
        S(('', 8080), http.server.SimpleHTTPRequestHandler).serve_forever()";
    if lab.pid("web").is_err() {
        lab.start(Side::Server, "web", &["python3", "-c", serve], &[])?;
    }
    let script = format!(
        "import time, urllib.request\n\
         done = 0\n\
         for _ in range({count} * 20):\n\
         \x20   try:\n\
         \x20       urllib.request.urlopen('http://{SERVER_V4}:8080/nothing', timeout=5)\n\
         \x20   except urllib.error.HTTPError: done += 1\n\
         \x20   except OSError: time.sleep(0.1)\n\
         \x20   if done == {count}: break"
    );
    lab.succeed(Side::Client, &["python3", "-c", &script]).map(drop)
}

fn judged(lab: &Lab) -> u64 {
    let health = sensor::health(lab).unwrap_or_default();
    health.pointer("/sensor/verdicts/scored").and_then(Value::as_u64).unwrap_or(0)
}

fn judges(lab: &mut Lab) -> Result<()> {
    let before = judged(lab);
    conversations(lab, 10)?;
    wait_until(SOON, || judged(lab) >= before + 10)
        .with_context(|| format!("{} judged, {before} before\n{}", judged(lab), lab.log("sensor")))
}

#[test]
fn no_thread_has_anything_left_of_root_and_all_that_has_to_still_works() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    let bpffs = Bpffs::mount(&lab)?;
    let root = bpffs.path();
    let model = lab.directory().join("model.onnx");
    fs::copy(default_model(), &model)?;
    let model = model.to_string_lossy().into_owned();
    let pins = format!("{root}/ml-ids");
    let arguments = [
        "-i",
        SERVER_IF,
        "--attach",
        "host",
        "--model",
        &model,
        "--log-rotate-size",
        "4KiB",
        "--log-gzip",
        "--block",
        "--block-threshold",
        "1",
        "--bpffs",
        &root,
        "--pin",
        "--pin-dir",
        &pins,
    ];
    sensor::start(&mut lab, &arguments)?;
    let process = lab.pid("sensor")?;
    let (uid, count) = nothing_left(process).with_context(|| lab.log("sensor"))?;
    ensure!(count > 8, "only {count} threads are running");
    let health = sensor::health(&lab)?;
    let told = &health["privileges"];
    ensure!(told["state"] == "dropped" && told["uid"] == uid && told["seccomp"] == true, "{told}");
    ensure!(told["capabilities"] == Value::Array(Vec::new()) && told["why"].is_null(), "{told}");
    ensure!(lab.get("http://127.0.0.1:8000/metrics")?.contains("\nml_ids_privileges_dropped 1"), "the metric");

    judges(&mut lab)?;
    // A file that was replaced, and one that root alone can read.
    fs::copy(default_model(), lab.directory().join("new.onnx"))?;
    fs::rename(lab.directory().join("new.onnx"), &model)?;
    let reload = lab.succeed(Side::Server, &["curl", "-sS", "-X", "POST", "--max-time", "20", RELOAD])?;
    ensure!(reload.contains("unchanged"), "{reload}");
    let closed = lab.directory().join("closed.onnx");
    fs::copy(default_model(), &closed)?;
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o600))?;
    fs::rename(&closed, &model)?;
    let reload = lab.succeed(Side::Server, &["curl", "-sS", "-X", "POST", "--max-time", "20", RELOAD])?;
    ensure!(reload.contains("ermission denied"), "{reload}");
    fs::set_permissions(&model, fs::Permissions::from_mode(0o644))?;
    let reload = lab.succeed(Side::Server, &["curl", "-sS", "-X", "POST", "--max-time", "20", RELOAD])?;
    ensure!(reload.contains("unchanged"), "{reload}");

    // SIGHUP opens the logs anew: one that was moved away is written no more.
    let logs = lab.directory().join("logs");
    lab.signal("sensor", libc::SIGHUP)?;
    lab.wait_for_log("sensor", "SIGHUP")?;
    judges(&mut lab)?;
    wait_until(SOON, || rotated(&logs).len() > 1).with_context(|| format!("no rotation\n{}", lab.log("sensor")))?;
    ensure!(rotated(&logs).iter().all(|path| fs::metadata(path).is_ok_and(|file| file.uid() == uid)), "a file's owner");
    ensure!(fs::metadata(lab.directory().join("state/alerts.db"))?.uid() == uid, "the alerts' owner");

    // The command of root and the sensor meet at maps.
    let binary = binary()?.to_string_lossy().into_owned();
    let block = |lab: &Lab, more: &[&str]| {
        lab.succeed(Side::Server, &[&[binary.as_str(), "block", "--bpffs", &root], more].concat())
    };
    let reaches = |lab: &Lab| {
        lab.output(Side::Client, &["ping", "-q", "-c", "2", "-i", "0.2", "-W", "1", SERVER_V4])
            .is_ok_and(|output| output.status.success())
    };
    ensure!(reaches(&lab), "nothing is blocked yet");
    block(&lab, &["add", CLIENT_V4, "--ttl", "1h"])?;
    ensure!(!reaches(&lab), "a blocked source gets through");
    block(&lab, &["clear"])?;
    ensure!(reaches(&lab), "a source that is no longer blocked does not get through");

    // An interface that comes again is attached again, and pinned.
    let first = sensor::interface(&lab, SERVER_IF)?;
    lab.succeed(Side::Server, &["ip", "link", "del", SERVER_IF])?;
    sensor::wait_for_state(&lab, SERVER_IF, "gone")?;
    lab.connect("cli0", SERVER_IF, 77)?;
    let again = sensor::wait_for_state(&lab, SERVER_IF, "attached")?;
    ensure!(again["ingress"] == first["ingress"] && again["egress"] == first["egress"], "{first} became {again}");
    judges(&mut lab)?;
    let health = sensor::health(&lab)?;
    ensure!(health["status"] == "healthy", "{health}");
    nothing_left(process)?;

    let code = lab.stop("sensor", libc::SIGTERM)?;
    let log = lab.log("sensor");
    ensure!(code == Some(0) && log.contains("the books balance"), "the sensor ended with {code:?}:\n{log}");
    ensure!(!log.contains("the filter of system calls has refused"), "{log}");
    let said = lab.output(Side::Server, &[&binary, "unpin", "--pin-dir", &pins])?;
    ensure!(said.status.success() && !Path::new(&pins).exists(), "{}", String::from_utf8_lossy(&said.stderr));
    Ok(())
}

fn rotated(logs: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(logs).into_iter().flatten().filter_map(|file| Some(file.ok()?.path()));
    files
        .filter(|path| path.to_string_lossy().contains(".log.") && path.extension().is_some_and(|end| end == "gz"))
        .collect()
}

#[test]
fn kept_privileges_are_kept_and_said() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    sensor::start(&mut lab, &["-i", SERVER_IF, "--attach", "host", "--keep-privileges"])?;
    let health = sensor::health(&lab)?;
    let told = &health["privileges"];
    ensure!(told["state"] == "kept" && told["uid"] == 0 && told["no_new_privs"] == true, "{told}");
    ensure!(told["capabilities"].to_string().contains("CAP_NET_ADMIN"), "{told}");
    ensure!(health["notes"].to_string().contains("--keep-privileges"), "{health}");
    ensure!(lab.log("sensor").contains("ALL PRIVILEGES ARE KEPT"), "{}", lab.log("sensor"));
    ensure!(lab.get("http://127.0.0.1:8000/metrics")?.contains("\nml_ids_privileges_dropped 0"), "the metric");
    datagrams(&lab, 3)?;
    sensor::stop(&mut lab, libc::SIGTERM)
}

#[test]
fn a_folder_that_the_account_cannot_write_to_is_an_error_before_anything_is_given_up() -> Result<()> {
    let Some(lab) = Lab::build()? else { return Ok(()) };
    let binary = binary()?.to_string_lossy().into_owned();
    let logs = lab.directory().join("closed");
    fs::create_dir(&logs)?;
    let logs = logs.to_string_lossy().into_owned();
    let output =
        lab.output(Side::Server, &[&binary, "run", "-i", SERVER_IF, "--user", "nobody", "--log-dir", &logs])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1) && said.contains("nobody") && said.contains("cannot write to"), "{said}");
    ensure!(
        said.contains("chown -R 65534") && said.contains("--log-dir") && said.contains("--keep-privileges"),
        "{said}"
    );
    ensure!(!said.contains("listening"), "{said}");
    let output = lab.output(Side::Server, &[&binary, "run", "-i", SERVER_IF, "--user", "no-such-account"])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(2) && said.contains("useradd --system no-such-account"), "{said}");
    Ok(())
}

#[test]
fn serve_ends_its_rights_before_it_reads_a_model_whoever_started_it() -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let server = Server::ready(&["--user", "4123:4124"])?;
    ensure!(nothing_left(server.pid())?.0 == 4123, "the user");
    let health = server.get("/health")?.expect(200)?;
    ensure!(health["privileges"]["uid"] == 4123 && health["privileges"]["gid"] == 4124, "{health}");
    ensure!(server.predict(&serde_json::json!({"Flow Duration": 1}))?.status == 200, "{}", server.log());
    server.stop()?;

    // Somebody else's process: nothing to give up, and limited all the same.
    let folder = agent::Scratch::new("privileges")?;
    let copy = folder.path("ml-ids");
    fs::copy(binary()?, &copy)?;
    let server = Server::start_by("setpriv", &["--reuid=4125", "--regid=4125", "--clear-groups", &copy], &[])?;
    server.wait_ready()?;
    let health = server.get("/health")?.expect(200)?;
    let told = &health["privileges"];
    ensure!(told["state"] == "dropped" && told["uid"] == 4125 && told["seccomp"] == true, "{told}");
    server.stop()
}
