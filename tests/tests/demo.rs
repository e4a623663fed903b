//! `ml-ids demo` as somebody meets it who has just cloned the project: no privileges, no network but loopback, no data; the
//! alerts are those of the capture, and nothing is left behind.

use std::{
    collections::BTreeMap,
    env, fs,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ml_ids::offline::source::unpack;
use ml_ids_tests::{
    agent::{LIMIT, Scratch, Server, ml_ids, run},
    binary,
    browser::Browser,
    fixture,
    lab::{Lab, Side, wait_until},
    root,
};
use serde_json::Value;

/// Longest time that a replay may take on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(120);
/// `nobody`.
const NOBODY: u32 = 65_534;

/// An account that can do nothing, with a home that it can write to.
struct Stranger {
    folder: Scratch,
    program: PathBuf,
}

impl Stranger {
    fn new(name: &str) -> Result<Self> {
        let folder = Scratch::new(name)?;
        let (program, home) = (PathBuf::from(folder.path("ml-ids")), folder.path("home"));
        // Where the build is, others may not be allowed to look.
        fs::copy(binary()?, &program)?;
        fs::create_dir(&home)?;
        fs::set_permissions(folder.path(""), fs::Permissions::from_mode(0o755))?;
        if is_root() {
            chown(&home, Some(NOBODY), Some(NOBODY))?;
        } else {
            eprintln!("not root: the demonstration runs as the user who runs the test");
        }
        Ok(Self { folder, program })
    }

    fn home(&self) -> String {
        self.folder.path("home")
    }

    /// `ml-ids demo` with these arguments.
    fn demo(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["demo", "--listen", "127.0.0.1:0"]).args(arguments);
        command.env_clear().env("HOME", self.home()).env("TMPDIR", self.home()).current_dir(self.home());
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    fn ensure_nothing_is_left(&self) -> Result<()> {
        let left: Vec<_> = fs::read_dir(self.home())?.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
        ensure!(left.is_empty(), "left behind: {left:?}");
        Ok(())
    }
}

fn is_root() -> bool {
    // SAFETY: no preconditions.
    unsafe { libc::geteuid() == 0 }
}

/// Flows of alerts by their titles, which name class, source, target and ports.
fn counts(alerts: &[Value]) -> BTreeMap<String, u64> {
    let count = |alert: &Value| Some((alert["title"].as_str()?.to_owned(), alert["count"].as_u64()?));
    alerts.iter().filter_map(count).collect()
}

fn expected() -> Result<BTreeMap<String, u64>> {
    let capture = root().join("ml-ids/assets/demo.pcap.zst");
    let capture = capture.to_string_lossy();
    let made = run(Command::new(binary()?).args(["score", &capture, "--alerts=jsonl"]), b"", PATIENCE)?.expect(0)?;
    let alerts: Vec<Value> = made.text()?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    Ok(counts(&alerts))
}

#[test]
fn the_documents_tell_the_story_of_the_capture() -> Result<()> {
    let capture = root().join("ml-ids/assets/demo.pcap.zst");
    let made = run(Command::new(binary()?).arg("score").arg(capture).arg("--alerts"), b"", PATIENCE)?.expect(0)?;
    let (table, alerts) = (made.text()?, expected()?);
    let read = |name: &str| fs::read_to_string(root().join("docs").join(name)).context("no document");
    let (tour, explained) = (read("tour.md")?, read("ALERTS.md")?);
    ensure!(tour.contains(table), "docs/tour.md is stale: cargo xtask docs tour");
    ensure!(explained.contains(table), "docs/ALERTS.md is stale: cargo xtask docs alerts");
    // The words around the table.
    ensure!(alerts.len() == 5 && tour.contains("are five alerts"), "{alerts:#?}");
    let flows: u64 = alerts.values().sum();
    ensure!(tour.contains(&format!("{flows} flows of four strangers")), "{flows} flows are in alerts");
    Ok(())
}

#[test]
fn its_alerts_are_those_of_the_capture_and_the_books_balance() -> Result<()> {
    let stranger = Stranger::new("demo-once")?;
    let kept = format!("{}/kept", stranger.home());
    let mut command = stranger.demo(&["--speed", "max", "--once", "--keep", &kept]);
    let made = run(command.env("RUST_LOG", "warn,ml_ids::cli::judging=info"), b"", PATIENCE)?.expect(0)?;
    ensure!(made.stderr.contains("the books balance"), "{}", made.stderr);
    let database = format!("{kept}/alerts.db");
    let listed = ml_ids(&["alerts", "list", "--db", &database, "--format", "jsonl"], b"")?.expect(0)?;
    let alerts: Vec<Value> = listed.text()?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let expected = expected()?;
    ensure!(counts(&alerts) == expected, "{:#?} instead of {expected:#?}", counts(&alerts));
    ensure!(expected.len() == 5, "the story is told in {} alerts: {expected:#?}", expected.len());
    let table = made.text()?;
    for title in expected.keys() {
        ensure!(table.contains(title.as_str()), "{title} is not in\n{table}");
    }
    ensure!(fs::metadata(format!("{kept}/logs/eve.json"))?.len() > 0);
    Ok(())
}

#[test]
fn the_api_shows_it_while_it_goes_on_and_ctrl_c_leaves_nothing_behind() -> Result<()> {
    let stranger = Stranger::new("demo-live")?;
    let mut server = Server::of(&mut stranger.demo(&["--speed", "20"]))?;
    server.wait_ready()?;
    let json = |path: &str| server.get(path).and_then(|answer| answer.expect(200));
    wait_until(PATIENCE, || json("/flows").is_ok_and(|flows| flows["open"].as_u64() > Some(0)))
        .with_context(|| format!("no flow is open\n{}", server.log()))?;
    let flow = json("/flows?by=age&limit=1")?["flows"][0].clone();
    ensure!(flow["in_iface"] == "demo" && flow["age"].as_f64() >= flow["quiet"].as_f64(), "{flow:#}");
    wait_until(PATIENCE, || json("/alerts").is_ok_and(|alerts| alerts["alerts"][0]["count"].as_u64() > Some(100)))
        .with_context(|| format!("no alert\n{}", server.log()))?;
    let health = json("/health")?;
    let interface = &health["sensor"]["interfaces"][0];
    ensure!(health["status"] == "healthy" && interface["name"] == "demo" && interface["ingress"] == "replay");
    ensure!(health["notes"].to_string().contains("no interface is watched"), "{health:#}");
    server.signal(libc::SIGINT)?;
    let code = server.wait()?;
    let log = server.log();
    ensure!(code == Some(0) && log.contains("the books balance"), "{code:?}\n{log}");
    stranger.ensure_nothing_is_left()
}

#[test]
fn when_the_capture_is_over_it_says_what_there_was_and_goes_on_serving() -> Result<()> {
    let stranger = Stranger::new("demo-over")?;
    let mut server = Server::of(&mut stranger.demo(&["--speed", "max"]))?;
    wait_until(PATIENCE, || server.log().contains("the capture is over")).with_context(|| server.log())?;
    let alerts = server.get("/alerts")?.expect(200)?;
    let alerts = alerts["alerts"].as_array().context("no alerts")?;
    ensure!(counts(alerts) == expected()?, "{alerts:#?}");
    server.signal(libc::SIGTERM)?;
    ensure!(server.wait()? == Some(0), "{}", server.log());
    stranger.ensure_nothing_is_left()
}

#[test]
fn a_port_that_is_taken_and_a_file_that_is_no_capture_are_said() -> Result<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let refused = ml_ids(&["demo", "--listen", &address], b"")?.expect(1)?;
    ensure!(refused.stderr.contains(&address) && refused.stderr.contains("--listen"), "{}", refused.stderr);
    let folder = Scratch::new("demo-file")?;
    let text = folder.file("notes.txt", "this is no capture, but long enough to be one")?;
    let refused = ml_ids(&["demo", "--listen", "127.0.0.1:0", "--capture", &text], b"")?.expect(3)?;
    ensure!(refused.stderr.contains("not a capture"), "{}", refused.stderr);
    ml_ids(&["demo", "--loop", "--speed", "max"], b"")?.expect(2).map(drop)
}

