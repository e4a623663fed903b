//! Offline commands on a terminal: a bar while they work, which garbles no line, and none where nobody looks or wants it.

use std::{fmt::Write as _, process::Command};

use anyhow::{Result, ensure};
use ml_ids_tests::{
    agent::{Ended, LIMIT, Scratch, ml_ids, run},
    binary, fixture,
};

/// What bars are made of.
const BAR: [char; 2] = ['█', '░'];

/// Runs `ml-ids` on a pseudo terminal. Returns what it shows.
fn on_a_terminal(arguments: &[&str], environment: &[(&str, &str)]) -> Result<String> {
    let quoted =
        arguments.iter().fold(binary()?.display().to_string(), |line, argument| format!("{line} '{argument}'"));
    let mut script = Command::new("script");
    script.args(["-qec", &format!("stty cols 100; {quoted}"), "/dev/null"]);
    script.env("TERM", "xterm").env_remove("NO_PROGRESS").envs(environment.iter().copied());
    let Ended { stdout, .. } = run(&mut script, b"", LIMIT)?;
    Ok(String::from_utf8(stdout)?)
}

/// The lines that stay on the screen: what was drawn over is gone.
fn lines(shown: &str) -> Vec<String> {
    let kept = |line: &str| {
        let line = line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
        line.replace("\x1b[2K", "").trim_end().to_owned()
    };
    shown.split('\n').map(kept).filter(|line| !line.is_empty() && !line.contains(BAR)).collect()
}

/// A CSV in which every second row is no number.
fn half_bad(scratch: &Scratch) -> Result<String> {
    let capture = fixture("handmade/random.pcap").to_string_lossy().into_owned();
    let flows = ml_ids(&["extract", &capture], b"")?.expect(0)?;
    let mut text = String::new();
    for (number, line) in flows.text()?.lines().enumerate() {
        let end = if number % 2 == 1 && number < 40 { ",x,y" } else { "" };
        writeln!(text, "{line}{end}")?;
    }
    scratch.file("half.csv", text)
}

#[test]
fn a_bar_is_shown_and_every_line_of_the_report_stands_whole_beside_it() -> Result<()> {
    let scratch = Scratch::new("terminal")?;
    let (input, output) = (half_bad(&scratch)?, scratch.path("out.jsonl"));
    let arguments = ["score", input.as_str(), "-o", output.as_str()];
    let shown = on_a_terminal(&arguments, &[])?;
    ensure!(shown.contains(BAR), "there is no bar: {shown:?}");
    let plain = ml_ids(&arguments, b"")?.expect(3)?.stderr;
    ensure!(!plain.contains(BAR), "{plain}");
    // But for the last line of the table, which has the time in it.
    let told = |lines: Vec<String>| lines.into_iter().filter(|line| !line.contains("rows/s")).collect::<Vec<_>>();
    let (seen, plain) = (told(lines(&shown)), told(plain.lines().map(|line| line.trim_end().to_owned()).collect()));
    ensure!(seen == plain && seen.len() > 22, "on a terminal:\n{seen:#?}\nwithout:\n{plain:#?}");
    Ok(())
}

#[test]
fn those_who_want_no_bar_get_none() -> Result<()> {
    let scratch = Scratch::new("no-bar")?;
    let (capture, output) = (fixture("handmade/random.pcap").to_string_lossy().into_owned(), scratch.path("out.csv"));
    let extract = ["extract", capture.as_str(), "-o", output.as_str()];
    ensure!(on_a_terminal(&extract, &[])?.contains(BAR), "there is no bar that could be left out");
    let shown = on_a_terminal(&extract, &[("NO_PROGRESS", "1")])?;
    ensure!(!shown.contains(BAR) && shown.contains("packets"), "{shown:?}");
    for command in [&extract[..], &["score", &capture, "-o", &output]] {
        let shown = on_a_terminal(&[command, &["--quiet"]].concat(), &[])?;
        ensure!(!shown.contains(BAR) && !shown.contains("packets"), "{shown:?}");
    }
    let refused = on_a_terminal(&["extract", &capture, "--format", "parquet"], &[])?;
    ensure!(refused.contains("a terminal cannot show Parquet; name a file with --output"), "{refused:?}");
    Ok(())
}

#[test]
fn a_server_whose_output_is_closed_serves() -> Result<()> {
    let binary = binary()?;
    let script = format!(
        "'{}' serve --listen 127.0.0.1:0 >&- 2>&- & pid=$!; for _ in $(seq 200); do \
         port=$(ss -Hltnp | grep -F pid=$pid, | grep -o '127.0.0.1:[0-9]*' | head -1); \
         [ -n \"$port\" ] && curl -sf \"http://$port/health/live\" && break; sleep 0.05; done; kill $pid; wait $pid",
        binary.display()
    );
    let ended = run(Command::new("bash").args(["-c", &script]), b"", LIMIT)?.expect(0)?;
    ensure!(ended.text()?.contains("alive"), "{:?}", ended.text());
    Ok(())
}
