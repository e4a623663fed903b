//! The images that the Dockerfile starts from. Where no registry answers they are made here under the same names: Debian by
//! debootstrap, Rust of that Debian with this machine's toolchain. What is built on them is the same.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};

use super::{BASE, engine::Engine};
use crate::{process, setup, workspace};

/// What the stage with the compiler starts from.
pub(super) const RUST: &str = "rust:1.95-bookworm";
const SUITE: &str = "bookworm";
const MIRROR: &str = "http://deb.debian.org/debian";
const SOURCES: &str = "deb http://deb.debian.org/debian bookworm main\n\
                       deb http://deb.debian.org/debian bookworm-updates main\n\
                       deb http://deb.debian.org/debian-security bookworm-security main\n";

/// The official image has the toolchain at these places, too. The host's certificates: it may reach crates.io by an authority
/// of its own.
const RECIPE: &str = "\
FROM debian:bookworm-slim
ENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY --from=certificates ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=cargo . /usr/local/cargo/bin
COPY --from=toolchain bin /usr/local/rustup/toolchains/host/bin
COPY --from=toolchain lib /usr/local/rustup/toolchains/host/lib
RUN rustup default host && cargo --version
";

/// Makes sure of Debian, and of Rust if it is built with.
pub(super) fn provide(engine: &Engine, builds: bool) -> anyhow::Result<()> {
    let all = [(BASE, debian as fn(&Engine) -> anyhow::Result<()>), (RUST, rust)];
    for (image, make) in all.into_iter().take(if builds { 2 } else { 1 }) {
        if engine.said(&["image", "inspect", image]).is_ok() || engine.said(&["pull", "--quiet", image]).is_ok() {
            continue;
        }
        if engine.is_the_machines() {
            bail!(
                "{image} cannot be pulled; pull it by `docker pull {image}` when there is a network, then run this again"
            );
        }
        eprintln!("{image} cannot be pulled; making it here");
        make(engine)?;
    }
    Ok(())
}

fn debian(engine: &Engine) -> anyhow::Result<()> {
    if process::find("debootstrap").is_none() {
        setup::install_packages(&["debootstrap"])?;
    }
    let folder = workspace::cache()?.join("docker/debian");
    super::engine::remove(&folder)?;
    let mut bootstrap = Command::new("debootstrap");
    bootstrap.args(["--variant=minbase", SUITE]).arg(&folder).arg(MIRROR).stdout(Stdio::null());
    process::twice(&mut bootstrap)?;
    fs::write(folder.join("etc/apt/sources.list"), SOURCES).context("cannot write the list of sources")?;
    // What the official image leaves out, too.
    for part in ["var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"] {
        super::engine::remove(&folder.join(part))?;
        fs::create_dir_all(folder.join(part))?;
    }
    let mut tar = Command::new("tar")
        .arg("-C")
        .arg(&folder)
        .args(["-c", "."])
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start tar")?;
    let content = tar.stdout.take().context("tar has no output")?;
    let mut import = engine.docker(&["import", "--change", "CMD [\"bash\"]", "-", BASE]);
    let imported = process::visible(import.stdin(content).stdout(Stdio::null()));
    ensure!(tar.wait()?.success(), "tar failed");
    imported?;
    super::engine::remove(&folder)
}

fn rust(engine: &Engine) -> anyhow::Result<()> {
    let toolchain = process::stdout(Command::new("rustup").args(["run", "stable", "rustc", "--print", "sysroot"]))
        .context("rustup has no stable toolchain; install one with `rustup toolchain install stable`")?;
    let context = |name: &str, folder: &Path| format!("{name}={}", folder.display());
    let cargo = match env::var_os("CARGO_HOME") {
        Some(cargo) => PathBuf::from(cargo),
        None => PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".cargo"),
    };
    let folder = workspace::target().join("xtask/rust-image");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fs::write(folder.join("Dockerfile"), RECIPE)?;
    let mut command = engine.docker(&["build", "--network", "host", "--progress", "plain", "--tag", RUST]);
    for (name, place) in [
        ("certificates", Path::new("/etc/ssl/certs")),
        ("cargo", &cargo.join("bin")),
        ("toolchain", Path::new(toolchain.trim())),
    ] {
        command.args(["--build-context", &context(name, place)]);
    }
    process::visible(command.arg(&folder))
}
