//! Every example of every `--help` does what it says: offline ones run as they stand in a folder with what they name, those
//! that watch an interface are run dry in a laboratory, and those that speak to an agent speak to one.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use ml_ids_tests::{
    agent::{self, Ended, LIMIT, Scratch},
    binary, default_model, fixture,
    lab::{Lab, SERVER_IF, Side, wait_until},
};

/// Longest time of an example; a fresh build scores slowly.
const SLOW: Duration = Duration::from_secs(60);

/// How an example is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// As it stands, in the folder.
    AsItIs,
    /// With `--dry-run`, on the laboratory's interface.
    Dry,
    /// As `config show` of the same line: parsed with every value, not run.
    Parsed,
    /// Against an agent.
    Agent,
    /// Until it listens, in the laboratory; then it is ended, and ends well.
    Served,
    /// Where a sensor with `--pin` has been and nobody else's pins are.
    Unpinned,
}

/// Examples that are only parsed, by what stands in them, and why.
const ONLY_PARSED: [(&str, &str); 2] = [
    ("mlflow:", "needs an MLflow server; registry.rs speaks to a real one"),
    ("s3://", "needs an S3 service; registry.rs speaks to a real one"),
];

/// One example: the command that has it, and its line.
#[derive(Clone, Debug)]
struct Example {
    of: String,
    line: String,
}

impl Example {
    fn way(&self) -> Way {
        let line = &self.line;
        if ONLY_PARSED.iter().any(|(mark, _)| line.contains(mark)) {
            Way::Parsed
        } else if line.starts_with("ml-ids run") {
            Way::Dry
        } else if ["ml-ids alerts", "ml-ids block", "ml-ids health", "ml-ids top", "curl"]
            .iter()
            .any(|start| line.starts_with(start))
        {
            Way::Agent
        } else if ["ml-ids serve", "ml-ids demo"].iter().any(|start| line.starts_with(start)) {
            Way::Served
        } else if line.starts_with("ml-ids unpin") {
            Way::Unpinned
        } else {
            Way::AsItIs
        }
    }
}

/// The help of a command, and those of the commands below it.
fn helps(path: &[String], found: &mut BTreeMap<String, String>) -> Result<()> {
    let mut arguments: Vec<&str> = path.iter().map(String::as_str).collect();
    arguments.push("--help");
    let help = agent::ml_ids(&arguments, b"")?.expect(0)?.text()?.to_owned();
    let below: Vec<String> = match help.split_once("\nCommands:\n") {
        Some((_, rest)) => rest
            .lines()
            .take_while(|line| !line.is_empty())
            .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
            .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
            .filter(|name| name != "help")
            .collect(),
        None => Vec::new(),
    };
    found.insert(["ml-ids"].into_iter().chain(path.iter().map(String::as_str)).collect::<Vec<_>>().join(" "), help);
    for name in below {
        helps(&[path, &[name]].concat(), found)?;
    }
    Ok(())
}

/// The examples of a help: its indented lines after `Examples:`, without what is said of them.
fn examples(of: &str, help: &str) -> Result<Vec<Example>> {
    let (_, rest) =
        help.split_once("\nExamples:\n").with_context(|| format!("`{of} --help` has no examples:\n{help}"))?;
    let (mut found, mut whole) = (Vec::new(), String::new());
    for line in rest.lines().take_while(|line| line.starts_with("  ")) {
        let line = line.trim();
        let line = line.split_once("   ").map_or(line, |(command, _)| command.trim_end());
        whole += line;
        if let Some(begun) = whole.strip_suffix('\\') {
            whole = begun.to_owned();
            continue;
        }
        found.push(Example { of: of.to_owned(), line: std::mem::take(&mut whole) });
    }
    ensure!(!found.is_empty(), "`{of} --help` has no examples:\n{help}");
    Ok(found)
}

fn every_example() -> Result<Vec<Example>> {
    let mut found = BTreeMap::new();
    helps(&[], &mut found)?;
    ensure!(found.len() > 15, "commands: {:?}", found.keys());
    let each = found.iter().map(|(of, help)| examples(of, help)).collect::<Result<Vec<_>>>()?;
    Ok(each.concat())
}

/// A folder with everything that examples name.
fn folder(name: &str) -> Result<(Scratch, PathBuf)> {
    let scratch = Scratch::new(name)?;
    let home = PathBuf::from(scratch.path(""));
    let handmade = fixture("handmade");
    fs::copy(handmade.join("fin.pcap"), home.join("capture.pcap"))?;
    fs::copy(handmade.join("fin.pcap"), home.join("tunnelled.pcap"))?;
    fs::copy(handmade.join("fin.fixed.csv"), home.join("flows.csv"))?;
    fs::copy(default_model(), home.join("forest.onnx"))?;
    fs::write(home.join("ml-ids.toml"), agent::ml_ids(&["config", "example"], b"")?.expect(0)?.stdout)?;
    fs::write(home.join("token"), "a-token-of-some-length-for-tests\n")?;
    Ok((scratch, home))
}

