//! Programs that the end-to-end tests start.

use anyhow::bail;

use super::apt;
use crate::process;

/// A program and the Debian package that brings it.
struct Tool {
    program: &'static str,
    package: &'static str,
}

const TOOLS: [Tool; 9] = [
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
];

/// Installs the missing ones.
pub(super) fn provide() -> anyhow::Result<()> {
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
