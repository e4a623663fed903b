//! A terminal that nobody sits at: tmux, with a plain shell in it. As root it has a network of its own, where every port is
//! free and nobody else is.

use std::{
    env, fs,
    path::Path,
    process::{self as system, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{process, workspace};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// A terminal with a shell. Dropping it ends what runs in it.
pub(super) struct Terminal {
    socket: String,
}

impl Terminal {
    /// Opens one of so many columns and rows, in a folder.
    pub(super) fn open(folder: &Path, name: &str, (columns, rows): (u16, u16)) -> Result<Self> {
        let terminal = Self { socket: format!("ml-ids-{name}-{}", system::id()) };
        let here = workspace::agent("debug").parent().map(Path::to_owned).unwrap_or_default();
        let path =
            env::join_paths([here].into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())))?;
        let shell = "exec bash --norc --noprofile";
        let alone = format!("ip link set lo up && {shell}");
        let shell =
            if process::is_root() { vec!["unshare", "--net", "sh", "-c", &alone] } else { vec!["sh", "-c", shell] };
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let mut command = terminal.tmux();
        command.args(["-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &rows]).args(shell);
        command
            .env_clear()
            .env("PATH", path)
            .env("HOME", folder)
            .env("PS1", "$ ")
            .env("LANG", "C.UTF-8")
            .env("TERM", "xterm-256color");
        command.current_dir(folder);
        let output = command.output().context("cannot start tmux")?;
        ensure!(output.status.success(), "tmux: {}", String::from_utf8_lossy(&output.stderr));
        terminal.wait_for("$", Duration::from_secs(20))?;
        Ok(terminal)
    }

    /// Types a line.
    pub(super) fn enter(&self, line: &str) -> Result<()> {
        self.ask(&["send-keys", "-l", line])?;
        self.ask(&["send-keys", "Enter"]).map(drop)
    }

    /// What it shows, with its colours.
    pub(super) fn screen(&self) -> Result<String> {
        self.ask(&["capture-pane", "-p", "-e"])
    }

    /// Waits until it shows this text; a `$` at its end is the prompt.
    pub(super) fn wait_for(&self, text: &str, patience: Duration) -> Result<()> {
        let begun = Instant::now();
        loop {
            let shown = self.ask(&["capture-pane", "-p"])?;
            let at_prompt = text == "$ $" && shown.matches("\n$").count() + usize::from(shown.starts_with('$')) >= 2;
            if shown.contains(text) || at_prompt {
                return Ok(());
            }
            ensure!(begun.elapsed() < patience, "{text:?} does not come:\n{shown}");
            thread::sleep(LOOK);
        }
    }

    /// Waits until a file that the shell writes holds this text. Returns the file.
    pub(super) fn wait_for_file<'a>(&self, file: &'a Path, text: &str, patience: Duration) -> Result<&'a Path> {
        let begun = Instant::now();
        while !fs::read_to_string(file).is_ok_and(|found| found.contains(text)) {
            if begun.elapsed() > patience {
                bail!("{text:?} does not come into {}:\n{}", file.display(), self.ask(&["capture-pane", "-p"])?);
            }
            thread::sleep(LOOK);
        }
        Ok(file)
    }

    fn tmux(&self) -> Command {
        let mut command = Command::new("tmux");
        command.args(["-L", &self.socket]);
        command
    }

    fn ask(&self, arguments: &[&str]) -> Result<String> {
        let output = self.tmux().args(arguments).output().context("cannot start tmux")?;
        ensure!(output.status.success(), "tmux {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Ends its shell, and what runs in it by the hangup.
        let _ = self.ask(&["send-keys", "C-c"]);
        if let Err(error) = self.ask(&["kill-server"]) {
            eprintln!("the terminal stays: {error:#}");
        }
    }
}
