//! The configuration file as an operator meets it: precedence over every option, mistakes, the file to begin with, what
//! SIGHUP does, and a dry run.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    agent::{self, Ended, LIMIT, Scratch, Server},
    binary,
    lab::{Lab, SERVER_IF, Side, wait_until},
    root,
};

/// Runs `ml-ids` with a configuration file and further variables.
fn with_file(file: &str, environment: &[(&str, &str)], arguments: &[&str]) -> Result<Ended> {
    let mut command = Command::new(binary()?);
    command.env("ML_IDS_CONFIG", file).envs(environment.iter().copied()).args(arguments);
    agent::run(&mut command, b"", LIMIT)
}

#[test]
fn flags_win_over_variables_these_over_the_file_and_the_file_over_defaults() -> Result<()> {
    let scratch = Scratch::new("config-order")?;
    let file = scratch
        .file("c.toml", "[run]\nlisten = '127.0.0.1:1'\npin = true\nlog-dir = '/from/file'\ninterface = ['f0']\n")?;
    let show = |environment: &[(&str, &str)], flags: &[&str]| -> Result<String> {
        let arguments = [&["config", "show", "--origin", "run"], flags].concat();
        Ok(with_file(&file, environment, &arguments)?.expect(0)?.text()?.to_owned())
    };
    let by_file = show(&[], &[])?;
    let variables = [("ML_IDS_LISTEN", "127.0.0.1:2"), ("LOG_DIR", "/from/variable"), ("CIC_INTERFACE", "v0,v1")];
    let by_variable = show(&variables, &[])?;
    let by_flag = show(&variables, &["--listen", "127.0.0.1:3", "--pin=false", "-i", "c0"])?;
    let empty = show(&[("ML_IDS_LISTEN", ""), ("LOG_DIR", "")], &[])?;
    for (text, expected) in [
        (&by_file, r#"listen = "127.0.0.1:1"  # file, line 2"#),
        (&by_file, "pin = true  # file, line 3"),
        (&by_file, r#"interface = ["f0"]  # file, line 5"#),
        (&by_file, "max-flows = 131072  # default"),
        (&by_variable, r#"listen = "127.0.0.1:2"  # environment ML_IDS_LISTEN"#),
        (&by_variable, r#"log-dir = "/from/variable"  # environment LOG_DIR"#),
        (&by_variable, r#"interface = ["v0", "v1"]  # environment CIC_INTERFACE"#),
        (&by_flag, r#"listen = "127.0.0.1:3"  # flag"#),
        (&by_flag, "pin = false  # flag"),
        (&by_flag, r#"interface = ["c0"]  # flag"#),
        (&empty, r#"listen = "127.0.0.1:1"  # file, line 2"#),
    ] {
        ensure!(text.lines().any(|line| line == expected), "no {expected} in\n{text}");
    }
    Ok(())
}

/// The options of the example file with their variables: section, option, variable, what the example sets them to.
fn variables(example: &str) -> Vec<(String, String, String, String)> {
    let (mut section, mut variable, mut found) = (String::new(), None, Vec::new());
    for line in example.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some(name) = line.strip_prefix("# Variable: ") {
            variable = Some(name.to_owned());
        } else if let Some((option, value)) = line.strip_prefix('#').and_then(|line| line.split_once(" = ")) {
            if let Some(variable) = variable.take() {
                found.push((section.clone(), option.to_owned(), variable, value.to_owned()));
            }
        } else {
            variable = None;
        }
    }
    found
}

#[test]
fn each_variable_wins_over_the_file() -> Result<()> {
    let example = agent::ml_ids(&["config", "example"], b"")?.expect(0)?.text()?.to_owned();
    let scratch = Scratch::new("config-variables")?;
    let all = variables(&example);
    ensure!(all.len() > 40, "{all:?}");
    // Those of `run` and what it shares, with a value of its own: the default again, which only its origin tells apart.
    let plain = |value: &str| !value.contains(['[', '{']) && !value.chars().any(|letter| letter.is_ascii_uppercase());
    let mut environment = BTreeMap::new();
    let mut file = String::new();
    for (section, option, variable, value) in &all {
        if (section.is_empty() || section == "run") && plain(value) && option != "no-model-cache" {
            environment.insert(variable.as_str(), value.trim_matches('"'));
            file += &format!("{option} = {value}\n");
        }
    }
    ensure!(environment.len() > 20, "{environment:?}");
    let file = scratch.file("c.toml", format!("[run]\n{file}").replace("log-format", "#log-format"))?;
    let environment: Vec<(&str, &str)> = environment.into_iter().collect();
    let shown = with_file(&file, &environment, &["config", "show", "--origin", "run"])?.expect(0)?;
    let shown = shown.text()?;
    for (variable, _) in environment {
        ensure!(shown.contains(&format!("# environment {variable}\n")), "{variable} does not win:\n{shown}");
    }
    Ok(())
}

#[test]
fn mistakes_end_every_command_with_2_and_all_of_them_are_named() -> Result<()> {
    let scratch = Scratch::new("config-mistakes")?;
    let file = scratch.file("c.toml", "[run]\nmax-flow = 1\n\n[serve]\nblock = true\nmlflow-token = 'hunter2'\n")?;
    for arguments in [&["config", "check"][..], &["serve", "--listen", "127.0.0.1:0"], &["score", "x.pcap"]] {
        let ended = with_file(&file, &[], arguments)?.expect(2)?;
        for expected in [
            format!("error: {file}:2: there is no option max-flow; did you mean max-flows?"),
            format!("error: {file}:5: block cannot stand in [serve]; move it to [run]"),
            format!("error: {file}:6: mlflow-token is a secret"),
        ] {
            ensure!(ended.stderr.contains(&expected), "{arguments:?}: {}", ended.stderr);
        }
        ensure!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    }
    let missing = scratch.path("missing.toml");
    let ended = with_file(&missing, &[], &["extract", "x.pcap"])?.expect(2)?;
    ensure!(ended.stderr.contains(&missing), "{}", ended.stderr);
    with_file(&missing, &[], &["completions", "bash"])?.expect(0)?;
    with_file("/dev/null", &[], &["config", "check"])?.expect(0)?;
    Ok(())
}

#[test]
fn the_file_to_begin_with_is_the_one_in_the_repository() -> Result<()> {
    let example = agent::ml_ids(&["config", "example"], b"")?.expect(0)?.text()?.to_owned();
    let kept = fs::read_to_string(root().join("deploy/ml-ids.toml"))?;
    ensure!(example == kept, "deploy/ml-ids.toml is stale: cargo xtask docs config");
    let path = root().join("deploy/ml-ids.toml");
    agent::ml_ids(&["config", "check", &path.to_string_lossy()], b"")?.expect(0)?;
    Ok(())
}

#[test]
fn a_server_is_set_up_by_the_file_and_says_at_sighup_that_it_is_read_at_start_only() -> Result<()> {
    let scratch = Scratch::new("config-serve")?;
    let tokens = scratch.file("token", "a-token-of-some-length-for-tests\n")?;
    fs::set_permissions(&tokens, fs::Permissions::from_mode(0o600))?;
    let file = scratch.file("c.toml", format!("[serve]\ntoken-file = {tokens:?}\n"))?;
    let server = Server::ready(&["--config", &file])?;
    ensure!(server.get("/health")?.status == 401, "no token is asked for: {}", server.log());
    let url = format!("http://{}", server.address);
    let health = |arguments: &[&str]| agent::ml_ids(&[&["health", "--url", &url], arguments].concat(), b"");
    let refused = health(&[])?.expect(1)?;
    ensure!(refused.stderr.contains("--token-file"), "{}", refused.stderr);
    let told = health(&["--token-file", &tokens])?.expect(0)?;
    ensure!(told.text()?.starts_with("healthy: up for "), "{}", told.text()?);
    health(&["--ready"])?.expect(0)?;
    server.signal(libc::SIGHUP)?;
    wait_until(LIMIT, || server.log().contains("is read at start only")).with_context(|| server.log())?;
    server.stop()?;
    let gone = health(&["--live"])?.expect(1)?;
    ensure!(gone.stderr.contains("no answer") && gone.stderr.contains("nothing listens there"), "{}", gone.stderr);
    Ok(())
}

#[test]
fn a_dry_run_names_all_that_is_wrong_and_changes_nothing() -> Result<()> {
    let Some(lab) = Lab::build()? else { return Ok(()) };
    let scratch = Scratch::new("config-dry")?;
    let (logs, state) = (scratch.path("logs"), scratch.path("state"));
    let places = ["--log-dir", &logs, "--state-dir", &state];
    let binary = binary()?.to_string_lossy().into_owned();
    let dry = |arguments: &[&str]| {
        let argv = [&[binary.as_str(), "run", "--dry-run"], arguments, &places].concat();
        lab.output(Side::Server, &argv)
    };
    let well = dry(&["-i", SERVER_IF])?;
    let text = String::from_utf8_lossy(&well.stdout).into_owned();
    ensure!(well.status.code() == Some(0), "{text}{}", String::from_utf8_lossy(&well.stderr));
    for expected in [
        &format!("{SERVER_IF} (index") as &str,
        "received packets: xdp-native, else xdp-generic",
        "yes CAP_BPF",
        "the programs were loaded, verified and released again",
        "MiB of kernel memory",
        "http://127.0.0.1:8000",
        "sha256 ",
        "It would start.",
    ] {
        ensure!(text.contains(expected), "no {expected:?} in\n{text}");
    }
    let wrong = dry(&["-i", "nope0", "--listen", "0.0.0.0:9", "--model", "/nowhere.onnx", "--sink", "gopher://x"])?;
    let errors = String::from_utf8_lossy(&wrong.stderr).into_owned();
    ensure!(wrong.status.code() == Some(2), "{:?}: {errors}", wrong.status);
    for expected in ["nope0", "--insecure-listen", "/nowhere.onnx", "--sink, address 1"] {
        ensure!(errors.contains(expected), "no {expected:?} in\n{errors}");
    }
    // What the kernel or the account list says no to is found out, too, and nobody listens afterwards.
    for (arguments, code, expected) in [
        (
            ["--listen", "203.0.113.9:8000", "--insecure-listen"].as_slice(),
            1,
            "no interface of this host has that address",
        ),
        (&["--user", "no-such-account"], 2, "no-such-account: there is no such account"),
    ] {
        let wrong = dry(&[&["-i", SERVER_IF], arguments].concat())?;
        let errors = String::from_utf8_lossy(&wrong.stderr).into_owned();
        ensure!(wrong.status.code() == Some(code) && errors.contains(expected), "{:?}: {errors}", wrong.status);
    }
    // By somebody without rights, who is told so.
    let argv = ["setpriv", "--reuid", "65534", "--clear-groups", "--inh-caps=-all", &binary];
    let argv = [&argv[..], &["run", "--dry-run", "-i", SERVER_IF, "--listen", "127.0.0.1:80"]].concat();
    let argv = [&argv[..], &["--no-alert-db", "--log-dir", "/tmp"]].concat();
    let other = lab.output(Side::Server, &argv)?;
    let told = String::from_utf8_lossy(&other.stdout).into_owned() + &String::from_utf8_lossy(&other.stderr);
    // Where the build folder is closed to others, there is nothing to run.
    if other.status.code() == Some(126) || other.status.code() == Some(127) {
        eprintln!("SKIPPED: others may not run {binary}");
    } else {
        ensure!(other.status.code() == Some(1), "{told}");
        for expected in ["no  CAP_BPF", "run as root", "cannot listen on 127.0.0.1:80", "ports below 1024"] {
            ensure!(told.contains(expected), "no {expected:?} in\n{told}");
        }
    }
    ensure!(!Path::new(&logs).exists() && !Path::new(&state).exists(), "a dry run has written something");
    let links = lab.succeed(Side::Server, &["ip", "-details", "link", "show", "dev", SERVER_IF])?;
    ensure!(!links.contains("xdp"), "{links}");
    Ok(())
}

#[test]
fn completions_are_taken_by_a_shell_and_complete() -> Result<()> {
    let scratch = Scratch::new("config-completions")?;
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = agent::ml_ids(&["completions", shell], b"")?.expect(0)?.text()?.to_owned();
        ensure!(text.contains("max-flows"), "{shell}: {text}");
        scratch.file(shell, &text)?;
    }
    let script = format!(
        ". {}\ncomplete -p ml-ids\ncompletes=$(complete -p ml-ids | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n\
         COMP_WORDS=(ml-ids run --max-fl) COMP_CWORD=2 COMPREPLY=()\n$completes ml-ids --max-fl run\necho \"${{COMPREPLY[@]}}\"\n\
         COMP_WORDS=(ml-ids mod) COMP_CWORD=1 COMPREPLY=()\n$completes ml-ids mod ml-ids\necho \"${{COMPREPLY[@]}}\"",
        scratch.path("bash")
    );
    let ended = agent::run(Command::new("bash").args(["-c", &script]), b"", LIMIT)?.expect(0)?;
    let lines: Vec<&str> = ended.text()?.lines().collect();
    ensure!(lines.first().is_some_and(|line| line.starts_with("complete ") && line.ends_with(" ml-ids")), "{lines:?}");
    ensure!(lines.get(1..) == Some(&["--max-flows", "model"]), "{lines:?} {}", ended.stderr);
    Ok(())
}

#[test]
fn man_pages_are_rendered_without_a_complaint() -> Result<()> {
    let scratch = Scratch::new("config-man")?;
    let folder = scratch.path("man");
    agent::ml_ids(&["man", &folder], b"")?.expect(0)?;
    let pages: Vec<_> = fs::read_dir(&folder)?.collect::<std::io::Result<_>>()?;
    ensure!(pages.len() > 15, "{pages:?}");
    for page in pages {
        let path = page.path();
        let groff = Command::new("groff").args(["-man", "-Kutf8", "-Tutf8", "-ww", "-P-cbou"]).arg(&path).output();
        let Ok(output) = groff else {
            eprintln!("SKIPPED: there is no groff to render man pages");
            return Ok(());
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success() && complaints.is_empty(), "{}: {complaints}", path.display());
        for section in ["NAME", "SYNOPSIS", "EXAMPLES", "EXIT STATUS", "ENVIRONMENT", "FILES"] {
            ensure!(text.lines().any(|line| line == section), "{}: no {section}\n{text}", path.display());
        }
    }
    Ok(())
}
