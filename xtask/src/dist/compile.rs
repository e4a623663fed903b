//! The release build that goes into packages: the same bytes from the same commit with the same compilers, in whatever folder
//! and for whatever user it is built.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

use super::{
    target::Target,
    tools::{self, output},
};
use crate::{process, workspace};

/// The build profile of the root's Cargo.toml.
pub(super) const PROFILE: &str = "dist";

/// A checkout and where it is built.
#[derive(Clone, Debug)]
pub(super) struct Checkout {
    /// The repository's root.
    pub(super) root: PathBuf,
    /// Build output.
    pub(super) target_dir: PathBuf,
    /// When the sources are from, in Unix seconds: everything packaged is as old.
    pub(super) epoch: u64,
}

impl Checkout {
    /// This one.
    pub(super) fn here() -> anyhow::Result<Self> {
        let root = workspace::root();
        let epoch = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(given) => given.parse().context("SOURCE_DATE_EPOCH is not a number of seconds")?,
            Err(_) => commit_time(&root)?,
        };
        // Of its own: what an ordinary build has left would be taken for fresh, and knows this folder's name.
        Ok(Self { root, target_dir: workspace::target().join("xtask/dist"), epoch })
    }

    /// Where cargo puts the program.
    pub(super) fn output(&self, target: Target) -> PathBuf {
        self.target_dir.join(target.triple()).join(PROFILE)
    }

    /// Builds the agent. The dependencies are listed in the program itself, for scanners.
    pub(super) fn compile(&self, target: Target) -> anyhow::Result<PathBuf> {
        let mut command = process::cargo(["auditable", "build", "--locked", "--package", "ml-ids"]);
        command.args(["--profile", PROFILE, "--target", target.triple()]);
        self.settle(&mut command)?;
        command.env("RUSTC_WRAPPER", self.wrapper()?);
        for (from, to) in self.renamed()? {
            append(&mut command, "CFLAGS", &format!("-ffile-prefix-map={}={to}", from.display()));
        }
        target.choose_compiler(&mut command);
        process::visible(&mut command)?;
        let program = self.output(target).join("ml-ids");
        let needed =
            newest_c_library(&fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?);
        if needed > C_LIBRARY {
            let ((major, minor), (at, most)) = (needed, C_LIBRARY);
            bail!("the program needs glibc {major}.{minor}, and packages promise {at}.{most}: build on Debian 12");
        }
        Ok(program)
    }

    /// Takes a program that was built otherwise, without what debuggers read.
    pub(super) fn take(&self, target: Target, program: &Path) -> anyhow::Result<PathBuf> {
        let folder = self.output(target);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let taken = folder.join("ml-ids");
        process::visible(std::process::Command::new(target.strip()).arg("-o").arg(&taken).arg(program))?;
        Ok(taken)
    }

    /// Lets a command of cargo's work in this checkout, and see nothing of the caller's that would change the result.
    pub(super) fn settle(&self, command: &mut std::process::Command) -> anyhow::Result<()> {
        command
            .current_dir(&self.root)
            .env("PATH", tools::path()?)
            .env("CARGO_TARGET_DIR", &self.target_dir)
            .env("CARGO_INCREMENTAL", "0")
            .env("SOURCE_DATE_EPOCH", self.epoch.to_string())
            // The kernel programs' build folder is one a checkout and knows what ordinary builds have left.
            .env("ML_IDS_CACHE", self.target_dir.join("cache"));
        for variable in
            ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CFLAGS", "XZ_DEFAULTS", "XZ_OPT"]
        {
            command.env_remove(variable);
        }
        Ok(())
    }

    /// A compiler that renames folders. Not RUSTFLAGS: they are part of what symbols are named after, and the build of the
    /// kernel programs sets its own.
    fn wrapper(&self) -> anyhow::Result<PathBuf> {
        let mut script = "#!/bin/sh\nexec \"$@\"".to_owned();
        for (from, to) in self.renamed()? {
            script += &format!(" '--remap-path-prefix={}={to}'", from.display());
        }
        script.push('\n');
        fs::create_dir_all(&self.target_dir).with_context(|| format!("cannot make {}", self.target_dir.display()))?;
        let file = self.target_dir.join("rustc");
        // Another time of the same compiler would be another compiler to cargo, and everything built anew.
        if fs::read(&file).is_ok_and(|there| there == script.as_bytes()) {
            return Ok(file);
        }
        fs::write(&file, script)
            .and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }

    /// Folders whose names end up in programs, and what they are called there. Of two that match, compilers take the later.
    fn renamed(&self) -> anyhow::Result<[(PathBuf, &'static str); 4]> {
        let cargo = match std::env::var_os("CARGO_HOME") {
            Some(home) => PathBuf::from(home),
            None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cargo"),
        };
        let sysroot = String::from_utf8(output(std::process::Command::new("rustc").args(["--print", "sysroot"]))?)?;
        Ok([
            (PathBuf::from(sysroot.trim()), "/rust"),
            (cargo, "/cargo"),
            (self.root.clone(), "/ml-ids"),
            (self.target_dir.clone(), "/build"),
        ])
    }
}

