//! Where a sensor keeps what must outlive it.

use std::{env, path::PathBuf};

use clap::Args;

/// The state directory.
#[derive(Args, Clone, Debug)]
pub(super) struct StateArgs {
    /// Where alerts are kept [default: systemd's $STATE_DIRECTORY, /var/lib/ml-ids as root, else $XDG_STATE_HOME/ml-ids or ~/.local/state/ml-ids]
    #[arg(long, value_name = "DIR", env = "ML_IDS_STATE_DIR", global = true, help_heading = "Alerts")]
    state_dir: Option<PathBuf>,
}

impl StateArgs {
    /// The directory; it may not exist yet.
    pub(super) fn directory(&self) -> PathBuf {
        self.state_dir.clone().unwrap_or_else(default_directory)
    }
}

fn default_directory() -> PathBuf {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // Of several, separated by colons, none is known to be ours.
    let given = set("STATE_DIRECTORY").filter(|given| given.is_absolute() && !given.to_string_lossy().contains(':'));
    if let Some(given) = given {
        return given;
    }
    // SAFETY: the call cannot fail and touches no memory of ours.
    if unsafe { libc::geteuid() } == 0 {
        return PathBuf::from("/var/lib/ml-ids");
    }
    let base = set("XDG_STATE_HOME").filter(|base| base.is_absolute());
    let base = base.or_else(|| set("HOME").map(|home| home.join(".local/state")));
    base.unwrap_or_else(|| PathBuf::from("/var/lib")).join("ml-ids")
}
