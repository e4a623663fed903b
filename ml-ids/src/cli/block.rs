//! `ml-ids block`: what a running sensor blocks, seen and changed from outside.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use ipnet::IpNet;
use log::warn;
use ml_ids_common::BlockEntry;
use serde_json::json;

use super::{
    exit::{Exit, is_broken_pipe},
    response::time_to_live,
};
use crate::{
    respond::{BPFFS, Cause, Hands, Note, Settings, entry},
    sensor::{clock::monotonic_us, parse_prefix, prefix::short},
};

const EXAMPLES: &str = "\
Examples:
  ml-ids block list                            what is blocked, for how long, and why
  ml-ids block add 192.0.2.7 --ttl 1h          block an address
  ml-ids block rm 192.0.2.7                    unblock it
  ml-ids block clear                           unblock everything at once

They work on the sensor that runs with --block on this machine, and take effect at once.";

const LIST_EXAMPLES: &str = "\
Examples:
  ml-ids block list
  ml-ids block list --json";

const CLEAR_EXAMPLES: &str = "\
Examples:
  ml-ids block clear";

const ADD_EXAMPLES: &str = "\
Examples:
  ml-ids block add 192.0.2.7                   for as long as the sensor's --block-ttl
  ml-ids block add 198.51.100.0/24 --ttl 1h";

const RM_EXAMPLES: &str = "\
Examples:
  ml-ids block rm 192.0.2.7
  ml-ids block rm 198.51.100.0/24";

/// See and change what a sensor that runs with --block drops
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// BPF file system that the sensor was started with
    #[arg(long, value_name = "DIR", env = "ML_IDS_BPFFS", default_value = BPFFS, global = true)]
    bpffs: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print what is blocked
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// One JSON line an entry
        #[arg(long)]
        json: bool,
    },
    /// Unblock everything
    #[command(after_help = CLEAR_EXAMPLES)]
    Clear,
    /// Block a prefix. What may never be blocked is refused: the host's own addresses, its gateways and name servers,
    /// the allow-list, special ranges
    #[command(after_help = ADD_EXAMPLES)]
    Add {
        /// Address or prefix
        #[arg(value_name = "CIDR", value_parser = parse_prefix)]
        net: IpNet,
        /// How long: 90s, 10m, 1h 30m [default: the sensor's --block-ttl]
        #[arg(long, value_name = "TIME", value_parser = time_to_live)]
        ttl: Option<Duration>,
    },
    /// Unblock a prefix
    #[command(after_help = RM_EXAMPLES)]
    Rm {
        /// Address or prefix as `list` prints it
        #[arg(value_name = "CIDR", value_parser = parse_prefix)]
        net: IpNet,
    },
}

/// Does it.
pub(super) fn run(args: &Args) -> Result<Exit> {
    let mut hands = Hands::open(&args.bpffs)?;
    let settings = hands.settings().context("cannot read how the sensor was started")?;
    if !hands.sensor_lives() {
        if matches!(args.command, Command::Add { .. }) {
            bail!("the sensor is gone and has only left its list behind; start one with `ml-ids run --block`");
        }
        warn!(
            "the sensor is gone; its list is in force only if its programs were pinned (--pin), and the next sensor \
             begins with an empty one"
        );
    }
    match &args.command {
        Command::List { json } => list(&hands, settings, *json),
        Command::Clear => clear(&mut hands),
        Command::Add { net, ttl } => add(&mut hands, settings, net, *ttl),
        Command::Rm { net } => remove(&mut hands, net),
    }
}

fn list(hands: &Hands, settings: Settings, json: bool) -> Result<Exit> {
    let mut entries = hands.list.entries()?;
    let now_us = monotonic_us();
    entries.retain(|(_, entry)| entry.expires_us > now_us);
    let printed = print(&entries, now_us, settings, json);
    match printed.map_err(anyhow::Error::from) {
        Err(error) if !is_broken_pipe(&error) => Err(error),
        _ => Ok(Exit::Done),
    }
}

