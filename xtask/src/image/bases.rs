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

/// What the images of `deploy/compose` start from, or are.
const PYTHON: &str = "python:3.12-slim-bookworm";
const PROMETHEUS: &str = "prom/prometheus:v3.5.0";
const ALERTMANAGER: &str = "prom/alertmanager:v0.28.1";

/// All that are started from.
pub(super) const ALL: [&str; 5] = [BASE, RUST, PYTHON, PROMETHEUS, ALERTMANAGER];

/// Debian's Python 3.11, into which packages may be installed as into the official image's.
const PYTHON_RECIPE: &str = "\
FROM debian:bookworm-slim
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates python-is-python3 python3-pip \\
    && rm -rf /var/lib/apt/lists/* /usr/lib/python3*/EXTERNALLY-MANAGED
COPY --from=certificates ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt
";
/// Debian's older version; its options are the same.
const PROMETHEUS_RECIPE: &str = "\
FROM debian:bookworm-slim
RUN apt-get update && apt-get install --yes --no-install-recommends prometheus && rm -rf /var/lib/apt/lists/* \\
    && install --directory --owner nobody /prometheus
USER nobody
ENTRYPOINT [\"prometheus\"]
";
const ALERTMANAGER_RECIPE: &str = "\
FROM debian:bookworm-slim
RUN apt-get update && apt-get install --yes --no-install-recommends prometheus-alertmanager && rm -rf /var/lib/apt/lists/* \\
    && install --directory --owner nobody /alertmanager
USER nobody
ENTRYPOINT [\"prometheus-alertmanager\"]
";

/// Makes sure that these are there.
pub(super) fn provide(engine: &Engine, images: &[&str]) -> anyhow::Result<()> {
    for &image in images {
        if engine.said(&["image", "inspect", image]).is_ok() || engine.said(&["pull", "--quiet", image]).is_ok() {
            continue;
        }
        if engine.is_the_machines() {
            bail!(
                "{image} cannot be pulled; pull it by `docker pull {image}` when there is a network, then run this again"
            );
        }
        eprintln!("{image} cannot be pulled; making it here");
        match image {
            BASE => debian(engine)?,
            RUST => rust(engine)?,
            PYTHON => by_recipe(engine, image, PYTHON_RECIPE)?,
            PROMETHEUS => by_recipe(engine, image, PROMETHEUS_RECIPE)?,
            ALERTMANAGER => by_recipe(engine, image, ALERTMANAGER_RECIPE)?,
            _ => bail!("there is no recipe for {image}"),
        }
    }
    Ok(())
}

/// Builds from a recipe that may copy this machine's certificates.
fn by_recipe(engine: &Engine, image: &str, recipe: &str) -> anyhow::Result<()> {
    let folder = workspace::target().join("xtask/base-image");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    fs::write(folder.join("Dockerfile"), recipe)?;
    let mut command = engine.docker(&["build", "--network", "host", "--progress", "plain", "--tag", image]);
    process::visible(command.args(["--build-context", "certificates=/etc/ssl/certs"]).arg(&folder))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Images are made here under the names that the files give them.
    #[test]
    fn every_image_that_is_started_from_can_be_made_here() {
        let root = workspace::root();
        let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
        let mut named = Vec::new();
        for file in ["Dockerfile", "deploy/compose/mlflow/Dockerfile", "deploy/compose/s3/Dockerfile"] {
            let text = read(file);
            let bases = text.lines().filter_map(|line| line.strip_prefix("FROM ")?.split(' ').next());
            // A stage's name has no version.
            named.extend(bases.filter(|base| base.contains(':')).map(str::to_owned));
        }
        let compose = read("deploy/compose/compose.yaml");
        let defaults = compose.lines().filter_map(|line| line.trim().strip_prefix("image: ${")?.split_once(":-"));
        named.extend(defaults.map(|(_, image)| image.trim_end_matches('}').to_owned()));
        assert!(ALL.iter().all(|image| named.iter().any(|name| name == image)), "{named:?}");
        assert!(named.iter().all(|name| ALL.contains(&name.as_str())), "{named:?}");
    }
}
