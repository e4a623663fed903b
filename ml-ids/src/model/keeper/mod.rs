//! Keeps the model of a source at work: loads it, looks whether the source has another, checks that one and swaps it in.
//! What is refused or away leaves the model that works.

mod looks;
#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError},
    time::{Duration, SystemTime},
};

use log::{info, warn};
use ml_ids_common::Profile;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

pub(crate) use self::looks::Outcome;
use self::looks::{Kind, Looks, Trouble};
use super::{
    Cache, Fetched, Fetcher, Live, LoadOptions, Mark, Model, ModelError, ModelHandle, Origin, Progress, Source,
    cache::Kept, hex,
};

/// What a keeper works with.
#[derive(Clone, Debug)]
pub struct KeeperOptions {
    /// Where the model comes from.
    pub source: Source,
    /// Reads it from there.
    pub fetcher: Arc<Fetcher>,
    /// What it must satisfy.
    pub load: LoadOptions,
    /// Where the last good one of each remote source is kept.
    pub cache: Option<Cache>,
}

impl KeeperOptions {
    /// The same for any file of the source.
    #[must_use]
    pub fn without_checksum(self) -> Self {
        Self { load: LoadOptions { sha256: None, ..self.load }, ..self }
    }
}

/// See the module.
pub struct Keeper {
    options: KeeperOptions,
    handle: Arc<ModelHandle>,
    /// Held while the source is looked at, so that there is one look at a time.
    look: Mutex<Seen>,
    looks: Mutex<Looks>,
    /// The only profile that is let in; flows are counted by it. Unset, any is.
    profile: OnceLock<Profile>,
    changed: OnceLock<Listener>,
}

/// Told of each model that is swapped in.
type Listener = Box<dyn Fn(&Live) + Send + Sync>;

/// What the source bore when it was last read.
#[derive(Debug, Default)]
struct Seen {
    mark: Option<Mark>,
    /// Why that was refused then, if it was.
    refused: Option<String>,
}

/// A model that was read and loaded.
struct New {
    live: Live,
    bytes: Cow<'static, [u8]>,
}

/// What a look at the source led to.
#[derive(Debug)]
pub enum Refreshed {
    /// The model at work is the source's.
    Unchanged(Live),
    /// The source has another, which is at work now.
    Swapped {
        /// The model before.
        old: Live,
        /// The model now.
        new: Live,
    },
}

/// Why the model at work stays.
#[derive(Debug, Error)]
pub enum RefreshError {
    /// Another look is not over yet.
    #[error("the model is being loaded already")]
    Busy,
    /// The source is away, or what it has is refused.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl Keeper {
    /// Loads the model. If the source is away or what it has is refused, the last good one of the cache.
    ///
    /// # Errors
    /// When there is neither.
    pub fn start(options: KeeperOptions, progress: Progress<'_>) -> Result<Self, ModelError> {
        let (live, seen, trouble) = match load(&options, None, progress) {
            Ok(None) => return Err(ModelError::Engine("the source is unchanged since it was never read".to_owned())),
            Ok(Some((mark, Ok(new)))) => {
                keep(&options, &new);
                (new.live, Seen { mark, refused: None }, None)
            }
            Ok(Some((mark, Err(error)))) => {
                let (live, trouble) = last_good(&options, error, Kind::Refused)?;
                (live, Seen { mark, refused: Some(trouble.error.clone()) }, Some(trouble))
            }
            Err(error) => {
                let kind = Kind::of(&error);
                let (live, trouble) = last_good(&options, error, kind)?;
                (live, Seen::default(), Some(trouble))
            }
        };
        Ok(Self {
            options,
            handle: Arc::new(ModelHandle::new(live)),
            look: Mutex::new(seen),
            looks: Mutex::new(Looks::first(trouble)),
            profile: OnceLock::new(),
            changed: OnceLock::new(),
        })
    }

    /// The model at work.
    #[must_use]
    pub fn handle(&self) -> Arc<ModelHandle> {
        Arc::clone(&self.handle)
    }

    /// Where the model comes from.
    #[must_use]
    pub const fn source(&self) -> &Source {
        &self.options.source
    }

    /// From now on only models of this profile are let in.
    pub fn pin_profile(&self, profile: Profile) {
        let _already = self.profile.set(profile).is_err();
    }

