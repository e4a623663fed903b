//! The flags of `ml-ids run` that say what one alert is, how many are told, and where they are kept.

use std::{path::PathBuf, time::Duration};

use clap::{ArgAction, Args, builder::FalseyValueParser};

use super::state_dir::StateArgs;
use crate::alert::{
    AlertSettings, LONGEST, Severities, SeverityRule,
    store::{ALERT_DB, StoreOptions},
};

const DAY: Duration = Duration::from_secs(86_400);

/// What one alert is.
#[derive(Args, Clone, Debug)]
pub(super) struct RuleArgs {
    /// How long an alert waits for a further flow of the same class, source and target before it is over; it lasts an hour
    /// at most
    #[arg(long, value_name = "TIME", env = "ML_IDS_ALERT_WINDOW", default_value = "5m", value_parser = window, help_heading = "Alerts")]
    alert_window: Duration,
    /// Most alerts told in a minute; one more says how many were held back. As many again if they are of high severity. 0 is
    /// no limit
    #[arg(long, value_name = "N", env = "ML_IDS_ALERT_RATE", default_value_t = AlertSettings::default().rate, help_heading = "Alerts")]
    alert_rate: u32,
    /// How grave a class is, from 1 (high) to 4 (info), by how its name begins: 'DoS=3'; may be given several times
    #[arg(long, value_name = "CLASS=N", env = "ML_IDS_ALERT_SEVERITY", value_delimiter = ',', help_heading = "Alerts")]
    alert_severity: Vec<SeverityRule>,
}

/// Where alerts are kept, and how many.
#[derive(Args, Clone, Debug)]
pub(super) struct KeptArgs {
    #[command(flatten)]
    state: StateArgs,
    /// File that alerts are kept in [default: alerts.db in the state directory]
    #[arg(long, value_name = "FILE", env = "ML_IDS_ALERT_DB", help_heading = "Alerts")]
    alert_db: Option<PathBuf>,
    /// Keep alerts in memory only
    #[arg(long, env = "ML_IDS_NO_ALERT_DB", action = ArgAction::SetTrue, value_parser = FalseyValueParser::new(), help_heading = "Alerts")]
    no_alert_db: bool,
    /// Most alerts that are kept; the oldest go first
    #[arg(long, value_name = "N", env = "ML_IDS_ALERT_KEEP_ROWS", default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000), help_heading = "Alerts")]
    alert_keep_rows: u64,
    /// Days that alerts are kept
    #[arg(long, value_name = "DAYS", env = "ML_IDS_ALERT_KEEP_DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=36_500), help_heading = "Alerts")]
    alert_keep_days: u32,
}

impl Default for RuleArgs {
    fn default() -> Self {
        let AlertSettings { window, rate, .. } = AlertSettings::default();
        Self { alert_window: window, alert_rate: rate, alert_severity: Vec::new() }
    }
}

impl RuleArgs {
    /// How alerts are made.
    pub(super) fn settings(&self) -> AlertSettings {
        AlertSettings {
            window: self.alert_window,
            rate: self.alert_rate,
            severities: Severities::new(self.alert_severity.clone()),
            ..AlertSettings::default()
        }
    }
}

impl KeptArgs {
    /// The store, if there is to be one.
    pub(super) fn store(&self) -> Option<StoreOptions> {
        (!self.no_alert_db).then(|| StoreOptions {
            path: self.alert_db.clone().unwrap_or_else(|| self.state.directory().join(ALERT_DB)),
            keep_rows: self.alert_keep_rows,
            keep: DAY.saturating_mul(self.alert_keep_days),
        })
    }
}

fn window(text: &str) -> Result<Duration, String> {
    let window = humantime::parse_duration(text).map_err(|error| format!("{error}; write 90s, 5m or 1h"))?;
    if window < Duration::from_secs(1) || window > LONGEST {
        return Err("must be from 1 second to 1 hour".to_owned());
    }
    Ok(window)
}
