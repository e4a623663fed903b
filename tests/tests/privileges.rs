//! Rights end before anybody gets in: what the kernel says of every thread, what still works then, and what somebody inside
//! cannot have.

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

#[test]
fn no_secret_is_in_a_log_in_health_or_in_metrics() -> Result<()> {
    const TOKEN: &str = "planted-token-0123456789abcdef";
    const PASSWORD: &str = "planted-password-0123456789";
    const KEY: &str = "planted-key-0123456789";
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    let tokens = lab.directory().join("tokens");
    fs::write(&tokens, format!("{TOKEN}\n"))?;
    fs::set_permissions(&tokens, fs::Permissions::from_mode(0o600))?;
    let (tokens, logs) = (tokens.to_string_lossy().into_owned(), lab.directory().join("logs"));
    let logs = logs.to_string_lossy().into_owned();
    let binary = binary()?.to_string_lossy().into_owned();
    let argv = [
        &binary,
        "run",
        "-i",
        SERVER_IF,
        "--attach",
        "host",
        "--log-dir",
        &logs,
        "--token-file",
        &tokens,
        "--sink",
        "https://127.0.0.1:9/hook?types=alert,stats",
        "--sink",
        "nats://127.0.0.1:9/x?types=stats",
        "--stats-interval",
        "1s",
    ];
    let login = format!("user:{PASSWORD}");
    let environment = [
        ("RUST_LOG", "debug"),
        ("MLFLOW_TRACKING_USERNAME", "ann"),
        ("MLFLOW_TRACKING_PASSWORD", PASSWORD),
        ("AWS_ACCESS_KEY_ID", "AKID"),
        ("AWS_SECRET_ACCESS_KEY", KEY),
        ("ML_IDS_WEBHOOK_AUTHORIZATION", KEY),
        ("ML_IDS_NATS_LOGIN", login.as_str()),
    ];
    lab.start(Side::Server, "sensor", &argv, &environment)?;
    let header = format!("authorization: Bearer {TOKEN}");
    let get = |lab: &Lab, path: &str| {
        let url = format!("http://127.0.0.1:8000{path}");
        lab.succeed(Side::Server, &["curl", "-sS", "--max-time", "5", "-H", &header, &url])
    };
    wait_until(SOON, || get(&lab, "/health").is_ok_and(|health| health.contains("\"dropped\"")))
        .with_context(|| lab.log("sensor"))?;
    // It said at the start that root's file cannot be read again.
    ensure!(lab.log("sensor").contains("will not be read again"), "{}", lab.log("sensor"));
    lab.signal("sensor", libc::SIGHUP)?;
    wait_until(SOON, || get(&lab, "/health").is_ok_and(|health| health.contains("the tokens before stay")))
        .with_context(|| lab.log("sensor"))?;
    let (health, metrics) = (get(&lab, "/health")?, get(&lab, "/metrics")?);
    lab.stop("sensor", libc::SIGTERM)?;
    for (name, text) in [("/health", health), ("/metrics", metrics), ("the log", lab.log("sensor"))] {
        ensure!(text.len() > 1000, "{name} is empty: {text}");
        for secret in [TOKEN, PASSWORD, KEY] {
            ensure!(!text.contains(secret), "{name} holds {secret}");
        }
    }
    Ok(())
}

#[cfg(target_arch = "x86_64")]
mod intruder {
    use std::net::TcpListener;

    use ml_ids_tests::inject::{
        Argument::{self, Bytes, Number},
        Intruder,
        Outcome::{self, Ended, Refused},
        error_of,
    };

    use super::*;

    /// `bpf(2)`: `BPF_MAP_CREATE` and `BPF_PROG_LOAD`.
    const MAP_CREATE: i64 = 0;
    const PROG_LOAD: i64 = 5;

    fn openat(intruder: &mut Intruder, path: &str) -> Result<Option<i32>> {
        let path = format!("{path}\0");
        let arguments = [Number(i64::from(libc::AT_FDCWD)), Bytes(path.as_bytes()), Number(0)];
        error_of(intruder.call(libc::SYS_openat, &arguments)?)
    }

    /// Two instructions: return 2.
    fn program() -> [u8; 16] {
        let mut instructions = [0; 16];
        (instructions[0], instructions[4], instructions[8]) = (0xb7, 2, 0x95);
        instructions
    }

