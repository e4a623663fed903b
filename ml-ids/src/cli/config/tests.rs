use std::{collections::BTreeSet, ffi::OsString, fs, path::PathBuf};

use clap::{Arg, Command};

use super::{
    catalogue::{Kind, commands, is_address, is_list, is_secret, is_shared, is_table, kind, options},
    example::example,
    locate_from, read_settings,
    settings::Settings,
    show::shown,
};
use crate::cli::parse::{Line, ParseError, parse, program};

/// Parses `ml-ids --config FILE …` with a file of this text.
fn with_file(text: &str, line: &[&str]) -> Result<Line, ParseError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, text).unwrap();
    let mut whole: Vec<OsString> = vec!["ml-ids".into(), "--config".into(), file.path().into()];
    whole.extend(line.iter().map(OsString::from));
    parse(&whole)
}

fn shown_with(text: &str, line: &[&str]) -> String {
    shown(&with_file(text, line).unwrap_or_else(|error| panic!("{error}\n{text}")), true)
}

fn problems(text: &str) -> String {
    match Settings::parse(text, &program()) {
        Ok(settings) => panic!("nothing wrong with {text:?}: {settings:?}"),
        Err(problems) => problems.iter().map(|problem| format!("{problem}\n")).collect(),
    }
}

/// What a command needs besides options.
fn positionals(path: &[String]) -> &'static [&'static str] {
    match path.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["extract" | "score"] => &["capture.pcap"],
        ["model", "fetch"] => &["embedded", "--output", "x.onnx"],
        ["model", _] => &["embedded"],
        ["alerts", "show" | "ack"] => &["1"],
        ["block", "add" | "rm"] => &["192.0.2.7"],
        _ => &[],
    }
}

/// A value other than the default that the option takes, as the file writes it and as the command line does.
fn sample(arg: &Arg) -> (String, String) {
    let long = arg.get_long().unwrap();
    let text = match long {
        "interface" => "eth7",
        "alert-severity" => return (r#"{ "DoS" = 3 }"#.to_owned(), "DoS=3".to_owned()),
        "linger" | "sweep-interval" => "2.5",
        "ring-bytes" => "131072",
        "max-flows" => "4096",
        "eve" => "none",
        "log-rotate-size" => "7MiB",
        "log-rotate-age" | "alert-window" | "block-ttl" | "ttl" | "model-refresh" | "stats-interval" => "7m",
        "block-threshold" => "0.5",
        "allow" | "ignore" => "192.0.2.0/24",
        "model" | "shadow" | "mlflow-model-name" => "mlflow:x@y",
        "model-sha256" => {
            return {
                let hex = "ab".repeat(32);
                (format!("{hex:?}"), hex)
            };
        }
        "mlflow-tracking-uri" | "s3-endpoint" => "https://host.example",
        "url" => "http://127.0.0.1:7",
        "sink" => "stdout",
        "severity" => "2",
        "interval" => "5s",
        "speed" => "20",
        _ => "",
    };
    if kind(arg) == Kind::Switch {
        return ("true".to_owned(), "true".to_owned());
    }
    let default = arg.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
    let possible = arg.get_possible_values();
    let text = match possible.iter().map(|value| value.get_name()).find(|name| Some(*name) != default.as_deref()) {
        Some(name) => name.to_owned(),
        None if !text.is_empty() => text.to_owned(),
        None if kind(arg) == Kind::Number => "7".to_owned(),
        None => "/some/where".to_owned(),
    };
    let bare = kind(arg) == Kind::Number && text.parse::<f64>().is_ok();
    let value = if bare { text.clone() } else { format!("{text:?}") };
    (if is_list(arg) { format!("[{value}]") } else { value }, text)
}

/// Every option of every command, but for secrets: what section, what option.
fn every_option(root: &Command) -> Vec<(Vec<String>, &Command, &str, &Arg)> {
    let all = commands(root).into_iter();
    let all =
        all.flat_map(|(path, command)| options(command).map(move |(long, arg)| (path.clone(), command, long, arg)));
    all.filter(|(_, _, _, arg)| !is_secret(arg)).collect()
}

/// The line of an option in what `config show` prints.
fn line_of(shown: &str, long: &str) -> String {
    let mut lines = shown.lines().filter(|line| line.starts_with(&format!("{long} = ")));
    let line = lines.next().unwrap_or_else(|| panic!("no {long} in\n{shown}"));
    assert_eq!(lines.next(), None, "twice in\n{shown}");
    line.to_owned()
}

/// A command line that reaches an option's command.
fn reach(path: &[String]) -> Vec<&str> {
    let path: Vec<String> = match path.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => vec!["run".to_owned()],
        [group @ ("alerts" | "block")] => vec![group.to_owned(), "list".to_owned()],
        _ => path.to_vec(),
    };
    let extra = positionals(&path);
    path.into_iter().map(|name| &*name.leak()).chain(extra.iter().copied()).collect()
}

