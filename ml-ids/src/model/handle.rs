//! The model at work, which another may replace between two batches.

use std::sync::{Arc, PoisonError, RwLock};

use super::Model;

/// A model at work and how it came here.
#[derive(Clone, Debug)]
pub struct Live {
    /// The model.
    pub model: Arc<Model>,
    /// How it came here.
    pub origin: Origin,
}

/// How a model came here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// What the source stood for, `mlflow:NAME/VERSION`; `None` where the source says all.
    pub resolved: Option<String>,
    /// It is the last good one of that source, from the disk: the source was away or what it gave was refused.
    pub cached: bool,
}

/// Shared by all that score. Whoever takes the model keeps it until done with a batch, so that no batch has two.
#[derive(Debug)]
pub struct ModelHandle(RwLock<Live>);

impl ModelHandle {
    /// A handle of this model.
    #[must_use]
    pub const fn new(live: Live) -> Self {
        Self(RwLock::new(live))
    }

    /// The model now.
    #[must_use]
    pub fn current(&self) -> Live {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another model to work. Returns the one before.
    pub fn swap(&self, live: Live) -> Live {
        std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), live)
    }
}

impl From<Model> for ModelHandle {
    fn from(model: Model) -> Self {
        Self::new(Live { model: Arc::new(model), origin: Origin::default() })
    }
}