/// Adds to a variable that holds words.
fn append(command: &mut std::process::Command, name: &str, word: &str) {
    let before = command
        .get_envs()
        .find(|(set, _)| *set == name)
        .and_then(|(_, value)| value)
        .map(|value| value.to_string_lossy().into_owned());
    command.env(name, before.map_or_else(|| word.to_owned(), |before| format!("{before} {word}")));
}

/// When the checked out commit was made.
fn commit_time(root: &Path) -> anyhow::Result<u64> {
    let mut git = std::process::Command::new("git");
    let time = process::stdout(git.current_dir(root).args(["log", "-1", "--format=%ct"]));
    time.and_then(|time| time.trim().parse().ok())
        .context("cannot tell when the sources are from: this is no git checkout; set SOURCE_DATE_EPOCH")
}

/// The C library of Debian 12, which packages promise to be content with (`depends` in ml-ids/Cargo.toml).
pub(super) const C_LIBRARY: (u32, u32) = (2, 36);

/// The newest version of glibc's symbols that a program names.
fn newest_c_library(program: &[u8]) -> (u32, u32) {
    const MARK: &[u8] = b"GLIBC_";
    let mut newest = (0, 0);
    for at in 0..program.len().saturating_sub(MARK.len()) {
        if !program[at..].starts_with(MARK) {
            continue;
        }
        let rest = &program[at + MARK.len()..];
        let end = rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.').unwrap_or(rest.len());
        let version = String::from_utf8_lossy(&rest[..end]);
        let mut parts = version.split('.').map_while(|part| part.parse().ok());
        newest = newest.max((parts.next().unwrap_or(0), parts.next().unwrap_or(0)));
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_c_library_is_read_off_the_symbols_versions() {
        assert_eq!(newest_c_library(b"\0GLIBC_2.4\0GLIBC_2.34\0GLIBC_2.2.5\0GLIBC_PRIVATE\0"), (2, 34));
        assert_eq!(newest_c_library(b"no such thing"), (0, 0));
    }

    #[test]
    fn words_are_added_to_a_variable() {
        let mut command = std::process::Command::new("true");
        append(&mut command, "CFLAGS", "-a");
        append(&mut command, "CFLAGS", "-b");
        let (_, value) = command.get_envs().next().unwrap();
        assert_eq!(value.unwrap(), "-a -b");
    }

    #[test]
    fn the_packages_promise_matches_what_is_checked() {
        let manifest = fs::read_to_string(workspace::root().join("ml-ids/Cargo.toml")).unwrap();
        let (major, minor) = C_LIBRARY;
        assert!(manifest.contains(&format!("libc6 (>= {major}.{minor})")));
    }
}
