//! What each part of the filter adds to a packet of an existing flow that it lets through, and what a drop costs.

use std::time::Duration;

use ml_ids_common::Hook;

use super::{
    Report, figure,
    frames::{ACK, segment},
    hot_path::in_turns,
    programs::time,
};
use crate::{
    respond::{Blocklist, entry},
    sensor::{BlockMode, FilterOptions, KernelReplay, Options, SensorError, clock::monotonic_us, parse_prefix},
};

/// Runs of a measurement.
const REPEAT: u32 = 200_000;
/// Rounds, in each of which every program has its turn.
const ROUNDS: u32 = 7;
/// Other sources on the list of blocked ones.
const BLOCKED: u16 = 1000;

pub(super) fn measure(report: Report<'_>) -> Result<(), SensorError> {
    for hook in Hook::ALL {
        existing_flow(hook, report)?;
    }
    dropped(report)
}

fn existing_flow(hook: Hook, report: Report<'_>) -> Result<(), SensorError> {
    const INTERFACE: &str = "interface:none0";
    const PORT: &str = "port:53";
    const PREFIX: &str = "172.16.0.0/12";
    let drop = Some(BlockMode::Drop);
    let mut replays = [
        load(&[], None)?,
        load(&[INTERFACE], None)?,
        load(&[PORT], None)?,
        load(&[PREFIX], None)?,
        load(&[], drop)?,
        load(&[INTERFACE, PORT, PREFIX], drop)?,
    ];
    for replay in &mut replays {
        block_others(replay)?;
    }
    let [none, interface, port, prefix, block, all] = &mut replays;
    let names = ["no filter", "--ignore interface", "--ignore port", "--ignore prefix", "--block", "all of these"];
    let runners = [
        none.runner(hook)?,
        interface.runner(hook)?,
        port.runner(hook)?,
        prefix.runner(hook)?,
        block.runner(hook)?,
        all.runner(hook)?,
    ];
    let frame = segment(1, ACK);
    let figures = in_turns(&runners, ROUNDS, |runner, _| time(runner, &frame, REPEAT))?;
    for ((name, value), replay) in names.into_iter().zip(figures).zip(&mut replays) {
        let hook_name = hook.name();
        figure(report, format!("{hook_name}: existing TCP flow, {name}"), value, "ns/packet");
        let (verified, _) = replay.program_size(hook)?;
        figure(report, format!("{hook_name}: followed by the verifier, {name}"), verified.into(), "instructions");
    }
    Ok(())
}

fn dropped(report: Report<'_>) -> Result<(), SensorError> {
    let mut replay = load(&[], Some(BlockMode::Drop))?;
    let mut list = block_others(&mut replay)?;
    let all = parse_prefix("10.0.0.0/8").map_err(|_| SensorError::Missing("prefix of the bench's frames"))?;
    add(&mut list, &all)?;
    let frame = segment(1, ACK);
    let [value] = in_turns(&[replay.runner(Hook::Ingress)?], ROUNDS, |runner, _| time(runner, &frame, REPEAT))?;
    figure(report, "ingress: dropped packet of a blocked source", value, "ns/packet");
    Ok(())
}

fn load(ignore: &[&str], block: Option<BlockMode>) -> Result<KernelReplay, SensorError> {
    let ignore = ignore.iter().filter_map(|rule| rule.parse().ok()).collect();
    let filter = FilterOptions { ignore, block, block_max: u32::from(BLOCKED) + 1 };
    KernelReplay::load(&Options { filter, ..Options::default() }, false)
}

/// Blocks sources that the measured packet is not of, so that a lookup has something to search.
fn block_others(replay: &mut KernelReplay) -> Result<Blocklist, SensorError> {
    let mut list = Blocklist::new(replay.filter_maps()?.blocked);
    for host in 0..BLOCKED {
        let [high, low] = host.to_be_bytes();
        add(&mut list, &std::net::IpAddr::from([203, 0, high, low]).into())?;
    }
    Ok(list)
}

fn add(list: &mut Blocklist, net: &ipnet::IpNet) -> Result<(), SensorError> {
    const TTL: Duration = Duration::from_secs(3600);
    list.add(net, &entry(monotonic_us(), TTL, None)).map_err(|_| SensorError::Missing("room for blocked sources"))
}
