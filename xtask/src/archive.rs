//! Packages of another Debian suite, fetched and unpacked into a folder with `apt-get` and `dpkg-deb`. The system's own package
//! lists, caches and installed packages are neither changed nor looked at, and it takes no root.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

use crate::process;

/// Signs every suite that is used; part of every Debian.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// apt with a state of its own.
pub(crate) struct Archive {
    folder: PathBuf,
}

impl Archive {
    /// Reads the package lists of a suite into `folder`.
    pub(crate) fn open(folder: PathBuf, source: &str) -> anyhow::Result<Self> {
        if !Path::new(KEYRING).exists() {
            bail!("{KEYRING} is missing, with which packages are checked: install debian-archive-keyring");
        }
        let archive = Self { folder };
        for part in ["lists/partial", "archives/partial"] {
            let part = archive.folder.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot create {}", part.display()))?;
        }
        archive.write("sources", &format!("deb [signed-by={KEYRING}] {source}\n"))?;
        // With nothing installed, the dependencies of a package are all that it takes to run it.
        archive.write("status", "")?;
        if run(archive.apt("apt-get").arg("update")).is_err() {
            eprintln!("trying once more");
            run(archive.apt("apt-get").arg("update"))?;
        }
        Ok(archive)
    }

    /// Names of packages that begin with `prefix`.
    pub(crate) fn names(&self, prefix: &str) -> anyhow::Result<Vec<String>> {
        Ok(run(self.apt("apt-cache").args(["pkgnames", prefix]))?.lines().map(str::to_owned).collect())
    }

    /// Unpacks packages.
    pub(crate) fn unpack(&self, packages: &[String], into: &Path) -> anyhow::Result<()> {
        run(self.apt("apt-get").arg("download").args(packages).current_dir(self.archives()))?;
        self.unpack_fetched(into)
    }

    /// Unpacks packages and all that they depend on, down to the C library.
    pub(crate) fn unpack_with_dependencies(&self, packages: &[&str], into: &Path) -> anyhow::Result<()> {
        let install = ["install", "--download-only", "--yes", "--no-install-recommends"];
        run(self.apt("apt-get").args(install).args(packages))?;
        self.unpack_fetched(into)
    }

    fn unpack_fetched(&self, into: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(into).with_context(|| format!("cannot create {}", into.display()))?;
        let folder = fs::read_dir(self.archives()).context("cannot list fetched packages")?;
        for file in folder.filter_map(Result::ok).map(|file| file.path()) {
            if file.extension().is_some_and(|extension| extension == "deb") {
                run(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(into))?;
            }
        }
        Ok(())
    }

    fn archives(&self) -> PathBuf {
        self.folder.join("archives")
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let file = self.folder.join(name);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    /// A program of apt that knows only this archive. What the system says about proxies still holds.
    fn apt(&self, program: &str) -> Command {
        let folder = |part: &str| self.folder.join(part).display().to_string();
        let mut command = Command::new(program);
        for option in [
            format!("Dir::Etc::sourcelist={}", folder("sources")),
            "Dir::Etc::sourceparts=-".to_owned(),
            "Dir::Etc::preferences=-".to_owned(),
            "Dir::Etc::preferencesparts=-".to_owned(),
            format!("Dir::State::lists={}", folder("lists")),
            format!("Dir::State::status={}", folder("status")),
            format!("Dir::Cache::archives={}", folder("archives")),
            "Dir::Cache::pkgcache=".to_owned(),
            "Dir::Cache::srcpkgcache=".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            // The unprivileged user that apt fetches as cannot look into root's home, where the cache is.
            "APT::Sandbox::User=root".to_owned(),
            // Nobody else uses these folders, and the lock on those of the system takes root.
            "Debug::NoLocking=1".to_owned(),
        ] {
            command.args(["--option", &option]);
        }
        command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
        command
    }
}

/// Standard output of a command that succeeds; what it complained of when it does not.
fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| {
        format!("cannot start {}: packages are fetched with apt and dpkg", command.get_program().to_string_lossy())
    })?;
    if !output.status.success() {
        bail!("{} failed:\n{}", process::shown(command), String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
