//! Starting other programs.

use std::{
    env,
    fs::{self, File},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, bail};

use crate::workspace;

/// `cargo` in the repository's root, as if it was started by hand. What `cargo xtask` knows of its own package stays behind: a
/// build script that is run again when that changes (ring's) would have half of the agent compiled each time anew.
pub(crate) fn cargo<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(workspace::root());
    for (name, _) in env::vars_os() {
        let own =
            name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
        if own {
            command.env_remove(name);
        }
    }
    command
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let mut line = String::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            line += &format!("{}={} ", name.display(), value.display());
        }
    }
    line += &command.get_program().to_string_lossy();
    for argument in command.get_args() {
        let argument = argument.to_string_lossy();
        let quote = if argument.is_empty() || argument.contains([' ', '*', '$']) { "'" } else { "" };
        line += &format!(" {quote}{argument}{quote}");
    }
    line
}

/// Runs a command in view of the user.
pub(crate) fn visible(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", shown(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", shown(command));
    }
    Ok(())
}

/// Runs a command in view of the user, and once more if it fails: networks time out.
pub(crate) fn twice(command: &mut Command) -> anyhow::Result<()> {
    if let Err(error) = visible(command) {
        eprintln!("{error:#}; trying once more");
        visible(command)?;
    }
    Ok(())
}

/// Standard output of a command that succeeds; `None` when it fails or does not exist.
pub(crate) fn stdout(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command with both of its outputs going to one file, in the order in which they were written.
pub(crate) fn logged(command: &mut Command, log: &File) -> anyhow::Result<ExitStatus> {
    let copy = || log.try_clone().context("cannot share the log");
    command
        .stdin(Stdio::null())
        .stdout(copy()?)
        .stderr(copy()?)
        .status()
        .with_context(|| format!("cannot start {}", shown(command)))
}

/// The first executable of that name on PATH, or where administrators' programs are.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// Whether this process runs as root.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|data| data.uid() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_typed() {
        let mut command = Command::new("cargo");
        command.env("A", "b").args(["test", "a b", ""]);
        assert_eq!(shown(&command), "A=b cargo test 'a b' ''");
    }

    #[test]
    fn programs_are_found_by_name_and_missing_ones_are_not() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program-here"), None);
    }

    #[test]
    fn a_failing_command_has_no_output() {
        assert_eq!(stdout(Command::new("sh").args(["-c", "echo said; exit 0"])).as_deref(), Some("said\n"));
        assert_eq!(stdout(Command::new("sh").args(["-c", "echo said; exit 1"])), None);
    }
}
