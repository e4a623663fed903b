//! `cargo xtask audit`: what the dependencies are. Licences, sources, bans and duplicates as `deny.toml` allows them, and
//! dependencies that nothing uses.
//!
//! Known vulnerabilities are asked for with `--advisories`: their database is fetched from GitHub, which not every machine
//! reaches.

use std::process::ExitCode;

use crate::{process, setup::CargoProgram, workspace};

const DENY: CargoProgram = CargoProgram { name: "cargo-deny", version: "0.20.2", options: &["--no-default-features"] };
const MACHETE: CargoProgram = CargoProgram { name: "cargo-machete", version: "0.9.2", options: &[] };

/// What to look at.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Fetch the list of known vulnerabilities, and fail on any
    #[arg(long)]
    advisories: bool,
}

/// Builds what looks, unless it is there.
pub(crate) fn provide() -> anyhow::Result<()> {
    DENY.provide()?;
    MACHETE.provide()
}

/// Looks at everything, then fails if anything was found.
pub(crate) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    provide()?;
    let tools = workspace::cache()?.join("tools/bin");
    let mut looks = Vec::new();
    let program = |name: &str| {
        let mut command = std::process::Command::new(tools.join(name));
        command.current_dir(workspace::root());
        command
    };
    let mut deny = program(DENY.name);
    deny.args(["--locked", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"]);
    if arguments.advisories {
        deny.arg("advisories");
    }
    looks.push(deny);
    looks.push(program(MACHETE.name));
    let mut failed = false;
    for look in &mut looks {
        println!("$ {}", process::shown(look));
        if let Err(error) = process::visible(look) {
            eprintln!("{error:#}");
            failed = true;
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
