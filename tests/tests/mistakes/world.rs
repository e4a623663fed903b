//! Where mistakes are made: the server's end of a laboratory, a folder with what is to be misused, and a shell.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    binary, default_model, fixture,
    lab::{Lab, Side, wait_until},
    onnx,
    registry::{MLFLOW, S3, Tools},
};

use super::{Ends, Mistake, Needs};

/// Longest wait for what takes a second on an idle machine.
const LIMIT: Duration = Duration::from_secs(60);

/// What the folder is called in commands and in the document.
const FOLDER: &str = "/srv/ids";

pub(crate) struct World {
    lab: Lab,
    tools: Option<Tools>,
    /// Whether the registry has been started.
    registry: bool,
    /// Sets up the shell.
    prelude: String,
}

impl World {
    /// `None`, said loudly, without root.
    ///
    /// # Errors
    /// When a command fails that should not.
    pub(crate) fn build() -> Result<Option<Self>> {
        let Some(lab) = Lab::build()? else { return Ok(None) };
        let folder = lab.directory();
        let binary = binary()?;
        // Where others than root can run it, too.
        let bin = folder.join("bin");
        fs::create_dir(&bin)?;
        fs::copy(&binary, bin.join("ml-ids"))?;
        for name in ["tcp_basic.pcap", "random.pcap"] {
            fs::copy(fixture("handmade").join(name), folder.join(name))?;
        }
        let model = fs::read(default_model())?;
        fs::write(folder.join("renamed.onnx"), onnx::with_metadata(&model, "ml_ids.contract", "9")?)?;
        let (bin, folder) = (bin.display(), folder.display());
        let prelude = format!(
            "cd {folder} || exit 99; export PATH={bin}:$PATH HOME={folder} TERM=dumb LC_ALL=C; umask 022; \
             for name in $(env | grep -oE '^(ML_IDS|MLFLOW|AWS|CIC|LOG|RUST)_[A-Z0-9_]*'); do \
             [ $name = ML_IDS_STATE_DIR ] || unset $name; done; chmod 755 .\n"
        );
        Ok(Some(Self { lab, tools: Tools::find()?, registry: false, prelude }))
    }

    /// Makes a mistake. Returns what was printed, with what differs between machines replaced; `None` if it cannot be made
    /// here, which has been said.
    ///
    /// # Errors
    /// When it ends otherwise than it should.
    pub(crate) fn make(&mut self, mistake: &Mistake) -> Result<Option<String>> {
        let Mistake { needs, setup, beside, command, ends, .. } = mistake;
        if *needs == Needs::Registry && !self.start_registry()? {
            return Ok(None);
        }
        let state = self.lab.directory().join("state");
        if state.exists() {
            fs::remove_dir_all(&state)?;
        }
        self.shell(setup).and_then(|(code, text)| {
            ensure!(code == Some(0), "the preparation ends with {code:?}: {text}");
            Ok(())
        })?;
        if !beside.is_empty() {
            let script = self.script(beside);
            self.lab.start_group(Side::Server, "beside", &["bash", "-c", &script], &[])?;
            // Any answer will do: with tokens it is 401.
            let here = ["curl", "-sk", "--max-time", "5", "-o", "/dev/null", "127.0.0.1:8000/health/ready", "-f"];
            wait_until(LIMIT, || self.lab.succeed(Side::Server, &here).is_ok())
                .with_context(|| format!("what should run beside does not:\n{}", self.lab.log("beside")))?;
        }
        let made = match ends {
            Ends::With(code) => self.shell(command).and_then(|(found, text)| {
                ensure!(found == Some(*code), "ended with {found:?} instead of {code}: {text}");
                Ok(text)
            }),
            Ends::Never(sign) => self.watched(command, sign),
        };
        if !beside.is_empty() {
            self.lab.kill("beside")?;
        }
        made.map(|text| Some(normal(&text, self.lab.directory())))
    }