    /// Calls `changed` with each model that is swapped in from now on, before the look that brought it ends.
    pub fn on_change(&self, changed: impl Fn(&Live) + Send + Sync + 'static) {
        let _already = self.changed.set(Box::new(changed)).is_err();
    }

    /// Looks at the source, and takes its model if it is another than the last time. Cheap where nothing has changed.
    ///
    /// # Errors
    /// When another look is going on, the source is away, or its model is refused.
    pub fn refresh(&self) -> Result<Refreshed, RefreshError> {
        let seen = self.begin()?;
        let known = seen.mark.clone();
        self.look(seen, known.as_ref())
    }

    /// The same, and a model that was refused is tried again.
    ///
    /// # Errors
    /// As [`Keeper::refresh`].
    pub fn reload(&self) -> Result<Refreshed, RefreshError> {
        let seen = self.begin()?;
        let known = seen.mark.clone().filter(|_| seen.refused.is_none());
        self.look(seen, known.as_ref())
    }

    /// Why the model at work may not be the source's, in words; empty if nothing is known to be wrong.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        let live = self.handle.current();
        let trouble = self.record().trouble.clone();
        let source = &self.options.source;
        let works = live.origin.resolved.unwrap_or_else(|| live.model.version().to_owned());
        trouble
            .into_iter()
            .map(|Trouble { error, since, kind }| {
                let cached = if live.origin.cached { ", from the cache," } else { "" };
                let lasted = humantime::format_duration(Duration::from_secs(since.elapsed().as_secs()));
                let what = match kind {
                    Kind::Away => format!("{source} is away for {lasted}"),
                    Kind::Denied => format!("{source} gives no model for {lasted}"),
                    Kind::Refused => format!("the model of {source} is refused"),
                };
                format!("{what} and {works}{cached} stays at work: {error}")
            })
            .collect()
    }

    /// What came of the looks so far.
    pub(crate) fn looks(&self) -> Looks {
        self.record().clone()
    }

    /// Notes when the next look is due.
    pub(crate) fn plan(&self, next: SystemTime) {
        self.record().next = Some(next);
    }

    fn begin(&self) -> Result<MutexGuard<'_, Seen>, RefreshError> {
        match self.look.try_lock() {
            Ok(seen) => Ok(seen),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(RefreshError::Busy),
        }
    }

    fn look(&self, mut seen: MutexGuard<'_, Seen>, known: Option<&Mark>) -> Result<Refreshed, RefreshError> {
        let options = &self.options;
        let old = self.handle.current();
        let (mark, loaded) = match load(options, known.map(|known| (known, &old)), &|_, _| {}) {
            Ok(Some(read)) => read,
            Ok(None) => {
                match &seen.refused {
                    // Unchanged since it was refused is no better; a server that was away meanwhile is back.
                    Some(reason) => {
                        let news = self.record().still_refused(reason.clone());
                        self.tell(reason, news);
                    }
                    None => self.went_well(Outcome::Unchanged),
                }
                return Ok(Refreshed::Unchanged(old));
            }
            Err(error) => {
                let kind = Kind::of(&error);
                return Err(self.failed(error, kind));
            }
        };
        let new = loaded.and_then(|new| self.admit(new));
        *seen = Seen { mark, refused: new.as_ref().err().map(ToString::to_string) };
        let new = match new {
            Ok(new) => {
                keep(options, &new);
                new.live
            }
            Err(error) => return Err(self.failed(error, Kind::Refused)),
        };
        let same = new.model.sha256() == old.model.sha256();
        self.went_well(if same { Outcome::Unchanged } else { Outcome::Swapped });
        if same && new.origin == old.origin {
            return Ok(Refreshed::Unchanged(old));
        }
        // The same file under another version is no other model, but it has another name.
        let new = if same { Live { model: Arc::clone(&old.model), ..new } } else { new };
        self.handle.swap(new.clone());
        if let Some(changed) = self.changed.get() {
            changed(&new);
        }
        if same {
            return Ok(Refreshed::Unchanged(new));
        }
        info!("model {} is at work in place of {}", described(&new), described(&old));
        Ok(Refreshed::Swapped { old, new })
    }

    fn admit(&self, new: New) -> Result<New, ModelError> {
        let found = new.live.model.contract().profile;
        match self.profile.get() {
            Some(&running) if running != found => {
                Err(ModelError::Profile { found: found.name(), running: running.name() })
            }
            _ => Ok(new),
        }
    }

    fn record(&self) -> MutexGuard<'_, Looks> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, error: ModelError, kind: Kind) -> RefreshError {
        let words = error.to_string();
        let news = self.record().failed(words.clone(), kind);
        self.tell(&words, news);
        RefreshError::Model(error)
    }

    /// Says in the log what is wrong, once.
    fn tell(&self, error: &str, news: bool) {
        if news {
            warn!("model {} stays at work; {}: {error}", self.handle.current().model.version(), self.options.source);
        }
    }

    fn went_well(&self, outcome: Outcome) {
        let over = self.record().well(outcome);
        if let Some(Trouble { since, .. }) = over {
            let lasted = Duration::from_secs(since.elapsed().as_secs());
            info!(
                "{} answers with a good model again, after {}",
                self.options.source,
                humantime::format_duration(lasted)
            );
        }
    }
}

