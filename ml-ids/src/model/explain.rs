//! Why a row got its score: the exact contribution of each feature along the paths it took.
//!
//! A node's value for a class is what the training rows below it got on average. The roots' values are the base rate;
//! each branch taken moves the value, and the move is credited to the branch's feature. Base rate and all moves
//! together are the leaf values, which is the score (Saabas; exact for the path, not a Shapley value).
//!
//! What boosted trees add up is a class's raw score, before the softmax, so that is what is explained of them: no part of
//! a probability belongs to a single feature there.

use std::sync::OnceLock;

use super::trees::{Below, Forest};
use crate::features::FEATURE_COUNT;

/// What one feature added to the score of a class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contribution {
    /// Index of the feature, 0 to 77.
    pub feature: usize,
    /// What it added to the class's score; negative if it spoke against the class.
    pub contribution: f32,
}

/// The value of every node for each class that has been asked for.
///
/// Made when first needed: a class costs one pass over the forest and 4 bytes a node, and most are never explained.
pub(super) struct NodeValues(Vec<OnceLock<ClassValues>>);

/// One class's.
struct ClassValues {
    /// By node.
    values: Box<[f32]>,
    /// Roots of the trees that have anything to say of it: of boosted trees, one in as many as there are classes.
    roots: Box<[u32]>,
    /// The score before anything is known of the row.
    base: f32,
}

impl NodeValues {
    /// For a forest of `classes` classes.
    pub(super) fn new(classes: usize) -> Self {
        Self((0..classes).map(|_| OnceLock::new()).collect())
    }

    /// The values for `class`; `None` if the forest has no cover or no such class.
    fn of(&self, forest: &Forest, class: usize) -> Option<&ClassValues> {
        let cover = forest.cover.as_deref()?;
        Some(self.0.get(class)?.get_or_init(|| ClassValues::of(forest, cover, class)))
    }

    /// The score of `class` before anything is known of the row.
    pub(super) fn base_rate(&self, forest: &Forest, class: usize) -> Option<f32> {
        Some(self.of(forest, class)?.base)
    }

    /// What each feature of `row` adds to the base rate of `class`, the greatest effect first.
    pub(super) fn explain(
        &self,
        forest: &Forest,
        row: &[f32; FEATURE_COUNT],
        class: usize,
    ) -> Option<Vec<Contribution>> {
        let ClassValues { values, roots, .. } = self.of(forest, class)?;
        let mut sums = [0.0f64; FEATURE_COUNT];
        for &root in roots {
            let mut parent: Option<usize> = None;
            for at in forest.path(root, row) {
                if let Some(parent) = parent {
                    sums[forest.feature(parent)] += f64::from(values[at]) - f64::from(values[parent]);
                }
                parent = Some(at);
            }
        }
        let mut contributions: Vec<_> = sums
            .into_iter()
            .enumerate()
            .filter(|&(_, sum)| sum != 0.0)
            .map(|(feature, sum)| Contribution { feature, contribution: sum as f32 })
            .collect();
        contributions.sort_by(|a, b| b.contribution.abs().total_cmp(&a.contribution.abs()));
        Some(contributions)
    }
}

impl ClassValues {
    fn of(forest: &Forest, cover: &[f32], class: usize) -> Self {
        let values = node_values(forest, cover, class);
        let start = forest.base.as_ref().and_then(|base| base.get(class)).copied().unwrap_or(0.0);
        let base = (start + forest.roots.iter().map(|&root| f64::from(values[root as usize])).sum::<f64>()) as f32;
        let ends = forest.roots.iter().skip(1).map(|&next| next as usize).chain([values.len()]);
        let speaks =
            |(&root, end): (&u32, usize)| values[root as usize..end].iter().any(|value| *value != 0.0).then_some(root);
        let roots = forest.roots.iter().zip(ends).filter_map(speaks).collect();
        Self { values, roots, base }
    }
}

fn node_values(forest: &Forest, cover: &[f32], class: usize) -> Box<[f32]> {
    let mut values = vec![0.0f32; forest.nodes.len()].into_boxed_slice();
    // In preorder every child lies behind its parent.
    for at in (0..values.len()).rev() {
        values[at] = match forest.below(at) {
            Below::Votes(votes) => {
                votes.iter().filter(|vote| usize::from(vote.class) == class).map(|vote| vote.weight).sum()
            }
            Below::Children(left, right) => {
                let [left, right] = [left, right].map(|child| (f64::from(cover[child]), f64::from(values[child])));
                ((left.0 * left.1 + right.0 * right.1) / (left.0 + right.0)) as f32
            }
        };
    }
    values
}