    /// Runs a command to its end. Returns its exit code, and output and errors together.
    fn shell(&self, command: &str) -> Result<(Option<i32>, String)> {
        let script = self.script(&format!("exec 2>&1\n{command}"));
        let output = self.lab.output(Side::Server, &["timeout", "60", "bash", "-c", &script])?;
        let text = [&output.stdout[..], &output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&text).into_owned()))
    }

    /// Runs a command until it has printed `sign`. Returns its warnings and errors.
    fn watched(&mut self, command: &str, sign: &str) -> Result<String> {
        let script = self.script(&format!("exec {command}"));
        self.lab.start(Side::Server, "made", &["bash", "-c", &script], &[])?;
        let seen = wait_until(LIMIT, || self.lab.log("made").contains(sign))
            .with_context(|| format!("{sign:?} was not printed:\n{}", self.lab.log("made")));
        let stopped = self.lab.stop("made", libc::SIGINT);
        seen?;
        stopped?;
        let log = self.lab.log("made");
        let grave = log.lines().filter(|line| [" WARN ", " ERROR "].iter().any(|level| line.contains(level)));
        // Up to the sign; what comes with the end is not of the mistake.
        let mut shown = String::new();
        for line in grave {
            shown += &format!("{line}\n");
            if line.contains(sign) {
                break;
            }
        }
        Ok(shown)
    }

    fn script(&self, command: &str) -> String {
        let here = self.lab.directory().to_string_lossy();
        format!("{}{}", self.prelude, command.replace(FOLDER, &here))
    }

    fn start_registry(&mut self) -> Result<bool> {
        let Some(tools) = &self.tools else { return Ok(false) };
        if !self.registry {
            let artefacts = self.lab.directory().join("artefacts").to_string_lossy().into_owned();
            tools.start_mlflow(&mut self.lab, &["--serve-artifacts", "--artifacts-destination", &artefacts], &[])?;
            tools.start_s3(&mut self.lab)?;
            let model = default_model().to_string_lossy().into_owned();
            tools.registry(&self.lab, &["register", &model, "ids", "production"], &[])?;
            self.registry = true;
            ensure!(MLFLOW.ends_with(":5000") && S3.ends_with(":9000"), "the table names other ports");
        }
        Ok(true)
    }
}

/// Without what differs from machine to machine and from run to run.
fn normal(text: &str, folder: &Path) -> String {
    let text = text.replace(&*folder.to_string_lossy(), FOLDER);
    let text = between(&text, "there are: ", "; ", "lo, eth0");
    let text = between(&text, ".corrupt-", ",", "TIME");
    let text = between(&text, "SHA-256 is ", ",", "SHA256");
    let told = text.lines().filter(|line| !line.contains(" INFO "));
    let lines = told.map(|line| {
        let line = line.trim_end_matches('\r').trim_end();
        number_after(&without_speed(&without_time(line)), "process ", "PID") + "\n"
    });
    lines.collect()
}

/// Replaces what stands between two marks.
fn between(text: &str, from: &str, to: &str, stand_in: &str) -> String {
    let (mut whole, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once(from) {
        whole += before;
        whole += from;
        rest = after;
        if let Some((_, end)) = after.split_once(to) {
            whole += stand_in;
            rest = &after[after.len() - end.len() - to.len()..];
        }
    }
    whole + rest
}

/// `[2026-11-27T08:00:00Z WARN  ml_ids::sink] text` without its time.
fn without_time(line: &str) -> String {
    match line.strip_prefix('[').and_then(|rest| rest.split_once("Z ")) {
        Some((time, rest)) if time.len() == 19 && time.starts_with("20") => format!("[TIME {rest}"),
        _ => line.to_owned(),
    }
}

/// The end of a summary without how long it took.
fn without_speed(line: &str) -> String {
    match line.rsplit_once("; ") {
        Some((what, time)) if time.ends_with("flows/s") || time.ends_with("rows/s") => format!("{what}; TIME"),
        _ => line.to_owned(),
    }
}

/// Replaces the digits that stand behind `mark`.
fn number_after(line: &str, mark: &str, stand_in: &str) -> String {
    let mut pieces = line.split(mark);
    let mut whole = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let rest = piece.trim_start_matches(|c: char| c.is_ascii_digit());
        let number = if rest.len() < piece.len() { stand_in } else { "" };
        whole += &[mark, number, rest].concat();
    }
    whole
}
