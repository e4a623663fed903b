//! Maps and links that outlive the agent: pinned below `/sys/fs/bpf/ml-ids/<layout version>/`, so that the kernel goes on
//! counting while no agent runs, and the next one goes on with the same flows.
//!
//! ```text
//! /sys/fs/bpf/ml-ids/               locked by the agent that uses it
//!   v1-<description's digest>/      what two agents must agree on has the same digest
//!     FLOWS STATES … META           META says which options the table was made with
//!     links/3-ingress-xdp-native    interface index, direction, place
//! ```

mod bpffs;
mod layout;
mod links;
mod removal;
mod syscall;
mod table;

use std::{
    io,
    path::{Path, PathBuf},
};

pub use removal::{Removed, remove_all};

pub(super) use layout::{PINNED, digest};
pub(super) use links::{LinkPins, PinnedLink, link_error, remove};
pub(super) use table::{Leftovers, Table};

/// Where pins live unless told otherwise.
pub const PIN_DIRECTORY: &str = "/sys/fs/bpf/ml-ids";

/// Why nothing can be pinned, taken over or removed.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// Not a BPF file system, and not to be made one.
    #[error(
        "{} is not on a BPF file system; mount one there: mkdir -p {} && mount -t bpf bpf {}",
        .directory.display(), mount_point(.directory).display(), mount_point(.directory).display()
    )]
    NotBpffs {
        /// The directory.
        directory: PathBuf,
        /// Why it could not be mounted.
        #[source]
        source: io::Error,
    },
    /// Another sensor uses it.
    #[error("{} is in use by a running sensor{}; {advice}", .directory.display(), process(*.owner))]
    Locked {
        /// The directory.
        directory: PathBuf,
        /// The sensor's process, 0 if that is not known.
        owner: u32,
        /// What to do.
        advice: &'static str,
    },
    /// The kernel has no links for such a hook.
    #[error(
        "a {hook} program on {interface} cannot be pinned: that needs Linux {kernel}; run without --pin, or on a newer \
         kernel"
    )]
    NoLink {
        /// What would be attached.
        hook: &'static str,
        /// Where.
        interface: String,
        /// The version that can.
        kernel: &'static str,
    },
    /// A file or directory of the BPF file system refuses.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

fn mount_point(directory: &Path) -> &Path {
    let default = Path::new("/sys/fs/bpf");
    if directory.starts_with(default) { default } else { directory }
}

fn process(owner: u32) -> String {
    if owner == 0 { String::new() } else { format!(" (process {owner})") }
}
