//! A second model that scores the same flows, in a thread of its own, and only counts where it disagrees.
//!
//! It never holds up the first: what it has no time for is skipped and counted.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use log::{info, warn};

use crate::{
    features::FeatureVector,
    model::{Live, Model, ModelHandle, Score},
};

/// Most flows that wait for the second model, about 10 MiB.
const WAITING: usize = 16_384;
/// Least time between two lines about disagreements in the log.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// The second model at work.
pub struct Shadow {
    models: Arc<ModelHandle>,
    /// Bounded by what waits, in flows: a number of batches would say little of their size.
    queue: Mutex<Sender<Batch>>,
    shared: Arc<Shared>,
}

/// What the thread and its clients share.
#[derive(Debug, Default)]
struct Shared {
    /// Flows in the queue.
    waiting: AtomicUsize,
    counts: Mutex<ShadowCounts>,
}

/// Flows with the first model's answer.
struct Batch {
    model: Arc<Model>,
    rows: Vec<FeatureVector>,
    said: Vec<Said>,
}

#[derive(Clone, Copy)]
struct Said {
    class: usize,
    alert: bool,
}

/// Two labels of one flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Disagreement {
    /// The model at work's.
    pub model: String,
    /// The second model's.
    pub shadow: String,
}

/// What was found since the start, or since the second model was replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShadowCounts {
    /// Flows that both have scored.
    pub compared: u64,
    /// Of these, flows with different labels.
    pub labels_differ: u64,
    /// Of these, alerts of the model at work only.
    pub alerts_missed: u64,
    /// Of these, alerts of the second model only.
    pub alerts_added: u64,
    /// Flows that the second model had no time for.
    pub skipped: u64,
    /// Flows that the second model failed on.
    pub failed: u64,
    /// How often each pair of different labels came up. As many at most as there are pairs of classes.
    pub pairs: BTreeMap<Disagreement, u64>,
}

impl Shadow {
    /// Starts the thread. It ends when this is dropped.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(models: Arc<ModelHandle>) -> io::Result<Self> {
        let (queue, batches) = channel();
        let shared = Arc::new(Shared::default());
        let worker = Worker { models: Arc::clone(&models), shared: Arc::clone(&shared) };
        thread::Builder::new().name("ml-ids-shadow".to_owned()).spawn(move || worker.work(&batches))?;
        Ok(Self { models, queue: Mutex::new(queue), shared })
    }

    /// The second model.
    #[must_use]
    pub fn current(&self) -> Live {
        self.models.current()
    }

    /// What was found so far.
    #[must_use]
    pub fn counts(&self) -> ShadowCounts {
        self.shared.counts().clone()
    }

    /// Begins to count anew, for another second model.
    pub fn restart(&self) {
        *self.shared.counts() = ShadowCounts::default();
    }

    /// Gives it flows that `model` has scored. Returns at once.
    pub fn offer<'a>(&self, model: &Arc<Model>, flows: impl ExactSizeIterator<Item = (&'a FeatureVector, &'a Score)>) {
        let count = flows.len();
        if count == 0 {
            return;
        }
        if self.shared.waiting.load(Ordering::Relaxed) + count > WAITING {
            self.shared.counts().skipped += count as u64;
            return;
        }
        self.shared.waiting.fetch_add(count, Ordering::Relaxed);
        let (rows, said) = flows.map(|(row, score)| (*row, Said { class: score.class, alert: score.alert })).unzip();
        let batch = Batch { model: Arc::clone(model), rows, said };
        if self.queue.lock().unwrap_or_else(PoisonError::into_inner).send(batch).is_err() {
            // The thread has ended by a panic, which its hook has shown.
            self.shared.counts().failed += count as u64;
        }
    }
}

impl Shared {
    fn counts(&self) -> MutexGuard<'_, ShadowCounts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Worker {
    models: Arc<ModelHandle>,
    shared: Arc<Shared>,
}

impl Worker {
    fn work(&self, batches: &Receiver<Batch>) {
        let mut said = None;
        let mut before = ShadowCounts::default();
        while let Ok(batch) = batches.recv() {
            let count = batch.rows.len();
            self.compare(&batch);
            self.shared.waiting.fetch_sub(count, Ordering::Relaxed);
            if said.is_none_or(|said: Instant| said.elapsed() >= LOG_EVERY) {
                let now = self.shared.counts().clone();
                if now.compared < before.compared {
                    before = ShadowCounts::default();
                }
                if now.labels_differ > before.labels_differ || now.failed > before.failed {
                    report(&before, &now);
                    said = Some(Instant::now());
                    before = now;
                }
            }
        }
    }

