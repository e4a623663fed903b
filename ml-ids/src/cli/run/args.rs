//! The flags of `ml-ids run`.

use std::{path::PathBuf, time::Duration};

use clap::{ArgAction, builder::FalseyValueParser};

use crate::{
    cli::{
        alerts_args, decap::DecapArgs, events::EventArgs, keep::KeepArgs, kubernetes::KubernetesArgs,
        privileges::PrivilegeArgs, response, serve::ListenArgs, sinks::SinkArgs, source::ModelArgs,
    },
    sensor::{AttachMode, InterfacePattern, Options, PIN_DIRECTORY},
};

const EXAMPLES: &str = "\
Examples:
  ml-ids run                                   the interface of the default route
  ml-ids run -i eth0 -i eth1 --attach mirror   two mirror (SPAN) ports
  ml-ids run -i 'veth*' -i wg0                 all veths, those to come too, and a tunnel
  ml-ids run -i eth0 --model forest.onnx --log-dir /var/log/ml-ids
  ml-ids run -i eth0 --model mlflow:ids@production --model-refresh 1m \\
      --mlflow-tracking-uri https://mlflow.example.org --shadow mlflow:ids@candidate
  ml-ids run -i eth0 --pin                     goes on with the same flows after a restart
  ml-ids run -i eth0 --sink syslog+tcp://logs.example:601 \\
      --sink 'nats://bus.example/site?types=alert,stats'
  ml-ids run -i eth0 --ignore udp:53 --allow 10.0.0.0/8
  ml-ids run -i eth0 --block-dry-run           what would be blocked
  ml-ids run -i eth0 --block --block-ttl 1h    block the sources of alerts
  ml-ids run -i eth0 --dry-run                 what it would do, without doing it";

/// Watch interfaces: count flows in the kernel, judge each when it ends, serve the API
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Args {
    /// Interface to watch, by name or by a pattern with * and ?; may be given several times [default: that of the default route]
    ///
    /// A pattern stands for all interfaces that match it now or later. An interface that disappears is attached again when
    /// one of that name appears; /health is degraded as long as one that is named is gone or down.
    #[arg(short, long = "interface", value_name = "IFACE", env = "CIC_INTERFACE", value_delimiter = ',')]
    pub(super) interfaces: Vec<InterfacePattern>,
    /// Wait for an interface that is named but not there yet, instead of ending
    #[arg(long)]
    pub(super) wait_for_interface: bool,
    /// Directions to watch: sent and received packets (host), received only (mirror), or what fits the interface
    ///
    /// Received packets are taken from XDP in the driver, else from XDP in the stack, else from TCX, else from a clsact
    /// filter; sent ones from TCX, else from a clsact filter. Interfaces without an Ethernet header (tun, WireGuard, PPP,
    /// tunnels) are watched by TCX or clsact both ways. On loopback each packet is sent and received, and counted when it
    /// is received, whatever the mode. A hook that sees nothing while the interface counts packets is moved to the next
    /// of these places.
    #[arg(long, value_enum, default_value_t)]
    pub(super) attach: AttachMode,
    /// Flows that the table holds, about 630 bytes of kernel memory each; what it takes is logged at start
    #[arg(long, value_name = "N", default_value_t = Options::default().max_flows, value_parser = clap::value_parser!(u32).range(1024..=16_777_216))]
    pub(super) max_flows: u32,
    /// Ring buffer between kernel and agent, a power of two of at least 64 KiB
    #[arg(long, value_name = "BYTES", default_value_t = Options::default().ring_bytes, value_parser = ring_bytes)]
    pub(super) ring_bytes: u32,
    /// How long a terminated flow waits for late packets before it is judged
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(super) linger: Duration,
    /// Least time between two looks for flows that end without a further packet; they end at most that much late
    #[arg(long, value_name = "SECONDS", default_value = "0.01", value_parser = seconds)]
    pub(super) sweep_interval: Duration,
    /// Keep the programs attached and the flow table in the kernel when the sensor ends, however it ends; the next one with
    /// the same options goes on with the same flows, and nothing goes by uncounted in between. `ml-ids unpin` removes them
    #[arg(long)]
    pub(super) pin: bool,
    /// Where --pin pins: a directory of a BPF file system
    #[arg(long, value_name = "DIR", default_value = PIN_DIRECTORY)]
    pub(super) pin_dir: PathBuf,
    /// Where positive_predictions.log, negative_predictions.log, eve.json and block_events.log go
    #[arg(long, value_name = "DIR", env = "LOG_DIR", default_value = "logs")]
    pub(super) log_dir: PathBuf,
    /// Log verdicts that are no alerts, too
    #[arg(long, env = "LOG_NEGATIVE_PREDICTIONS", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new())]
    pub(super) log_negative_predictions: bool,
    #[command(flatten)]
    pub(super) sinks: SinkArgs,
    #[command(flatten)]
    pub(super) decap: DecapArgs,
    #[command(flatten)]
    pub(super) alert_rules: alerts_args::RuleArgs,
    #[command(flatten)]
    pub(super) alerts_kept: alerts_args::KeptArgs,
    #[command(flatten)]
    pub(super) events: EventArgs,
    #[command(flatten)]
    pub(super) kubernetes: KubernetesArgs,
    #[command(flatten)]
    pub(super) response: response::Args,
    #[command(flatten)]
    pub(super) listen: ListenArgs,
    #[command(flatten)]
    pub(super) model: ModelArgs,
    #[command(flatten)]
    pub(super) keep: KeepArgs,
    /// Say what would be attached, loaded, listened on and written, and what stands in the way; change nothing
    ///
    /// Ends with 0 if the sensor would start, else with the exit code that it would fail with.
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) privileges: PrivilegeArgs,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let value: f64 = text.parse().map_err(|_| format!("{text} is not a number of seconds; write 0.5 or 2"))?;
    let duration = Duration::try_from_secs_f64(value).map_err(|error| error.to_string())?;
    let (least, most) = (Duration::from_millis(10), Duration::from_secs(120));
    if duration < least || duration > most {
        return Err("must be from 0.01 to 120 seconds".to_owned());
    }
    Ok(duration)
}

fn ring_bytes(text: &str) -> Result<u32, String> {
    let bytes: u32 = text.parse().map_err(|_| format!("{text} is not a number of bytes; write 4194304 for 4 MiB"))?;
    if !bytes.is_power_of_two() || !(65_536..=1 << 30).contains(&bytes) {
        return Err("must be a power of two from 65536 to 1073741824".to_owned());
    }
    Ok(bytes)
}
