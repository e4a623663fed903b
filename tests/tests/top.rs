//! `ml-ids top` in a real terminal (tmux) against a real agent: what it shows, its keys, other sizes, an agent that goes away
//! and comes back, and a terminal that is as before however it ends.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    agent::ml_ids,
    binary,
    lab::{CLIENT_V4, Lab, SERVER_V4, Side, wait_until},
    sensor,
};

/// Longest wait for something to be on the screen.
const LIMIT: Duration = Duration::from_secs(30);

/// A shell in a terminal in the server's namespace; gone when dropped.
struct Screen<'a> {
    lab: &'a mut Lab,
    socket: String,
}

impl<'a> Screen<'a> {
    fn open(lab: &'a mut Lab) -> Result<Self> {
        let socket = lab.directory().join("tmux").to_string_lossy().into_owned();
        let screen = Self { lab, socket };
        screen.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "30", "env", "PS1=ready> ", "sh"])?;
        screen.wait_for("ready>")?;
        Ok(screen)
    }

    fn tmux(&self, arguments: &[&str]) -> Result<String> {
        let argv = [&["tmux", "-u", "-S", &self.socket], arguments].concat();
        self.lab.succeed(Side::Server, &argv).context("tmux; `cargo xtask setup --tests` installs it")
    }

    fn text(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p"])
    }

    fn press(&self, key: &str) -> Result<()> {
        self.tmux(&["send-keys", key]).map(drop)
    }

    /// Types a line.
    fn enter(&self, line: &str) -> Result<()> {
        self.tmux(&["send-keys", "-l", line])?;
        self.press("Enter")
    }

    fn resize(&self, width: &str, height: &str) -> Result<()> {
        self.tmux(&["resize-window", "-x", width, "-y", height]).map(drop)
    }

    fn wait_until(&self, what: &str, holds: impl Fn(&str) -> bool) -> Result<String> {
        let mut text = String::new();
        wait_until(LIMIT, || {
            text = self.text().unwrap_or_default();
            holds(&text)
        })
        .with_context(|| format!("not on the screen: {what}\n{text}"))?;
        Ok(text)
    }

    fn wait_for(&self, words: &str) -> Result<String> {
        self.wait_until(words, |text| text.contains(words))
    }

    /// Runs it on a clean screen; it says how it ended, in other words than were typed.
    fn top(&self, before: &str, arguments: &str) -> Result<()> {
        let program = binary()?.to_string_lossy().into_owned();
        self.enter("clear")?;
        self.enter(&format!("{before} {program} top {arguments}; echo en''ded $?"))
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.tmux(&["kill-server"]).is_err();
    }
}

#[test]
fn without_a_terminal_it_says_what_else_there_is() -> Result<()> {
    let ended = ml_ids(&["top"], b"")?.expect(2)?;
    ensure!(ended.stderr.contains("needs a terminal") && ended.stderr.contains("alerts list"), "{}", ended.stderr);
    Ok(())
}

#[test]
fn without_an_agent_it_says_what_to_do_and_leaves_the_screen_alone() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    let screen = Screen::open(&mut lab)?;
    screen.top("", "")?;
    let text = screen.wait_for("ended 1")?;
    ensure!(text.contains("no agent answers at http://127.0.0.1:8000") && text.contains("ml-ids run"), "{text}");
    screen.top("", "--url localhost:8000")?;
    let text = screen.wait_for("ended 2")?;
    ensure!(text.contains("http://127.0.0.1:8000"), "{text}");
    Ok(())
}

