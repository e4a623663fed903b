//! Every capture through the commands that people give: `extract` and `score` end in time and in order, write the same flows,
//! and close the books of the replay that `kernel.rs` compares the kernel with.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ml_ids::{
    model::Model,
    offline::{Capture, Replay, replay},
};
use ml_ids_common::{Counters, FlowRecord, Profile};
use ml_ids_tests::{
    agent::{Ended, run},
    binary, data, files, fixture,
};

/// Longest that a command may take: the largest capture has 50,000 flows, and takes 20 s on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);
/// Commands at a time.
const WORKERS: usize = 2;

/// What one capture came to.
#[derive(Default)]
struct Totals {
    captures: usize,
    /// Those that cannot be read to their end.
    damaged: usize,
    packets: u64,
    rows: usize,
}

/// Both commands on one capture, against replay in this process.
fn compare(path: &Path, profile: Profile, totals: &Mutex<Totals>) -> Result<()> {
    let name = path.to_str().context("a name that is not UTF-8")?;
    let command = |arguments: &[&str]| run(Command::new(binary()?).args(arguments), b"", LIMIT);
    let extracted = command(&["extract", name, "--profile", profile.name()])?;
    let scored = command(&["score", name, "--format", "csv"])?;
    for ended in [&extracted, &scored] {
        ended.in_order()?;
        ensure!(matches!(ended.code, Some(0 | 3)), "exit code {:?}: {}", ended.code, ended.stderr);
    }
    ensure!(extracted.code == scored.code, "extract: {}\nscore: {}", extracted.stderr, scored.stderr);
    let rows = same_flows(&extracted, &scored)?;
    let mut packets = 0;
    if let Some((counters, records)) = replayed(path, profile)? {
        let said = format!("{} packets, {} flows, {rows} rows", counters.ingress.seen, counters.flows.opened);
        ensure!(extracted.stderr.contains(&said), "replay: {said}\nextract: {}", extracted.stderr);
        ensure!(records == rows, "replay makes {records} TCP and UDP flows, extract {rows} rows");
        packets = counters.ingress.seen;
    }
    let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
    totals.captures += 1;
    totals.damaged += usize::from(extracted.code == Some(3));
    totals.packets += packets;
    totals.rows += rows;
    Ok(())
}

/// Each line of `score` begins with that of `extract`, up to the label. Returns how many flows there are.
fn same_flows(extracted: &Ended, scored: &Ended) -> Result<usize> {
    let (ours, theirs): (Vec<&str>, Vec<&str>) =
        (extracted.text()?.lines().collect(), scored.text()?.lines().collect());
    ensure!(ours.len() == theirs.len(), "{} lines of extract, {} of score", ours.len(), theirs.len());
    // The first is the header; the label is the last column of `extract`, and empty below.
    for (ours, theirs) in ours.iter().zip(&theirs).skip(1) {
        ensure!(ours.ends_with(',') && theirs.starts_with(ours), "extract: {ours}\nscore: {theirs}");
    }
    Ok(ours.len().saturating_sub(1))
}

/// The counters of replay with how many TCP and UDP flows it makes; `None` for what is no capture.
fn replayed(path: &Path, profile: Profile) -> Result<Option<(Counters, usize)>> {
    let Ok(mut capture) = Capture::new(fs::File::open(path)?) else { return Ok(None) };
    let (mut table, mut records) = (Replay::new(profile), 0);
    let emit = |record: FlowRecord| -> Result<()> {
        records += usize::from(record.is_tcp_or_udp());
        Ok(())
    };
    // Of a damaged capture what can be read counts.
    let _ = replay(&mut capture, &mut table, emit)?;
    let counters = *table.counters();
    ensure!(counters.ingress.balanced(), "{:?}", counters.ingress);
    let flows = counters.flows;
    ensure!(flows.opened == flows.emitted + flows.discarded, "{flows:?}");
    Ok(Some((counters, records)))
}

fn compare_all(folder: &Path) -> Result<Totals> {
    let paths: Vec<PathBuf> = files(folder, &["pcap", "pcapng", "cap"])?;
    let profile = Model::embedded()?.contract().profile;
    let (next, totals) = (AtomicUsize::new(0), Mutex::new(Totals::default()));
    let worker = || -> Result<()> {
        while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
            compare(path, profile, &totals).with_context(|| path.display().to_string())?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| anyhow::bail!("a comparison panicked")))
    })?;
    let totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    let Totals { captures, damaged, packets, rows } = totals;
    eprintln!("{captures} captures, {damaged} of them damaged, {packets} packets, {rows} flows with a verdict");
    ensure!(captures == paths.len(), "{captures} of {} captures compared", paths.len());
    Ok(totals)
}

#[test]
fn handmade_captures_are_extracted_and_scored_alike() -> Result<()> {
    let totals = compare_all(&fixture("handmade"))?;
    ensure!(totals.captures > 10 && totals.rows > 500 && totals.damaged == 0, "{} captures", totals.captures);
    Ok(())
}

#[test]
fn all_captures_are_extracted_and_scored_alike_in_time() -> Result<()> {
    let Some(captures) = data("captures") else { return Ok(()) };
    let totals = compare_all(&captures)?;
    ensure!(totals.captures > 1000 && totals.damaged > 0, "{} captures", totals.captures);
    Ok(())
}
