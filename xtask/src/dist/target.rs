//! The machines that packages are made for, and what building for another one than this takes.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use super::tools;
use crate::process;

/// A machine's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Target {
    /// PCs and servers: amd64 to Debian
    #[value(name = "x86_64", alias = "amd64")]
    X8664,
    /// 64-bit ARM: arm64 to Debian
    #[value(name = "aarch64", alias = "arm64")]
    Aarch64,
}

/// Names of a target.
struct Names {
    short: &'static str,
    triple: &'static str,
    debian: &'static str,
    /// As GNU's cross tools begin.
    gnu: &'static str,
}

const X8664: Names =
    Names { short: "x86_64", triple: "x86_64-unknown-linux-gnu", debian: "amd64", gnu: "x86_64-linux-gnu" };
const AARCH64: Names =
    Names { short: "aarch64", triple: "aarch64-unknown-linux-gnu", debian: "arm64", gnu: "aarch64-linux-gnu" };

impl Target {
    /// That of this machine.
    pub(super) fn native() -> anyhow::Result<Self> {
        match env::consts::ARCH {
            "x86_64" => Ok(Self::X8664),
            "aarch64" => Ok(Self::Aarch64),
            other => bail!("no packages are made for {other}; say which to make with --target"),
        }
    }

    const fn names(self) -> &'static Names {
        match self {
            Self::X8664 => &X8664,
            Self::Aarch64 => &AARCH64,
        }
    }

    /// As file names say it.
    pub(super) const fn name(self) -> &'static str {
        self.names().short
    }

    /// As the compiler says it.
    pub(super) const fn triple(self) -> &'static str {
        self.names().triple
    }

    /// As Debian says it.
    pub(super) const fn debian(self) -> &'static str {
        self.names().debian
    }

    /// Whether it is that of this machine.
    pub(super) fn is_native(self) -> bool {
        env::consts::ARCH == self.name()
    }

    /// Debian's packages with the C compiler of another target.
    pub(super) fn compiler_packages(self) -> Vec<String> {
        let (gnu, debian) = (self.names().gnu.replace('_', "-"), self.debian());
        vec![format!("gcc-{gnu}"), format!("libc6-dev-{debian}-cross")]
    }

    /// The C compiler that its parts in C are built with, and that links it.
    pub(super) fn compiler(self) -> String {
        if self.is_native() { "gcc".to_owned() } else { format!("{}-gcc", self.names().gnu) }
    }

    /// What takes debug information away.
    pub(super) fn strip(self) -> String {
        if self.is_native() { "strip".to_owned() } else { format!("{}-strip", self.names().gnu) }
    }

    /// Tells a cargo build which C compiler to use.
    pub(super) fn choose_compiler(self, command: &mut Command) {
        if self.is_native() {
            return;
        }
        let triple = self.triple().replace('-', "_");
        command.env(format!("CC_{triple}"), self.compiler());
        command.env(format!("AR_{triple}"), format!("{}-ar", self.names().gnu));
        command.env(format!("CARGO_TARGET_{}_LINKER", triple.to_uppercase()), self.compiler());
    }

    /// Starts a program of the target: here, or by emulation of its processor.
    pub(super) fn start(self, program: &Path) -> anyhow::Result<Command> {
        if self.is_native() {
            return Ok(Command::new(program));
        }
        let mut command = Command::new(tools::emulator(self)?);
        command.arg("-L").arg(self.libraries()).arg(program);
        Ok(command)
    }

    /// Where the cross compiler's C library is.
    fn libraries(self) -> PathBuf {
        Path::new("/usr").join(self.names().gnu)
    }

    /// Fails unless the compilers can build for it, after having asked for what is missing.
    pub(super) fn provide(self) -> anyhow::Result<()> {
        if self.is_native() {
            return Ok(());
        }
        tools::cross_compiler(self)?;
        let installed = || {
            let list = process::stdout(Command::new("rustup").args(["target", "list", "--installed"]));
            list.is_some_and(|list| list.lines().any(|line| line == self.triple()))
        };
        if installed() {
            return Ok(());
        }
        eprintln!("fetching Rust's standard library for {}", self.triple());
        process::twice(Command::new("rustup").args(["target", "add", self.triple()])).with_context(|| {
            format!("building for {} takes Rust's standard library for it, which rustup cannot fetch", self.name())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_target_is_built_with_its_own_c_compiler_and_the_native_one_with_this_machines() {
        let foreign = if Target::X8664.is_native() { Target::Aarch64 } else { Target::X8664 };
        let settings = |target: Target| {
            let mut command = Command::new("cargo");
            target.choose_compiler(&mut command);
            command.get_envs().map(|(name, _)| name.to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        let linker = format!("CARGO_TARGET_{}_LINKER", foreign.triple().replace('-', "_").to_uppercase());
        assert!(settings(foreign).contains(&linker), "{:?} lacks {linker}", settings(foreign));
        assert_eq!(settings(Target::native().unwrap()), Vec::<String>::new());
    }

    #[test]
    fn debians_names_of_the_cross_compiler_have_no_underscore() {
        assert_eq!(Target::X8664.compiler_packages(), ["gcc-x86-64-linux-gnu", "libc6-dev-amd64-cross"]);
        assert_eq!(Target::Aarch64.compiler_packages(), ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"]);
    }
}
