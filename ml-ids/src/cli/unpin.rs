//! `ml-ids unpin`: detaches and removes what `run --pin` has left in the kernel.

use std::path::PathBuf;

use anyhow::Result;

use super::exit::Exit;
use crate::sensor::{PIN_DIRECTORY, Removed, remove_all};

const EXAMPLES: &str = "\
Examples:
  ml-ids unpin                                 after a sensor has been stopped for good
  ml-ids unpin --pin-dir /run/bpf/sensor       of a sensor that was told to pin there
  ml-ids unpin --force                         take the pins from a sensor that hangs";

/// Detach the hooks and remove the flow table that `run --pin` has left in the kernel
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Where they are pinned
    #[arg(long, value_name = "DIR", default_value = PIN_DIRECTORY)]
    pin_dir: PathBuf,
    /// Even while a sensor works with them: pinned hooks are detached and see no more packets
    #[arg(long)]
    force: bool,
}

/// Removes everything below the directory, and says what that was.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let place = args.pin_dir.display();
    let Some(Removed { hooks, maps, flows, exact, records }) = remove_all(&args.pin_dir, args.force)? else {
        println!("nothing is pinned at {place}");
        return Ok(Exit::Done);
    };
    for hook in &hooks {
        println!("detached {hook}");
    }
    let most = if exact { "" } else { "up to " };
    println!("removed {maps} pins at {place}: {most}{flows} live flows and {records} unread records are given up");
    if args.pin_dir.exists() {
        eprintln!("error: {place} could not be removed whole; see above");
        return Ok(Exit::Failed);
    }
    Ok(Exit::Done)
}