#[test]
fn a_capture_that_breaks_off_is_said_when_it_is_over_and_in_the_exit_code() -> Result<()> {
    let folder = Scratch::new("demo-cut")?;
    let whole = fs::read(fixture("handmade/random.pcap"))?;
    let cut = folder.file("cut.pcap", whole.split_last_chunk::<5>().context("an empty capture")?.0)?;
    fs::set_permissions(folder.path(""), fs::Permissions::from_mode(0o755))?;
    let stranger = Stranger::new("demo-cut-home")?;
    let mut server = Server::of(&mut stranger.demo(&["--speed", "max", "--capture", &cut]))?;
    let damage = "the capture ends inside a packet or block";
    wait_until(PATIENCE, || server.log().contains("the capture is over")).with_context(|| server.log())?;
    ensure!(server.log().contains(damage), "{}", server.log());
    let health = server.get("/health")?.expect(200)?;
    ensure!(health["notes"].to_string().contains(damage), "{health:#}");
    server.signal(libc::SIGINT)?;
    ensure!(server.wait()? == Some(3) && server.log().matches(damage).count() == 1, "{}", server.log());
    stranger.ensure_nothing_is_left()
}

#[test]
fn the_capture_in_the_program_is_the_one_that_the_story_writes() -> Result<()> {
    let folder = Scratch::new("demo-story")?;
    let capture = folder.path("story.pcap");
    run(Command::new("python3").arg(fixture("story.py")).arg(&capture), b"", LIMIT)?.expect(0)?;
    let mut packed = Vec::new();
    std::io::copy(&mut unpack(fs::File::open(root().join("ml-ids/assets/demo.pcap.zst"))?)?, &mut packed)?;
    ensure!(
        packed == fs::read(&capture)?,
        "ml-ids/assets/demo.pcap.zst is stale; `cargo xtask docs demo` makes it anew"
    );
    Ok(())
}

