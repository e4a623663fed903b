//! The flags of `ml-ids run` that say what is not counted, what is never an alert, and what is blocked.

use std::{path::PathBuf, time::Duration};

use clap::{ArgAction, builder::FalseyValueParser};
use ipnet::IpNet;

use crate::{
    respond::{BPFFS, BlockOptions, LONGEST_TTL},
    sensor::{BlockMode, FilterOptions, IgnoreRule, parse_prefix},
};

/// Most entries that a list of blocked sources may have.
const MOST_BLOCKS: i64 = 1_000_000;

/// What is left out, left alone, and kept out.
#[derive(clap::Args)]
#[group(id = "response")]
pub(super) struct Args {
    /// Packets to let pass uncounted, and never to drop: a prefix, port:53, tcp:22, udp:53 or interface:docker0; may be
    /// given several times
    #[arg(long, value_name = "RULE", env = "ML_IDS_IGNORE", value_delimiter = ',')]
    ignore: Vec<IgnoreRule>,
    /// Sources that are never an alert and never blocked: a prefix; may be given several times
    #[arg(long, value_name = "CIDR", env = "ML_IDS_ALLOW", value_delimiter = ',', value_parser = parse_prefix)]
    allow: Vec<IpNet>,
    /// Drop what the sources of alerts send, for a while; see `ml-ids block`
    #[arg(long, env = "ML_IDS_BLOCK", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    block: bool,
    /// Only count what --block would drop
    #[arg(long, env = "ML_IDS_BLOCK_DRY_RUN", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    block_dry_run: bool,
    /// Least probability of an alert that blocks its source, from 0 to 1
    #[arg(long, value_name = "P", env = "ML_IDS_BLOCK_THRESHOLD", default_value = "0.99", value_parser = probability)]
    block_threshold: f32,
    /// How long a block lasts: 90s, 10m, 1h 30m
    #[arg(long, value_name = "TIME", env = "ML_IDS_BLOCK_TTL", default_value = "10m", value_parser = time_to_live)]
    block_ttl: Duration,
    /// Most sources blocked at a time
    #[arg(long, value_name = "N", env = "ML_IDS_BLOCK_MAX", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=MOST_BLOCKS))]
    block_max: u32,
    /// BPF file system where `ml-ids block` finds the sensor
    #[arg(long, value_name = "DIR", env = "ML_IDS_BPFFS", default_value = BPFFS)]
    bpffs: PathBuf,
}

impl Args {
    /// The filter of the kernel programs.
    pub(super) fn filter(&self) -> FilterOptions {
        let block = match (self.block_dry_run, self.block) {
            (true, _) => Some(BlockMode::DryRun),
            (false, true) => Some(BlockMode::Drop),
            (false, false) => None,
        };
        FilterOptions { ignore: self.ignore.clone(), block, block_max: self.block_max }
    }

    /// How to block, if at all.
    pub(super) fn block(&self) -> Option<BlockOptions> {
        (self.block || self.block_dry_run).then(|| BlockOptions {
            threshold: self.block_threshold,
            ttl: self.block_ttl,
            max: self.block_max,
            dry_run: self.block_dry_run,
            bpffs: self.bpffs.clone(),
        })
    }

    /// Sources that are never an alert.
    pub(super) fn allow(&self) -> Vec<IpNet> {
        self.allow.clone()
    }
}

fn probability(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("must be a number from 0 to 1".to_owned()),
    }
}

/// A time to live as people write it.
pub(super) fn time_to_live(text: &str) -> Result<Duration, String> {
    let ttl = humantime::parse_duration(text).map_err(|error| format!("{error}; write 90s, 10m or 1h 30m"))?;
    if ttl < Duration::from_secs(1) || ttl > LONGEST_TTL {
        return Err("must be from 1 second to 365 days".to_owned());
    }
    Ok(ttl)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn parse(flags: &[&str]) -> Result<Args, String> {
        let line = Line::try_parse_from([&["run"], flags].concat()).map_err(|error| error.to_string())?;
        Ok(line.args)
    }

    #[test]
    fn nothing_is_blocked_unless_asked_for() {
        let args = parse(&[]).unwrap();
        assert!(args.block().is_none() && args.filter().block.is_none());
        assert_eq!(parse(&["--block"]).unwrap().filter().block, Some(BlockMode::Drop));
    }

    #[test]
    fn a_dry_run_wins_over_blocking() {
        for flags in [["--block-dry-run"].as_slice(), &["--block", "--block-dry-run"]] {
            let args = parse(flags).unwrap();
            assert!(args.block().unwrap().dry_run);
            assert_eq!(args.filter().block, Some(BlockMode::DryRun));
        }
    }

    #[test]
    fn values_out_of_range_are_refused_in_words() {
        for (flags, expected) in [
            (["--block-threshold", "1.5"], "from 0 to 1"),
            (["--block-threshold", "NaN"], "from 0 to 1"),
            (["--block-ttl", "0s"], "from 1 second"),
            (["--block-ttl", "2years"], "365 days"),
            (["--block-ttl", "10"], "10m"),
            (["--block-max", "0"], "1..="),
            (["--allow", "10.0.0.0/33"], "10.0.0.0/8"),
            (["--ignore", "port:dns"], "0 to 65535"),
        ] {
            let error = parse(&flags).err().unwrap();
            assert!(error.contains(expected), "{flags:?}: {error}");
        }
    }

    #[test]
    fn lists_are_given_by_several_flags_or_with_commas() {
        let args =
            parse(&["--allow", "10.0.0.0/8,fd00::/8", "--allow", "192.0.2.1", "--ignore", "tcp:22,port:53"]).unwrap();
        assert_eq!((args.allow().len(), args.filter().ignore.len()), (3, 2));
    }
}
