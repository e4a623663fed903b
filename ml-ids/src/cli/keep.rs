//! The model of a running sensor: loaded behind the API, looked after, replaced when its source has another, and watched by
//! a second one that decides nothing.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, anyhow, bail};
use log::{info, warn};
use tokio::time::sleep;

use super::{
    hangup::Hangups,
    model_view::{ModelPredictor, card},
    source::ModelArgs,
};
use crate::{
    api::{AppState, ModelSource, Refresh, ReloadError, ReloadStatus, Reloaded, ShadowHealth, SourceLooks},
    detect::{Shadow, ShadowCounts},
    model::{
        Keeper, KeeperOptions, Live, ModelError, ModelHandle, Outcome, RefreshError, Refreshed, Source, described,
    },
    privilege::Account,
};

/// Most frequent pairs of labels that `/health` shows.
const SHOWN_PAIRS: usize = 10;
/// Longest wait between two looks after looks that failed, in intervals.
const PATIENCE: u32 = 8;

/// How the model of a running sensor changes.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct KeepArgs {
    /// Look for another model that often, and put it to work when it has passed its checks; for example 30s or 5m. Without it
    /// only POST /model/reload and SIGHUP do
    #[arg(long, env = "ML_IDS_MODEL_REFRESH", value_name = "DURATION", value_parser = interval, help_heading = "Model")]
    model_refresh: Option<Duration>,
    /// A second model that scores the same flows and only reports where it disagrees, in /health and in the log
    #[arg(long, env = "ML_IDS_SHADOW", value_name = "SOURCE", help_heading = "Model")]
    pub(super) shadow: Option<Source>,
}

impl KeepArgs {
    /// The second model.
    pub(super) const fn shadow(&self) -> Option<&Source> {
        self.shadow.as_ref()
    }
}

/// The models of a running sensor.
#[derive(Clone)]
pub(super) struct Models {
    keeper: Arc<Keeper>,
    shadow: Option<(Arc<Keeper>, Arc<Shadow>)>,
    /// Time between two looks while all goes well.
    every: Option<Duration>,
}

impl Models {
    /// Loads the models off the event loop and puts the first behind the API.
    ///
    /// # Errors
    /// When one is refused; `GET /health` says so too.
    pub(super) async fn load(
        args: &ModelArgs,
        keep: &KeepArgs,
        account: &Arc<Account>,
        state: &Arc<AppState>,
        hangups: &Hangups,
    ) -> Result<Self> {
        let loaded = Self::load_both(args, keep, account, state, hangups).await;
        if let Err(error) = &loaded {
            state.set_model_failure(format!("{error:#}"));
        }
        loaded
    }

    async fn load_both(
        args: &ModelArgs,
        keep: &KeepArgs,
        account: &Arc<Account>,
        state: &Arc<AppState>,
        hangups: &Hangups,
    ) -> Result<Self> {
        let keeper = start(args.keeper_options()?, account).await?;
        let live = keeper.handle().current();
        let profile = live.model.contract().profile;
        info!(
            "model {} {} from {}: profile {}, {} trees, sha256 {}",
            live.model.name(),
            live.model.version(),
            live.origin.resolved.as_deref().unwrap_or(&args.source().to_string()),
            profile.name(),
            live.model.trees(),
            live.model.sha256()
        );
        keeper.pin_profile(profile);
        let shadow = match &keep.shadow {
            None => None,
            Some(source) => {
                // The checksum is of the model that decides.
                let options = args.keeper_options_of(source.clone())?.without_checksum();
                let keeper = start(options, account).await.context("--shadow cannot be used")?;
                let live = keeper.handle().current();
                let found = live.model.contract().profile;
                if found != profile {
                    bail!(
                        "--shadow: model {source} is of profile {} and that of --model of {}; both must see the same features",
                        found.name(),
                        profile.name()
                    );
                }
                keeper.pin_profile(profile);
                info!("shadow model {}", described(&live));
                let shadow = Arc::new(Shadow::start(keeper.handle()).context("cannot start the shadow's thread")?);
                let counts = Arc::clone(&shadow);
                keeper.on_change(move |_| counts.restart());
                Some((keeper, shadow))
            }
        };
        let models = Self { keeper, shadow, every: keep.model_refresh };
        let behind_api = {
            let (state, shadow) = (Arc::downgrade(state), models.shadow());
            move |live: &Live| {
                if let Some(state) = state.upgrade() {
                    state.set_predictor(Arc::new(ModelPredictor::new(live, shadow.clone())));
                }
            }
        };
        behind_api(&live);
        models.keeper.on_change(behind_api);
        state.set_model_source(Arc::new(models.clone()));
        models.look_after(hangups);
        Ok(models)
    }

    /// The model at work.
    pub(super) fn handle(&self) -> Arc<ModelHandle> {
        self.keeper.handle()
    }

    /// The second model.
    pub(super) fn shadow(&self) -> Option<Arc<Shadow>> {
        self.shadow.as_ref().map(|(_, shadow)| Arc::clone(shadow))
    }

    fn keepers(&self) -> impl Iterator<Item = &Arc<Keeper>> {
        [Some(&self.keeper), self.shadow.as_ref().map(|(keeper, _)| keeper)].into_iter().flatten()
    }

    /// Looks for other models now and then, and at SIGHUP.
    fn look_after(&self, hangups: &Hangups) {
        for keeper in self.keepers() {
            if let Some(every) = self.every {
                tokio::spawn(refresh(Arc::clone(keeper), every));
            }
        }
        let keepers: Vec<_> = self.keepers().cloned().collect();
        hangups.each(move || {
            for keeper in &keepers {
                // It says itself what came of it.
                let _ = keeper.reload();
            }
        });
    }
}