fn print(entries: &[(IpNet, BlockEntry)], now_us: u64, settings: Settings, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        for (net, entry) in entries {
            let cause = Cause::of(entry);
            let line = json!({
                "src_ip": short(net),
                "ttl": entry.expires_us.saturating_sub(now_us) as f64 / 1e6,
                "age": now_us.saturating_sub(entry.since_us) as f64 / 1e6,
                "reason": if cause.is_some() { "verdict" } else { "hand" },
                "class": cause.as_ref().map(|cause| cause.class),
                "label": cause.as_ref().map(|cause| cause.label.as_str()),
                "probability": cause.as_ref().map(|cause| cause.probability),
                "packets": entry.packets,
                "dry_run": settings.dry_run != 0,
            });
            writeln!(out, "{line}")?;
        }
        return Ok(());
    }
    if settings.dry_run != 0 {
        eprintln!("dry run: nothing is dropped");
    }
    if entries.is_empty() {
        eprintln!("nothing is blocked");
        return Ok(());
    }
    writeln!(out, "{:<43}  {:>12}  {:>12}  reason", "source", "time left", "packets")?;
    for (net, entry) in entries {
        let left = Duration::from_secs(entry.expires_us.saturating_sub(now_us).div_ceil(1_000_000));
        let left = humantime::format_duration(left).to_string();
        let reason = Cause::of(entry)
            .map_or_else(|| "by hand".to_owned(), |cause| format!("{} {:.3}", cause.label, cause.probability));
        writeln!(out, "{:<43}  {left:>12}  {:>12}  {reason}", short(net), entry.packets)?;
    }
    Ok(())
}

fn clear(hands: &mut Hands) -> Result<Exit> {
    let turn = hands.turn()?;
    let mut removed = 0;
    for (net, entry) in hands.list.entries()? {
        unblock(hands, &net, entry)?;
        removed += 1;
    }
    drop(turn);
    println!("unblocked {removed} sources");
    Ok(Exit::Done)
}

fn add(hands: &mut Hands, settings: Settings, net: &IpNet, ttl: Option<Duration>) -> Result<Exit> {
    let guard = hands.protected.read().context("cannot read what is protected")?;
    if let Err(refusal) = guard.check(*net) {
        bail!("{refusal}; it is not blocked");
    }
    let ttl = ttl.unwrap_or(Duration::from_micros(settings.ttl_us));
    let now_us = monotonic_us();
    let entry = entry(now_us, ttl, None);
    let turn = hands.turn()?;
    hands.list.add(net, &entry)?;
    drop(turn);
    tell(hands, &Note::new(net, now_us, Some(entry.expires_us)));
    let verb = if settings.dry_run == 0 { "blocked" } else { "dry run: would block" };
    println!("{verb} {} for {}", short(net), humantime::format_duration(ttl));
    Ok(Exit::Done)
}

fn remove(hands: &mut Hands, net: &IpNet) -> Result<Exit> {
    let turn = hands.turn()?;
    let entries = hands.list.entries()?;
    let Some((_, entry)) = entries.iter().find(|(blocked, _)| blocked == net) else {
        match entries.iter().find(|(blocked, _)| blocked.contains(net)) {
            Some((blocked, _)) => {
                bail!("{0} is blocked by {1}; unblock that: ml-ids block rm {1}", short(net), short(blocked))
            }
            None => bail!("{} is not blocked; `ml-ids block list` prints what is", short(net)),
        }
    };
    unblock(hands, net, *entry)?;
    drop(turn);
    println!("unblocked {}", short(net));
    Ok(Exit::Done)
}

/// Removes an entry. The sensor is told first: a verdict on an old flow that comes in between would block it again.
fn unblock(hands: &mut Hands, net: &IpNet, entry: BlockEntry) -> Result<()> {
    tell(hands, &Note::new(net, monotonic_us(), None).packets(entry.packets));
    hands.list.remove(net)?;
    Ok(())
}

fn tell(hands: &mut Hands, note: &Note) {
    if !hands.tell(*note) {
        warn!("the sensor does not listen, so this is missing from its event log");
    }
}