    fn compare(&self, Batch { model, rows, said }: &Batch) {
        let shadow = self.models.current().model;
        let scores = match shadow.score(rows) {
            Ok(scores) => scores,
            Err(error) => {
                warn!("the shadow model cannot score {} flows: {error}; verdicts are not touched", rows.len());
                self.shared.counts().failed += rows.len() as u64;
                return;
            }
        };
        let mut counts = self.shared.counts();
        for (said, score) in said.iter().zip(scores) {
            let first = label(model, said.class);
            let second = label(&shadow, score.class);
            counts.compared += 1;
            counts.alerts_missed += u64::from(said.alert && !score.alert);
            counts.alerts_added += u64::from(score.alert && !said.alert);
            // By name: two models may number their classes differently.
            if first != second {
                counts.labels_differ += 1;
                let pair = Disagreement { model: first.to_owned(), shadow: second.to_owned() };
                *counts.pairs.entry(pair).or_default() += 1;
            }
        }
    }
}

fn label(model: &Model, class: usize) -> &str {
    model.contract().classes.get(class).map_or("", String::as_str)
}

/// One line about what has come since the last.
fn report(before: &ShadowCounts, now: &ShadowCounts) {
    let news = |pair: &Disagreement, count: u64| count.saturating_sub(before.pairs.get(pair).copied().unwrap_or(0));
    let most = now.pairs.iter().max_by_key(|(pair, count)| news(pair, **count));
    let example = most.map_or_else(String::new, |(Disagreement { model, shadow }, _)| {
        format!(", most often on what is {model} to one and {shadow} to the other")
    });
    info!(
        "the shadow model disagrees on {} of {} flows{example}; {} alerts missed, {} added, {} flows skipped, {} failed",
        now.labels_differ.saturating_sub(before.labels_differ),
        now.compared.saturating_sub(before.compared),
        now.alerts_missed.saturating_sub(before.alerts_missed),
        now.alerts_added.saturating_sub(before.alerts_added),
        now.skipped.saturating_sub(before.skipped),
        now.failed.saturating_sub(before.failed),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::FEATURE_COUNT;

    const ROW: FeatureVector = [0.0; FEATURE_COUNT];

    /// The counts once `done` flows have been dealt with.
    fn counts(shadow: &Shadow, done: u64) -> ShadowCounts {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let counts = shadow.counts();
            if counts.compared + counts.failed + counts.skipped == done {
                return counts;
            }
            assert!(Instant::now() < end, "{counts:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn labels_and_alerts_that_differ_are_counted_and_begin_anew_with_another_model() {
        let model = Arc::new(Model::embedded().unwrap());
        let shadow = Shadow::start(Arc::new(Model::embedded().unwrap().into())).unwrap();
        let same = model.score(&[ROW]).unwrap().remove(0);
        let class = usize::from(same.class == 0);
        let other = Score { class, alert: !same.alert, ..same.clone() };
        shadow.offer(&model, [(&ROW, &same), (&ROW, &other), (&ROW, &other)].into_iter());
        let ShadowCounts { labels_differ, alerts_missed, alerts_added, pairs, .. } = counts(&shadow, 3);
        assert_eq!((labels_differ, alerts_missed + alerts_added), (2, 2));
        let [expected, found] = [class, same.class].map(|class| model.contract().classes[class].clone());
        assert_eq!(pairs, BTreeMap::from([(Disagreement { model: expected, shadow: found }, 2)]));
        shadow.restart();
        assert_eq!(shadow.counts(), ShadowCounts::default());
    }

    #[test]
    fn what_there_is_no_room_for_is_skipped_and_counted() {
        let model = Arc::new(Model::embedded().unwrap());
        let shadow = Shadow::start(Arc::new(Model::embedded().unwrap().into())).unwrap();
        let score = model.score(&[ROW]).unwrap().remove(0);
        shadow.offer(&model, vec![(&ROW, &score); WAITING + 1].into_iter());
        assert_eq!(shadow.counts(), ShadowCounts { skipped: WAITING as u64 + 1, ..ShadowCounts::default() });
        shadow.offer(&model, [(&ROW, &score)].into_iter());
        assert_eq!(counts(&shadow, WAITING as u64 + 2).compared, 1);
    }
}