/// What a shell runs first: it finds the program under test and nothing of this machine's agent.
fn prelude(home: &Path) -> Result<String> {
    let folder = binary()?.parent().context("the program is in no folder")?.to_owned();
    let (home, folder) = (home.display(), folder.display());
    Ok(format!("set -e -o pipefail; cd {home}; export PATH={folder}:$PATH ML_IDS_STATE_DIR={home}/state\n"))
}

fn shell(home: &Path, line: &str) -> Result<Command> {
    let mut command = Command::new("bash");
    command.args(["-c", &format!("{}{line}", prelude(home)?)]).env("RUST_LOG", "warn");
    Ok(command)
}

fn succeed(home: &Path, example: &Example, line: &str) -> Result<Ended> {
    let ended = agent::run(&mut shell(home, line)?, b"", SLOW)?;
    ended.in_order()?;
    // `… | head` ends the writer early, which is in order.
    let code = ended.code;
    ensure!(code == Some(0), "`{}` of `{} --help` ended with {code:?}: {}", example.line, example.of, ended.stderr);
    Ok(ended)
}

#[test]
fn offline_examples_run_as_they_stand() -> Result<()> {
    let (_scratch, home) = folder("help-offline")?;
    let mut count = 0;
    for example in every_example()?.iter().filter(|example| example.way() == Way::AsItIs) {
        succeed(&home, example, &example.line)?;
        count += 1;
    }
    ensure!(count > 20, "only {count}");
    for name in ["flows.csv", "flows.parquet", "verdicts.csv", "ids.onnx", "ml-ids.bash"] {
        ensure!(fs::metadata(home.join(name))?.len() > 0, "{name} is empty");
    }
    Ok(())
}

#[test]
fn examples_that_need_the_world_are_parsed_with_every_value() -> Result<()> {
    let (_scratch, home) = folder("help-parsed")?;
    for example in every_example()?.iter().filter(|example| example.way() == Way::Parsed) {
        let why = ONLY_PARSED.iter().find(|(mark, _)| example.line.contains(mark)).map_or("", |(_, why)| why);
        eprintln!("only parsed: {}: {why}", example.line);
        let line = example.line.split(" && ").next().unwrap_or_default();
        let Some(rest) = line.strip_prefix("ml-ids ") else { bail!("{line} is not of ml-ids") };
        let ended = succeed(&home, example, &format!("ml-ids config show {rest}"))?;
        ensure!(ended.text()?.contains(" = "), "{line}: {}", ended.text()?);
    }
    Ok(())
}

#[test]
fn what_run_would_do_is_told_for_each_of_its_examples() -> Result<()> {
    let Some(lab) = Lab::build()? else { return Ok(()) };
    let (_scratch, home) = folder("help-run")?;
    for example in every_example()?.iter().filter(|example| example.way() == Way::Dry) {
        let named = ["eth0", "eth1", "wg0", "'veth*'"]
            .iter()
            .fold(example.line.clone(), |line, name| line.replace(name, SERVER_IF));
        // The laboratory has no default route, and its pins are not this machine's.
        let line = if named.contains(" -i ") { named } else { format!("{named} -i {SERVER_IF}") };
        let line = line.replace("--log-dir /var/log/ml-ids", "--log-dir logs");
        let dry = if line.contains("--dry-run") { line } else { format!("{line} --dry-run") };
        let output = lab.within(Side::Server, || succeed(&home, example, &dry))?;
        let text = output.text()?;
        ensure!(text.contains("It would start.") && text.contains(&format!("{SERVER_IF} (index")), "{dry}: {text}");
    }
    ensure!(!home.join("logs").exists() && !home.join("state").exists(), "a dry run has written something");
    Ok(())
}

#[test]
fn what_serves_listens_and_ends_when_it_is_told_to() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    let (_scratch, home) = folder("help-served")?;
    let certificate = "openssl req -x509 -nodes -days 2 -subj /CN=sensor -newkey ec -pkeyopt ec_paramgen_curve:P-256 \
                       -keyout key.pem -out cert.pem 2>/dev/null && chmod 600 key.pem token && cp capture.pcap mine.pcap";
    agent::run(&mut shell(&home, certificate)?, b"", SLOW)?.expect(0)?;
    let mut count = 0;
    for example in every_example()?.iter().filter(|example| example.way() == Way::Served) {
        let line = example.line.replace("/tmp/demo", &home.join("demo").to_string_lossy());
        let script = format!("{}exec {line}", prelude(&home)?);
        lab.start(Side::Server, "served", &["bash", "-c", &script], &[("RUST_LOG", "info")])?;
        let code = if line.contains("--once") {
            lab.wait("served", SLOW)?
        } else {
            lab.wait_for_log("served", "listening on http")?;
            lab.stop("served", libc::SIGTERM)?
        };
        ensure!(code == Some(0), "`{line}` of `{} --help` ended with {code:?}:\n{}", example.of, lab.log("served"));
        count += 1;
    }
    ensure!(count > 6, "only {count}");
    Ok(())
}