/// A model in a few words, for the log.
#[must_use]
pub(crate) fn described(Live { model, origin }: &Live) -> String {
    let resolved = origin.resolved.as_ref().map_or_else(String::new, |resolved| format!(" ({resolved})"));
    let cached = if origin.cached { ", from the cache" } else { "" };
    format!("{} {}{resolved}{cached}, sha256 {:.12}…", model.name(), model.version(), model.sha256())
}

type Read = (Option<Mark>, Result<New, ModelError>);

/// Reads the source and loads what it has; `None` if it is as it was. The outer error is the source's, the inner one the
/// model's.
fn load(
    options: &KeeperOptions,
    known: Option<(&Mark, &Live)>,
    progress: Progress<'_>,
) -> Result<Option<Read>, ModelError> {
    let KeeperOptions { source, fetcher, load, cache: _ } = options;
    let fetched = fetcher.fetch(source, known.map(|(mark, _)| mark), load.max_bytes, progress)?;
    let Fetched::Bytes { bytes, mark, resolved } = fetched else { return Ok(None) };
    let origin = Origin { resolved, cached: false };
    if let Some((_, old)) = known
        && hex(&Sha256::digest(&bytes)) == old.model.sha256()
    {
        let live = Live { model: Arc::clone(&old.model), origin };
        return Ok(Some((mark, Ok(New { live, bytes }))));
    }
    let model = Model::from_bytes(&bytes, source.clone(), load);
    Ok(Some((mark, model.map(|model| New { live: Live { model: Arc::new(model), origin }, bytes }))))
}

/// Keeps a model that has been let in.
fn keep(KeeperOptions { source, fetcher, cache, .. }: &KeeperOptions, New { live, bytes }: &New) {
    let Some(cache) = cache.as_ref().filter(|_| source.is_remote()) else { return };
    if let Err(error) = cache.keep((source, &fetcher.authority(source)), bytes, live.origin.resolved.as_deref()) {
        warn!("model {source} is not kept for the day on which its server is away: {error}");
    }
}

/// The last good model of the source, where that is better than none.
fn last_good(options: &KeeperOptions, error: ModelError, kind: Kind) -> Result<(Live, Trouble), ModelError> {
    let KeeperOptions { source, fetcher, load, cache } = options;
    let Some(cache) = cache.as_ref().filter(|_| source.is_remote() && kind != Kind::Denied) else { return Err(error) };
    let kept = cache.last_good((source, &fetcher.authority(source)), load.max_bytes);
    let Kept { bytes, resolved } = match kept {
        Ok(kept) => kept,
        Err(reason) => {
            warn!("{reason}");
            return Err(error);
        }
    };
    let model = match Model::from_bytes(&bytes, source.clone(), load) {
        Ok(model) => Arc::new(model),
        Err(reason) => {
            warn!("the last good model of {source} in the cache is refused: {reason}");
            return Err(error);
        }
    };
    let live = Live { model, origin: Origin { resolved, cached: true } };
    warn!("{error}; the last good model {} is at work", described(&live));
    Ok((live, Trouble::new(error.to_string(), kind)))
}