#[test]
fn every_option_of_every_command_is_set_by_the_file_and_a_flag_wins() {
    let root = program();
    let all = every_option(&root);
    assert!(all.len() > 100, "{}", all.len());
    for (path, _, long, arg) in all {
        let (value, text) = sample(arg);
        let section = if path.is_empty() { String::new() } else { format!("[{}]\n", path.join(".")) };
        // Options of a command that must be given are not left to the file.
        let line = reach(&path);
        if line.contains(&&*format!("--{long}")) {
            continue;
        }
        let file = format!("{section}{} = {value}\n", long.replace('-', "_"));
        let by_file = line_of(&shown_with(&file, &line), long);
        let at = if path.is_empty() { 1 } else { 2 };
        assert!(by_file.ends_with(&format!("  # file, line {at}")), "{path:?} {by_file}");
        assert!(by_file.contains(&text) || is_table(arg), "{path:?} {by_file}: {text}");

        let other = match kind(arg) {
            Kind::Switch => format!("--{long}=false"),
            _ => {
                let default = arg.get_default_values().first().map(|value| value.to_string_lossy().into_owned());
                format!("--{long}={}", default.unwrap_or_else(|| text.clone()))
            }
        };
        let by_flag = line_of(&shown_with(&file, &[&line[..], &[&other]].concat()), long);
        assert!(by_flag.ends_with("  # flag"), "{path:?} {by_flag}");
        let (_, given) = other.split_once('=').unwrap();
        assert!(by_flag.contains(given), "{path:?} {by_flag}: {given}");
    }
}

