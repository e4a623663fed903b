//! `ml-ids top`: what a running agent sees, live in a terminal, through its API.
//!
//! ```text
//! client (a thread that asks) ──┐
//! keys   (a thread that reads) ─┼─► one channel ─► state ─► draw
//! signals (a thread that waits) ┘        └─► what is wanted ─► client
//! ```

mod client;
mod draw;
mod input;
mod palette;
mod rows;
mod screen;
mod state;
#[cfg(test)]
mod tests;
mod words;

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    time::Duration,
};

use anyhow::Result;

use super::exit::Exit;
use client::{Client, Server};

const EXAMPLES: &str = "\
Examples:
  ml-ids top                                           the agent of this machine
  ml-ids top --url http://127.0.0.1:8001 --interval 5s
  ml-ids top --url https://sensor.example.org:8443 --token-file token

Keys: q quits, Tab changes the table, arrows move, s sorts the flows, p pauses, ? shows all of them. NO_COLOR is honoured.";

/// Watch live flows and alerts of a running agent in the terminal
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Where the agent listens
    #[arg(long, value_name = "URL", env = "ML_IDS_URL", default_value = "http://127.0.0.1:8000", value_parser = client::server)]
    url: Server,
    /// File with the token that the agent asks for: its first line counts
    #[arg(long, value_name = "FILE", env = "ML_IDS_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Time between two looks
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = interval)]
    interval: Duration,
}

/// Shows it until the user has seen enough.
pub(super) fn run(args: Args) -> Result<Exit> {
    let Args { url, token_file, interval } = args;
    if !(io::stdout().is_terminal() && io::stdin().is_terminal()) {
        eprintln!(
            "error: `ml-ids top` needs a terminal to draw on and to read keys from; for scripts there are `ml-ids alerts list` \
             and {url}/flows"
        );
        return Ok(Exit::Usage);
    }
    let client = match Client::new(url, token_file.as_deref()) {
        Ok(client) => client,
        Err(error) => {
            eprintln!("error: {error}");
            return Ok(Exit::BadInput);
        }
    };
    // Before the screen is taken, so that what to do stays there to be read.
    if let Err(error) = client.hello() {
        eprintln!("error: {error}");
        return Ok(Exit::Failed);
    }
    screen::show(client, interval)
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let interval = seconds.or_else(|| humantime::parse_duration(text).ok());
    let interval = interval.ok_or_else(|| format!("{text} is no time; write 2s or 500ms"))?;
    if interval < Duration::from_millis(500) || interval > Duration::from_secs(3600) {
        return Err("must be from 500ms to 1h".to_owned());
    }
    Ok(interval)
}
