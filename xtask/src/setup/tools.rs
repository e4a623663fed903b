//! Programs that the end-to-end tests start.

use std::{path::Path, process::Command};

use anyhow::bail;

use super::apt;
use crate::{process, workspace};

/// An S3 service that checks signatures, from crates.io: no distribution has one.
const S3: (&str, &str) = ("s3s-fs", "0.14.1");

/// A program and the Debian package that brings it.
struct Tool {
    program: &'static str,
    package: &'static str,
}

const TOOLS: &[Tool] = &[
    Tool { program: "ip", package: "iproute2" },
    Tool { program: "ethtool", package: "ethtool" },
    Tool { program: "tcpdump", package: "tcpdump" },
    Tool { program: "curl", package: "curl" },
    Tool { program: "ping", package: "iputils-ping" },
    Tool { program: "iperf3", package: "iperf3" },
    // Not `dnsmasq`, which would start a name server for the whole machine.
    Tool { program: "dnsmasq", package: "dnsmasq-base" },
    Tool { program: "dig", package: "bind9-dnsutils" },
    Tool { program: "nmap", package: "nmap" },
    Tool { program: "openssl", package: "openssl" },
    Tool { program: "tmux", package: "tmux" },
    Tool { program: "slowhttptest", package: "slowhttptest" },
    // Renders man pages.
    Tool { program: "groff", package: "groff-base" },
    // Large: 600 MB with their libraries.
    Tool { program: "chromium", package: "chromium" },
    Tool { program: "chromedriver", package: "chromium-driver" },
    Tool { program: "optipng", package: "optipng" },
    // Judges the unit file. Not `systemd-sysv`, which would make it the machine's first process.
    Tool { program: "systemd-analyze", package: "systemd" },
    Tool { program: "jq", package: "jq" },
    Tool { program: "script", package: "bsdutils" },
];

/// Installs the missing ones.
pub(super) fn provide() -> anyhow::Result<()> {
    provide_packaged()?;
    provide_s3()
}

/// Builds the S3 service into the cache unless it is there.
fn provide_s3() -> anyhow::Result<()> {
    let (name, version) = S3;
    let tools = workspace::cache()?.join("tools");
    let is_there = |program: &Path| {
        let said = process::stdout(Command::new(program).arg("--version"));
        said.is_some_and(|said| said.contains(version))
    };
    if is_there(&tools.join("bin").join(name)) {
        return Ok(());
    }
    eprintln!("building {name} {version}, an S3 service for the tests (takes some minutes)");
    let mut install = process::cargo(["install", "--locked", name, "--version", version, "--features", "binary"]);
    install.args(["--force", "--root"]).arg(tools);
    process::twice(&mut install)
}

/// Installs the missing ones that have a package.
pub(super) fn provide_packaged() -> anyhow::Result<()> {
    let missing: Vec<&Tool> = TOOLS.iter().filter(|tool| process::find(tool.program).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !apt::available() {
        let programs: Vec<&str> = missing.iter().map(|tool| tool.program).collect();
        bail!(
            "the tests need programs that are missing: {}; install them with your package manager",
            programs.join(", ")
        );
    }
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    apt::install(&packages)
}