#[test]
fn it_shows_a_live_agent_obeys_keys_follows_sizes_and_outlives_the_agent() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    sensor::start(&mut lab, &[])?;
    lab.start(Side::Client, "ping", &["ping", "-q", "-i", "0.2", SERVER_V4], &[])?;
    lab.start(Side::Server, "iperf", &["iperf3", "-s"], &[])?;
    wait_until(LIMIT, || lab.succeed(Side::Server, &["ss", "-Htln"]).is_ok_and(|table| table.contains(":5201")))?;
    lab.start(Side::Client, "load", &["iperf3", "-c", SERVER_V4, "-b", "1M", "-t", "600"], &[])?;
    let screen = Screen::open(&mut lab)?;
    screen.top("", "--interval 500ms")?;
    let text = screen.wait_for(&format!("{SERVER_V4}:5201"))?;
    for words in
        ["ml-ids http://127.0.0.1:8000", "on srv0", "open flows by packets", CLIENT_V4, "alert verdicts", "q quit"]
    {
        ensure!(text.contains(words), "{words}\n{text}");
    }
    let text = screen.wait_until("a curve", |text| text.contains('█') && text.contains("packets/s, last"))?;
    ensure!(!text.contains("waiting for the first answer"), "{text}");

    screen.press("s")?;
    screen.wait_for("open flows by payload ")?;
    screen.press("?")?;
    screen.wait_for("keys, Esc closes")?;
    screen.press("Escape")?;
    screen.wait_until("no help", |text| !text.contains("keys, Esc closes"))?;
    screen.press("p")?;
    screen.wait_for("standing still")?;
    screen.press("p")?;
    screen.wait_until("going on", |text| !text.contains("standing still"))?;

    screen.resize("60", "16")?;
    let small = |text: &str| {
        let lines: Vec<&str> = text.lines().collect();
        lines.len() <= 16
            && !text.contains("packets/s, last")
            && lines.last().is_some_and(|last| last.contains("q quit"))
    };
    let text = screen.wait_until("the keys in the last line of a small screen", small)?;
    ensure!(text.contains("open flows") && text.lines().all(|line| line.chars().count() <= 60), "{text}");
    screen.resize("30", "10")?;
    screen.wait_for("make the terminal larger")?;
    screen.resize("120", "40")?;
    let wide = |text: &str| {
        let last = text.lines().last().unwrap_or_default();
        text.contains("quiet")
            && text.contains("packets/s, last")
            && last.contains("q quit")
            && text.lines().count() == 40
    };
    screen.wait_until("the keys in the last line of a large screen", wide)?;

    screen.lab.stop("sensor", libc::SIGINT)?;
    let text = screen.wait_for("AWAY")?;
    ensure!(text.contains("no agent answers") && text.contains(":5201"), "{text}");
    sensor::start(screen.lab, &[])?;
    screen.wait_until("the agent is back", |text| !text.contains("AWAY") && text.contains("open flows"))?;

    screen.press("q")?;
    let text = screen.wait_for("ended 0")?;
    ensure!(!text.contains("open flows"), "the screen is not as before:\n{text}");
    sensor::stop(screen.lab, libc::SIGINT)
}

/// Colours among the escape sequences of a screen.
fn colours(text: &str) -> usize {
    let sequences = text.split("\u{1b}[").skip(1).filter_map(|rest| rest.split_once('m'));
    let codes = sequences.flat_map(|(codes, _)| codes.split(';').filter_map(|code| code.parse::<u8>().ok()));
    codes.filter(|code| matches!(code, 30..=38 | 40..=48 | 90..=107)).count()
}

#[test]
fn a_signal_leaves_the_terminal_as_it_was_and_no_color_is_honoured() -> Result<()> {
    let Some(mut lab) = Lab::build()? else { return Ok(()) };
    sensor::start(&mut lab, &[])?;
    let pid_file: PathBuf = lab.directory().join("pid");
    let screen = Screen::open(&mut lab)?;
    for (color, signal) in [("", libc::SIGTERM), ("1", libc::SIGHUP)] {
        let own = "sh -c 'echo $$ > \"$0\"; exec \"$@\"'";
        screen.top(&format!("NO_COLOR={color} {own} {}", pid_file.display()), "")?;
        screen.wait_until("all of it", |text| text.contains("on srv0") && text.contains("q quit"))?;
        let coloured = colours(&screen.tmux(&["capture-pane", "-p", "-e"])?);
        ensure!((coloured > 0) == color.is_empty(), "{coloured} colours with NO_COLOR={color}");
        let pid: libc::pid_t = fs::read_to_string(&pid_file)?.trim().parse()?;
        // SAFETY: no preconditions; the process is on the screen, so the number is still its own.
        ensure!(unsafe { libc::kill(pid, signal) } == 0, "it is gone");
        screen.wait_for("ended 0")?;
        screen.enter("stty -a")?;
        screen.wait_until("an ordinary terminal", |text| {
            let words: Vec<&str> = text.split([' ', '\n', ';']).collect();
            ["icanon", "echo", "isig"].iter().all(|word| words.contains(word))
        })?;
    }
    sensor::stop(screen.lab, libc::SIGINT)
}
