//! What a model of any kind computes: the trees' votes, and what is made of them.

use std::{fmt, sync::Arc};

use super::{
    linear::Linear,
    meaning::{Layer, Part, Source},
    softmax::round,
    trees::Forest,
    walk::InstructionSet,
};
use crate::features::FEATURE_COUNT;

/// The three kinds of model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The votes of a forest's leaves are the probabilities.
    Forest,
    /// A linear model on the probabilities of a forest and of linear models.
    Stacking,
    /// The sums of boosted trees go through a softmax.
    Boosted,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Forest, Self::Stacking, Self::Boosted];

    /// As the contract spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forest => "forest",
            Self::Stacking => "stacking",
            Self::Boosted => "boosted",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Trees, and what follows them.
pub(super) struct Predictor {
    pub(super) forest: Arc<Forest>,
    stacking: Option<Stacking>,
    /// What it runs on.
    pub(super) instructions: InstructionSet,
}

/// What a stacking makes of its trees' votes.
pub(super) struct Stacking {
    /// In the order of the columns that `last` looks at; `None` are the trees.
    parts: Vec<Option<Linear>>,
    last: Linear,
}

impl Predictor {
    /// What `graph` computes with its trees.
    pub(super) fn new(forest: Arc<Forest>, last: Option<&Layer>) -> Self {
        let stacking = last.map(|layer| {
            let parts = match &layer.source {
                Source::Parts(parts) => parts.iter().map(part).collect(),
                Source::Features => Vec::new(),
            };
            Stacking { parts, last: Linear::of(layer) }
        });
        Self { forest, stacking, instructions: InstructionSet::detect() }
    }

    pub(super) fn kind(&self) -> Kind {
        match (&self.stacking, &self.forest.base) {
            (Some(_), _) => Kind::Stacking,
            (None, Some(_)) => Kind::Boosted,
            (None, None) => Kind::Forest,
        }
    }

    /// The number of classes of a part that has other than `classes`.
    pub(super) fn odd_part(&self, classes: usize) -> Option<usize> {
        let linear = self.stacking.iter().flat_map(|stacking| stacking.parts.iter().flatten());
        let parts = linear.map(Linear::classes).chain([self.forest.classes, self.classes()]);
        parts.into_iter().find(|&found| found != classes)
    }

    /// Number of classes.
    pub(super) fn classes(&self) -> usize {
        self.stacking.as_ref().map_or(self.forest.classes, |stacking| stacking.last.classes())
    }

    /// Whether the answer depends on a feature.
    pub(super) fn looks_at(&self, feature: usize) -> bool {
        let linear = self.stacking.iter().flat_map(|stacking| stacking.parts.iter().flatten());
        self.forest.looks_at(feature) || linear.into_iter().any(|linear| linear.looks_at(feature))
    }

    /// The probabilities of each row of `input` (rows of 78): rows of one value a class.
    pub(super) fn evaluate(&self, input: &[f32], probabilities: &mut [f32]) {
        let mut sums = vec![0.0; input.len() / FEATURE_COUNT * self.forest.classes];
        self.forest.sums(self.instructions, input, &mut sums);
        match &self.stacking {
            None => round(&sums, probabilities),
            Some(stacking) => self.instructions.stack(stacking, input, &sums, probabilities),
        }
    }
}

fn part(part: &Part) -> Option<Linear> {
    match part {
        Part::Trees => None,
        Part::Linear(layer) => Some(Linear::of(layer)),
    }
}

impl Stacking {
    /// Makes probabilities of the trees' `votes` on rows of `input`.
    #[inline(always)]
    pub(super) fn evaluate(&self, input: &[f32], votes: &[f64], probabilities: &mut [f32]) {
        let classes = self.last.classes();
        let mut answers = Vec::new();
        let mut answer = vec![0.0; classes];
        let rows = input.chunks_exact(FEATURE_COUNT).zip(votes.chunks_exact(classes));
        for ((row, votes), probabilities) in rows.zip(probabilities.chunks_exact_mut(classes)) {
            answers.clear();
            for part in &self.parts {
                match part {
                    None => answers.extend_from_slice(votes),
                    Some(linear) => {
                        let mut row: [f64; FEATURE_COUNT] = std::array::from_fn(|column| f64::from(row[column]));
                        linear.probabilities(&mut row, &mut answer);
                        answers.extend_from_slice(&answer);
                    }
                }
            }
            self.last.probabilities(&mut answers, &mut answer);
            round(&answer, probabilities);
        }
    }
}