#[test]
fn what_is_pinned_is_unpinned() -> Result<()> {
    let Some(lab) = Lab::build()? else { return Ok(()) };
    let (_scratch, home) = folder("help-unpin")?;
    let mut count = 0;
    for example in every_example()?.iter().filter(|example| example.way() == Way::Unpinned) {
        // A place for pins that nobody else sees, at the two that the examples name.
        let line = &example.line;
        let pins = if line.contains("--pin-dir") { "--pin-dir /run/bpf/sensor" } else { "" };
        let script = format!(
            "mount -t tmpfs tmpfs /run; mkdir /run/bpf; mount -t bpf bpf /run/bpf; mount -t bpf bpf /sys/fs/bpf
             ml-ids run -i {SERVER_IF} --attach mirror --pin {pins} --log-dir logs --keep-privileges & sensor=$!
             for _ in $(seq 300); do curl -sf 127.0.0.1:8000/health/ready && break; sleep 0.1; done
             kill $sensor; wait $sensor
             {line}"
        );
        fs::write(home.join("unpin.sh"), format!("set -e\n{script}"))?;
        let ended = lab.within(Side::Server, || succeed(&home, example, "unshare --mount bash unpin.sh"))?;
        let text = ended.text()?;
        ensure!(text.contains("ready") && text.contains(" pins at "), "{line}: {text}{}", ended.stderr);
        count += 1;
    }
    ensure!(count > 2, "only {count}");
    Ok(())
}

#[test]
fn examples_that_speak_to_an_agent_are_understood_by_one() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    let (_scratch, home) = folder("help-agent")?;
    let bpffs = lab.directory().join("bpffs");
    fs::create_dir(&bpffs)?;
    let mounted = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&bpffs).status()?;
    ensure!(mounted.success(), "cannot mount a BPF file system");
    let outcome = with_an_agent(&mut lab, &home, &bpffs);
    let _ = lab.stop("sensor", libc::SIGTERM);
    let unmounted = Command::new("umount").arg(&bpffs).status()?;
    ensure!(unmounted.success(), "cannot unmount the BPF file system");
    outcome
}

fn with_an_agent(lab: &mut Lab, home: &Path, bpffs: &Path) -> Result<()> {
    let program = binary()?.to_string_lossy().into_owned();
    let (state, logs) = (home.join("state"), home.join("logs"));
    let (state, logs, bpffs) = (state.to_string_lossy(), logs.to_string_lossy(), bpffs.to_string_lossy());
    let argv =
        [&*program, "run", "-i", SERVER_IF, "--log-dir", &logs, "--block", "--bpffs", &bpffs, "--state-dir", &state];
    lab.start(Side::Server, "sensor", &argv, &[("RUST_LOG", "info")])?;
    let ready = || lab.get("http://127.0.0.1:8000/health/ready").is_ok_and(|body| body.contains("ready\""));
    wait_until(LIMIT * 3, ready).with_context(|| format!("the sensor did not start:\n{}", lab.log("sensor")))?;
    let database = Path::new(&*state).join("alerts.db");
    wait_until(LIMIT, || database.exists()).with_context(|| format!("no {}", database.display()))?;
    for example in every_example()?.iter().filter(|example| example.way() == Way::Agent) {
        let line = example.line.replace("--db /var/lib/ml-ids/alerts.db", &format!("--db {}", database.display()));
        // What is unblocked has to be blocked before.
        let before = if line.contains("block rm") { line.replace("block rm", "block add") } else { "true".to_owned() };
        // A terminal of its own, at which somebody looks for a moment.
        let line = if line.starts_with("ml-ids top") {
            let line = line.replace("127.0.0.1:8001", "127.0.0.1:8000");
            format!("(sleep 1; printf q) | script --quiet --return --command '{line}' /dev/null")
        } else {
            line
        };
        let line = format!("export ML_IDS_BPFFS={bpffs}\n{before}\n{line}");
        if line.contains(" 1790000000000000") || line.contains("https://sensor.example") {
            // There is no such alert, and no such host: what is said of that shows that all else was understood.
            let ended = lab.within(Side::Server, || agent::run(&mut shell(home, &line)?, b"", SLOW))?;
            // At a terminal both are one.
            let said = format!("{}{}", ended.text()?, ended.stderr);
            let expected = match (line.contains("ml-ids top"), line.contains("https://")) {
                (true, _) => "no agent answers",
                (_, true) => "no answer",
                _ => "there is no alert 1790000000000000",
            };
            ensure!(ended.code == Some(1) && said.contains(expected), "{line}: {ended:?}");
            continue;
        }
        lab.within(Side::Server, || succeed(home, example, &line))?;
    }
    Ok(())
}