#[test]
fn what_is_shown_has_the_same_effect_when_it_is_read_back() {
    let root = program();
    let sections: BTreeSet<Vec<String>> = every_option(&root).into_iter().map(|(path, ..)| path).collect();
    for path in sections {
        let line = reach(&path);
        let plain = shown(&with_file("", &line).unwrap(), false);
        let again = shown(&with_file(&plain, &line).unwrap_or_else(|error| panic!("{error}\n{plain}")), false);
        assert_eq!(plain, again, "{path:?}");
    }
    let line = [
        "run",
        "-i",
        "a",
        "-i",
        "b*",
        "--alert-severity",
        "DoS=3",
        "--linger",
        "0.5",
        "--block",
        "--listen",
        "[::1]:1",
    ];
    let given = shown(&with_file("", &line).unwrap(), false);
    assert!(given.contains(r#"interface = ["a", "b*"]"#) && given.contains(r#"alert-severity = ["DoS=3"]"#), "{given}");
    assert_eq!(shown(&with_file(&given, &["run"]).unwrap(), false), given);
}

#[test]
fn no_option_requires_another_by_the_parser_which_does_not_see_defaults() {
    fn look(command: &Command) {
        for arg in command.get_arguments() {
            let text = format!("{arg:?}");
            assert!(text.contains("requires: []"), "{}: check it where the value is used: {text}", command.get_name());
        }
        command.get_subcommands().for_each(look);
    }
    look(&program());
}

#[test]
fn what_contradicts_a_flag_is_left_out_and_a_section_outranks_the_top() {
    let line = with_file("no-model-cache = true\n", &["run", "--model-cache", "/x"]).unwrap();
    assert!(line_of(&shown(&line, true), "no-model-cache").starts_with("no-model-cache = false"));
    let line = with_file("no-model-cache = true\n[run]\nmodel-cache = '/x'\n", &["run"]).unwrap();
    let text = shown(&line, true);
    assert!(
        text.contains(r#"model-cache = "/x"  # file, line 3"#) && text.contains("no-model-cache = false"),
        "{text}"
    );
    assert!(
        problems("model-cache = '/x'\nno-model-cache = true").contains("2: no-model-cache cannot be set together with")
    );
    let line = with_file("model-cache = '/x'\n[run]\nno-model-cache = false\n", &["run"]).unwrap();
    assert!(shown(&line, true).contains(r#"model-cache = "/x"  # file, line 1"#));
    // Certificate and key from two places.
    let line = with_file("[serve]\ntls-key = '/k'\n", &["serve", "--tls-cert", "/c"]).unwrap();
    assert!(shown(&line, true).contains(r#"tls-key = "/k"  # file"#));
}

#[test]
fn sections_win_over_what_stands_before_them() {
    let file = "model = 'a.onnx'\nlisten = '127.0.0.1:1'\n[serve]\nmodel = 'b.onnx'\n";
    assert!(shown_with(file, &["run"]).contains(r#"model = "a.onnx""#));
    let serve = shown_with(file, &["serve"]);
    assert!(serve.contains(r#"model = "b.onnx"  # file, line 4"#) && serve.contains("127.0.0.1:1"), "{serve}");
}

#[test]
fn severities_are_a_table_or_a_list() {
    for file in [
        "[alert-severity]\nDoS = 3\n'Web Attack' = 1\n",
        "[run]\nalert-severity = ['DoS=3', 'Web Attack=1']\n",
        "[run.alert-severity]\nDoS = 3\n\"Web Attack\" = 1\n",
    ] {
        let text = shown_with(file, &["run"]);
        assert!(text.contains(r#"alert-severity = ["DoS=3", "Web Attack=1"]"#), "{file}{text}");
    }
    assert!(problems("alert-severity = { DoS = 9 }").contains("1: alert-severity: "));
}

#[test]
fn every_mistake_is_named_with_its_line_and_what_was_meant() {
    for (file, expected) in [
        ("max-flows = 4096", "1: max-flows cannot stand before all sections; move it to [run]"),
        ("[run]\nmax-flow = 4096", "2: there is no option max-flow; did you mean max-flows?"),
        ("[rum]\nmax-flows = 4096", "1: there is no section [rum]; did you mean [run]?"),
        ("[serve]\n\nblock = true", "3: block cannot stand in [serve]; move it to [run]"),
        ("[run]\nmax-flows = 12", "2: max-flows: 12 is not in 1024..=16777216"),
        ("[run]\nmax-flows = true", "2: max-flows must be a number, without quotes, not boolean"),
        ("[run]\nblock = 'true'", "2: block must be true or false, without quotes, not string"),
        ("[run]\nattach = 'hots'", "2: attach: must be one of auto, host, mirror; did you mean host?"),
        ("[run]\nlisten = ['a', 'b']", "2: listen must be a text in quotes, not array"),
        ("[run]\ninterface = [true]", "2: interface must be a list of texts in quotes, not boolean"),
        ("[run]\nblock-ttl = '10'", "10m"),
        ("[run]\npin = true\npin = false", "3: no TOML: duplicate key"),
        ("[run]\nmax_flows = 4096\nmax-flows = 4096", "3: max-flows is already set in line 2"),
        ("[run\npin = true", "1: no TOML: "),
        (
            "mlflow-password = 'hunter2'",
            "1: mlflow-password is a secret and does not belong in this file; set the variable MLFLOW_TRACKING_PASSWORD",
        ),
        (
            "[run]\nsink = ['nats://u:hunter2@h']",
            "2: sink holds a login, which does not belong in this file; set the variable ML_IDS_SINKS",
        ),
        ("[run]\nsink = ['stdout', 'syslog://hunter2.example']", "2: sink: there is no sink for syslog://"),
        ("mlflow-tracking-uri = 'https://u:hunter2@h'", "holds a login"),
        ("[config]\n", "1: [config]: this command takes nothing from the file"),
        ("[run]\ndry-run = true", "2: there is no option dry-run"),
        ("[serve]\nlog-format = 'json'", "2: log-format cannot stand in [serve]; move it to before all sections"),
        ("[extract]\nPCAP = 'x'", "2: there is no option PCAP"),
        ("[run]\nlisten = { a = 1 }", "2: listen is no table; write listen = VALUE"),
        ("zzz = 1", "`ml-ids config example`"),
    ] {
        let found = problems(file);
        assert!(found.contains(expected), "{file:?}: {found}");
        assert!(!found.contains("hunter2"), "{found}");
    }
    // All of them, in order.
    let all = problems("[run]\nmax-flow = 1\npin = 1\n[rum]\nx = 1\n");
    assert_eq!(all.lines().map(|line| &line[..2]).collect::<Vec<_>>(), ["2:", "3:", "4:"], "{all}");
}

#[test]
fn an_address_that_is_refused_is_not_shown() {
    let root = program();
    let mut refused = BTreeSet::new();
    for (path, _, long, arg) in every_option(&root).into_iter().filter(|(_, _, _, arg)| is_address(arg)) {
        let section = if path.is_empty() { String::new() } else { format!("[{}]\n", path.join(".")) };
        for wrong in ["webhook+https://host/hunter2", "https://a b/hunter2", "mlflow:hunter2@@", "ftp:hunter2"] {
            let value = if is_list(arg) { format!("[{wrong:?}]") } else { format!("{wrong:?}") };
            // What the parser lets pass is looked at later, where it is not shown either.
            if let Err(problems) = Settings::parse(&format!("{section}{long} = {value}\n"), &root) {
                let told: String = problems.iter().map(ToString::to_string).collect();
                assert!(!told.contains("hunter2") && told.contains(&format!("{long}: ")), "{told}");
                refused.insert(long);
            }
        }
    }
    let all = ["mlflow-tracking-uri", "model", "s3-endpoint", "shadow", "url"];
    for long in all {
        assert!(refused.contains(long), "{long}: {refused:?}");
    }
    assert!(!problems("[run]\nlinger = 'https://host/hunter2'").contains("hunter2"));
}

#[test]
fn nothing_secret_is_shown() {
    let line = [
        "run",
        "--mlflow-token",
        "hunter2",
        "--sink",
        "https://h/hunter2",
        "--mlflow-tracking-uri",
        "https://a:hunter2@h",
    ];
    let text = shown(&with_file("", &line).unwrap(), true);
    assert!(!text.contains("hunter2"), "{text}");
    assert!(
        text.contains("# mlflow-token is set (flag) and not shown") && text.contains("# sink is set (flag)"),
        "{text}"
    );
    assert!(Settings::parse(&text, &program()).is_ok(), "{text}");
}

#[test]
fn the_example_names_every_option_and_all_of_it_holds_when_its_defaults_are_set() {
    let root = program();
    let text = example(&root);
    for (_, _, long, _) in every_option(&root) {
        assert!(text.contains(&format!("\n#{long} = ")), "{long} is missing");
    }
    assert!(!text.lines().any(|line| line.starts_with("# [")), "looks like a section");
    assert!(!text.contains("password =") && !text.contains("token ="), "secrets do not belong there");
    let all = commands(&root);
    let has_default = |line: &str| {
        let long = line.trim_start_matches('#').split(" = ").next().unwrap_or_default();
        let args = all.iter().filter_map(|(_, command)| super::catalogue::option(command, long));
        args.into_iter().all(|arg| !arg.get_default_values().is_empty() || kind(arg) == Kind::Switch)
    };
    let settings =
        text.lines().filter(|line| line.starts_with('[') || (line.starts_with('#') && !line.starts_with("# ")));
    let settings = settings.filter(|line| line.contains(" = ") || line.starts_with('['));
    let set: Vec<&str> = settings
        .filter(|line| line.starts_with('[') || has_default(line))
        .map(|line| line.trim_start_matches('#'))
        .collect();
    assert!(set.len() > 50, "{set:?}");
    // Each of two that exclude each other is off.
    let set = set.join("\n");
    if let Err(problems) = Settings::parse(&set, &root) {
        panic!("{problems:?}\n{set}");
    }
    assert!(is_shared(&all, "token-file") && is_shared(&all, "bpffs") && !is_shared(&all, "format"));
    assert!(is_shared(&all, "model") && is_shared(&all, "log-format") && !is_shared(&all, "max-flows"));
}

#[test]
fn a_file_that_is_named_must_be_there_and_the_usual_one_need_not() {
    let missing = PathBuf::from("/nonexistent/ml-ids.toml");
    assert_eq!(locate_from(None, &missing), None);
    assert_eq!(locate_from(Some(&missing), &missing), Some(missing.clone()));
    let error = read_settings(&missing, &program()).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/ml-ids.toml") && error.contains("--config"), "{error}");
    let usual = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(locate_from(None, usual.path()), Some(usual.path().to_owned()));
    let error = read_settings(&PathBuf::from("/dev/zero"), &program()).unwrap_err().to_string();
    assert!(error.contains("larger than"), "{error}");
}