/// For `cargo xtask docs tour`, which says where the pictures go.
#[test]
#[ignore = "takes a minute; `cargo xtask docs tour` runs it"]
fn pictures_for_the_tour() -> Result<()> {
    let folder = PathBuf::from(env::var_os("ML_IDS_PICTURES").context("ML_IDS_PICTURES says where they go")?);
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    let program = binary()?.to_string_lossy().into_owned();
    let temporary = lab.directory().to_string_lossy().into_owned();
    lab.start(Side::Server, "demo", &[&program, "demo"], &[("TMPDIR", &temporary)])?;
    lab.wait_for_log("demo", "alerts as they are opened")?;
    let Some(browser) = Browser::start(&mut lab)? else { return Ok(()) };
    browser.resize(1440, 1000)?;
    browser.go("http://127.0.0.1:8000/")?;
    wait_until(PATIENCE, || lab.log("demo").contains("DoS Hulk")).with_context(|| lab.log("demo"))?;
    browser.wait_for("/\\d\\D?\\d{3} flows/.test(document.querySelector('#alert-list > li').innerText)")?;
    browser.run("for (const button of document.querySelectorAll('#ranges button, #ranges label')) if (button.innerText.trim() === '5 min') button.click()")?;
    browser.wait_for("document.querySelector('#verdicts-step').textContent === 'flows each second'")?;
    browser.wait_drawn()?;
    browser.screenshot(&folder.join("tour-page.png"))?;
    browser.run(
        "[...document.querySelectorAll('#alert-list > li')].find((row) => row.innerText.includes('SSH'))\
         .querySelector('button').click()",
    )?;
    browser.wait_for("document.querySelectorAll('#why > li').length >= 3")?;
    browser.wait_drawn()?;
    browser.screenshot(&folder.join("tour-page-alert.png"))?;
    lab.stop("demo", libc::SIGINT).map(drop)
}
