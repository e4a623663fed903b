//! Flags of the events that `run` writes, and the `stats` event that comes round by itself.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

use super::wiring::SensorView;
use crate::{
    alert::Severities,
    api::SensorHealth as _,
    kubernetes::Pods,
    sink::{
        Event, EventKind, Origin,
        eve::{StatsSource, stats},
        node_name,
    },
};

const HEADING: &str = "Events";
/// Shortest time between two `stats` events.
const SHORTEST: Duration = Duration::from_secs(1);

/// The flags.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct EventArgs {
    /// Seed of the Community IDs in events: the same for all tools whose events are to be joined
    #[arg(long, env = "ML_IDS_COMMUNITY_ID_SEED", value_name = "N", default_value_t = 0, help_heading = HEADING)]
    community_id_seed: u16,
    /// Time between two stats events, 0 for none
    #[arg(long, env = "ML_IDS_STATS_INTERVAL", value_name = "TIME", default_value = "1m", value_parser = stats_interval, help_heading = HEADING)]
    stats_interval: Duration,
}

impl Default for EventArgs {
    fn default() -> Self {
        Self { community_id_seed: 0, stats_interval: Duration::from_secs(60) }
    }
}

impl EventArgs {
    /// Where events come from.
    pub(super) fn origin(&self, severities: Severities, pods: Option<Arc<Pods>>) -> Origin {
        Origin { host: node_name(), community_id_seed: self.community_id_seed, severities, pods }
    }

    /// Sends a `stats` event to the sinks each time the interval is over. Needs a runtime.
    pub(super) fn report_stats(&self, view: Arc<SensorView>) -> Option<JoinHandle<()>> {
        let (every, begun, host) = (self.stats_interval, Instant::now(), node_name());
        (!every.is_zero()).then(|| {
            tokio::spawn(async move {
                let mut ticks = interval(every);
                // After a stall one event says it all.
                ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
                // The first one comes at once and has nothing to tell.
                ticks.tick().await;
                loop {
                    ticks.tick().await;
                    if !view.hub.wants(EventKind::Stats) {
                        continue;
                    }
                    let sensor = view.snapshot();
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                    let source = StatsSource {
                        now_us: now.as_micros().try_into().unwrap_or(u64::MAX),
                        host: &host,
                        uptime: begun.elapsed(),
                        sensor: &sensor,
                        resident_bytes: resident_bytes(),
                    };
                    view.hub.emit(&Event::new(EventKind::Stats, &stats(&source)));
                }
            })
        })
    }
}

/// Memory of this process that is in RAM; 0 if the system does not tell.
fn resident_bytes() -> u64 {
    let statm = procfs::process::Process::myself().and_then(|process| process.statm());
    statm.map_or(0, |statm| statm.resident.saturating_mul(procfs::page_size()))
}

fn stats_interval(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let interval =
        humantime::parse_duration(text).map_err(|_| format!("{text} is no time; write 30s, 1m, or 0 for none"))?;
    if interval < SHORTEST {
        return Err("must be at least 1s, or 0 for none".to_owned());
    }
    Ok(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_a_time_of_at_least_a_second_or_none() {
        assert_eq!(stats_interval("0"), Ok(Duration::ZERO));
        assert_eq!(stats_interval("90s"), Ok(Duration::from_secs(90)));
        for text in ["0.5s", "500ms", "soon", "-1s", ""] {
            assert!(stats_interval(text).is_err(), "{text}");
        }
    }
}