/// Loads a model off the event loop. One from elsewhere is kept in the cache, which belongs to the account; one of this host
/// may be readable for root alone.
async fn start(options: KeeperOptions, account: &Arc<Account>) -> Result<Arc<Keeper>> {
    let (source, account) = (options.source.clone(), Arc::clone(account));
    let started = tokio::task::spawn_blocking(move || match options.source {
        Source::Embedded | Source::File(_) => Ok(Keeper::start(options, &|_, _| {})),
        Source::Registered(_) | Source::S3 { .. } | Source::Web(_) => {
            account.with_files(|| Keeper::start(options, &|_, _| {}))
        }
    })
    .await;
    let started = started.unwrap_or_else(|error| Ok(Err(ModelError::Panicked(error.to_string()))));
    let started = started.context("cannot take the account's rights to files")?;
    started.map(Arc::new).map_err(|error| anyhow!(error).context(format!("model {source} is refused")))
}

/// Looks at the source for ever.
async fn refresh(keeper: Arc<Keeper>, every: Duration) {
    loop {
        let failures = keeper.looks().failures;
        let wait = wait(every, failures, RandomState::new().hash_one(failures));
        keeper.plan(SystemTime::now() + wait);
        sleep(wait).await;
        look(Arc::clone(&keeper), Keeper::refresh).await;
    }
}

/// One look, which says and notes itself what came of it.
async fn look(keeper: Arc<Keeper>, how: fn(&Keeper) -> Result<Refreshed, RefreshError>) {
    if let Err(error) = tokio::task::spawn_blocking(move || how(&keeper)).await {
        warn!("looking for another model ended early: {error}");
    }
}

/// The interval, longer after failures and never quite the same, so that a fleet does not ask all at once.
fn wait(every: Duration, failures: u32, random: u64) -> Duration {
    let longer = every * 2_u32.saturating_pow(failures).min(PATIENCE);
    let share = (random % 1024) as f64 / 1024.0;
    longer.mul_f64(0.8 + 0.2 * share)
}

impl ModelSource for Models {
    fn reload(&self) -> Result<Reloaded, ReloadError> {
        let (status, old, new) = match self.keeper.reload() {
            Ok(Refreshed::Unchanged(live)) => (ReloadStatus::Unchanged, card(&live), card(&live)),
            Ok(Refreshed::Swapped { old, new }) => (ReloadStatus::Swapped, card(&old), card(&new)),
            Err(RefreshError::Busy) => return Err(ReloadError::Busy),
            Err(RefreshError::Model(error @ (ModelError::Fetch(_) | ModelError::Source(_)))) => {
                return Err(ReloadError::Source(error.to_string()));
            }
            Err(RefreshError::Model(error)) => return Err(ReloadError::Refused(error.to_string())),
        };
        Ok(Reloaded { status, old, new })
    }

    fn reasons(&self) -> Vec<String> {
        let shadow = self.shadow.iter().flat_map(|(keeper, _)| keeper.reasons());
        self.keeper.reasons().into_iter().chain(shadow.map(|reason| format!("shadow: {reason}"))).collect()
    }

    fn refresh(&self) -> Refresh {
        let looks = self.keeper.looks();
        Refresh {
            interval_seconds: self.every.as_ref().map(Duration::as_secs_f64),
            last_look: looks.at,
            outcome: looks.outcome.name(),
            failures: looks.failures,
            next_look: looks.next,
        }
    }

    fn looks(&self) -> Option<SourceLooks> {
        let looks = self.keeper.looks();
        let failed = Outcome::ALL.into_iter().filter(|outcome| matches!(outcome, Outcome::Failed(_)));
        let well_at = looks.well_at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Some(SourceLooks {
            outcomes: Outcome::ALL.iter().map(|outcome| outcome.name()).zip(looks.counts).collect(),
            troubles: failed.map(|outcome| (outcome.name(), looks.outcome == outcome)).collect(),
            well_at: well_at.unwrap_or_default().as_secs(),
        })
    }

    fn shadow(&self) -> Option<ShadowHealth> {
        let shadow = &self.shadow.as_ref()?.1;
        let ShadowCounts { compared, labels_differ, alerts_missed, alerts_added, skipped, failed, pairs } =
            shadow.counts();
        let mut pairs: Vec<_> =
            pairs.into_iter().map(|(pair, count)| (format!("{} -> {}", pair.model, pair.shadow), count)).collect();
        pairs.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        pairs.truncate(SHOWN_PAIRS);
        Some(ShadowHealth {
            model: card(&shadow.current()),
            compared,
            labels_differ,
            alerts_missed,
            alerts_added,
            skipped,
            failed,
            disagreements: BTreeMap::from_iter(pairs),
        })
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| format!("{error}; write 30s, 5m or 1h"))?;
    if duration < Duration::from_secs(1) || duration > Duration::from_secs(86_400) {
        return Err("must be from 1s to 1day".to_owned());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_shorter_than_the_interval_and_grow_with_failures_up_to_a_limit() {
        let every = Duration::from_secs(10);
        for random in [0, 500, 1023, u64::MAX] {
            let first = wait(every, 0, random);
            assert!(first <= every && first >= Duration::from_secs(8), "{first:?}");
            assert!(wait(every, 2, random) >= Duration::from_secs(32));
            assert!(wait(every, 1000, random) <= every * PATIENCE);
        }
    }

    #[test]
    fn intervals_are_written_with_a_unit() {
        assert_eq!(interval("5m"), Ok(Duration::from_secs(300)));
        for text in ["5", "0s", "100ms", "2weeks", "soon"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }
}