    #[test]
    fn somebody_inside_has_no_files_no_sockets_no_rights_and_no_memory_to_write_programs_to() -> Result<()> {
        let Some(mut lab) = Lab::build()? else { return Ok(()) };
        // Everybody may read it, but it is none of the sensor's places.
        let other = lab.directory().join("other");
        fs::create_dir(&other)?;
        fs::write(other.join("file"), "x")?;
        let other = other.join("file").to_string_lossy().into_owned();
        sensor::start(&mut lab, &[])?;
        let health = sensor::health(&lab)?;
        let limited = health["privileges"]["landlock"] != "unavailable";
        let taken = TcpListener::bind("127.0.0.1:0")?;
        let port = taken.local_addr()?.port().wrapping_add(1).to_be_bytes();
        {
            let mut intruder = Intruder::enter(lab.pid("sensor")?)?;
            ensure!(openat(&mut intruder, "/etc/shadow")? == Some(libc::EACCES), "/etc/shadow");
            if limited {
                ensure!(openat(&mut intruder, &other)? == Some(libc::EACCES), "a file of others");
                ensure!(openat(&mut intruder, "/root")? == Some(libc::EACCES), "root's home");
                let socket = intruder.call(
                    libc::SYS_socket,
                    &[Number(libc::AF_INET.into()), Number(libc::SOCK_STREAM.into()), Number(0)],
                )?;
                let Outcome::Answered(socket) = socket else { anyhow::bail!("{socket:?}") };
                let mut address = [0; 16];
                (address[0], address[2], address[3], address[4], address[7]) = (2, port[0], port[1], 127, 1);
                let bound = intruder.call(libc::SYS_bind, &[Number(socket), Bytes(&address), Number(16)])?;
                ensure!(error_of(bound)? == Some(libc::EACCES), "a port: {bound:?}");
                intruder.call(libc::SYS_close, &[Number(socket)])?;
            } else {
                eprintln!("SKIPPED: this kernel has no Landlock");
            }
            let raw = [Number(libc::AF_PACKET.into()), Number(libc::SOCK_RAW.into()), Number(0)];
            let write_and_execute = [
                Number(0),
                Number(4096),
                Number(7),
                Number((libc::MAP_PRIVATE | libc::MAP_ANONYMOUS).into()),
                Number(-1),
                Number(0),
            ];
            let map = [0u8; 72];
            let refused: [(&str, i64, &[Argument<'_>]); 7] = [
                ("a raw socket", libc::SYS_socket, &raw),
                ("root", libc::SYS_setuid, &[Number(0)]),
                ("a process", libc::SYS_clone, &[Number(libc::SIGCHLD.into()), Number(0)]),
                ("memory to write and execute", libc::SYS_mmap, &write_and_execute),
                ("a map", libc::SYS_bpf, &[Number(MAP_CREATE), Bytes(&map), Number(72)]),
                ("a signal to others", libc::SYS_kill, &[Number(1), Number(0)]),
                ("dumps", libc::SYS_prctl, &[Number(libc::PR_SET_DUMPABLE.into()), Number(1)]),
            ];
            for (what, number, arguments) in refused {
                let outcome = intruder.call(number, arguments)?;
                ensure!(outcome == Refused, "{what}: {outcome:?}");
            }
            // The filter pretends not to know it: its flags are not to be seen.
            let clone3 = intruder.call(libc::SYS_clone3, &[Bytes(&map), Number(64)])?;
            ensure!(error_of(clone3)? == Some(libc::ENOSYS), "{clone3:?}");
        }
        datagrams(&lab, 3)?;
        sensor::stop(&mut lab, libc::SIGTERM)
    }

    #[test]
    fn who_executes_traces_mounts_or_loads_ends_the_process() -> Result<()> {
        if !is_root() {
            return Ok(());
        }
        let mut load = [0u8; 72];
        // Type, instructions, then pointers, which are checked later than the rights.
        (load[0], load[4]) = (6, 2);
        let instructions = program();
        let fatal: [(&str, i64, &[Argument<'_>]); 5] = [
            ("execve", libc::SYS_execve, &[Bytes(b"/bin/true\0"), Number(0), Number(0)]),
            ("ptrace", libc::SYS_ptrace, &[Number(libc::PTRACE_TRACEME.into())]),
            ("mount", libc::SYS_mount, &[Bytes(b"x\0"), Bytes(b"/\0"), Bytes(b"tmpfs\0"), Number(0), Number(0)]),
            ("loading a program", libc::SYS_bpf, &[Number(PROG_LOAD), Bytes(&load), Number(72), Bytes(&instructions)]),
            ("io_uring", libc::SYS_io_uring_setup, &[Number(1), Bytes(&load)]),
        ];
        for (what, number, arguments) in fatal {
            let server = Server::ready(&[])?;
            let mut intruder = Intruder::enter(server.pid())?;
            let outcome = intruder.call(number, arguments)?;
            ensure!(outcome == Ended(libc::SIGSYS), "{what}: {outcome:?}");
        }
        Ok(())
    }

    #[test]
    fn a_refused_call_fails_is_counted_and_is_told_once() -> Result<()> {
        if !is_root() {
            return Ok(());
        }
        let server = Server::ready(&[])?;
        for _ in 0..2 {
            let mut intruder = Intruder::enter(server.pid())?;
            let answer = intruder.call_answered(libc::SYS_fchown, &[Number(0), Number(0), Number(0)])?;
            ensure!(answer == -i64::from(libc::EPERM), "{answer}");
        }
        let told = || server.get("/health").is_ok_and(|health| health.body.contains("has refused numbers [93]"));
        wait_until(SOON, told).with_context(|| server.log())?;
        let log = server.log();
        ensure!(log.matches("has refused numbers [93]").count() == 1, "{log}");
        server.stop()
    }
}
