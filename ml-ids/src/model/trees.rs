//! A forest as it is evaluated: flat, compact, and correct by construction. How rows walk through it is [`super::walk`]'s.
//!
//! The layout follows the measurements in docs/models.md: 8 bytes a node in preorder with the left child next to its
//! parent, a leaf's only vote inside its node, and the top of each tree once more as a table.

use std::fmt;

use super::{
    softmax::{round, softmax_rows},
    walk::{InstructionSet, Top},
};
use crate::features::FEATURE_COUNT;

/// One node: `threshold`, and a word of leaf bit (31), feature (24 to 30) and target (0 to 23), the right child's
/// index of a branch or the number of a leaf. A leaf with a single vote has its weight for a threshold and its class for
/// a feature.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub(super) struct Node {
    pub(super) threshold: f32,
    pub(super) word: u32,
}

const _: () = assert!(size_of::<Node>() == 8);

/// First number that no longer fits a node's target.
pub(super) const TARGETS: usize = 1 << 24;
pub(super) const TARGET: u32 = TARGETS as u32 - 1;
/// The bit of a leaf.
pub(super) const LEAF: u32 = 1 << 31;
/// Where the feature begins.
pub(super) const FEATURE_SHIFT: u32 = 24;
/// The features that fit: 0 to this, without the last one.
pub(super) const FEATURES: usize = 128;
const _: () = assert!(FEATURE_COUNT <= FEATURES);
/// In place of its class in a leaf that has not exactly one vote, or one for a class that does not fit.
const SEVERAL: usize = FEATURES - 1;

impl Node {
    /// A branch; `right` is filled in when the right child's place is known.
    pub(super) fn branch(feature: u8, threshold: f32) -> Self {
        Self { threshold, word: u32::from(feature & 0x7f) << FEATURE_SHIFT }
    }

    /// The `number`th leaf, with these votes.
    pub(super) fn leaf(number: u32, votes: &[Vote]) -> Self {
        let (class, threshold) = match *votes {
            [Vote { class, weight }] if usize::from(class) < SEVERAL => (u32::from(class), weight),
            _ => (SEVERAL as u32, 0.0),
        };
        Self { threshold, word: LEAF | class << FEATURE_SHIFT | (number & TARGET) }
    }

    pub(super) fn set_right(&mut self, right: u32) {
        self.word = self.word & !TARGET | (right & TARGET);
    }

    pub(super) fn is_leaf(self) -> bool {
        self.word & LEAF != 0
    }

    pub(super) fn feature(self) -> usize {
        (self.word >> FEATURE_SHIFT) as usize % FEATURES
    }

    pub(super) fn target(self) -> u32 {
        self.word & TARGET
    }
}

/// What a leaf adds to one class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Vote {
    pub(super) weight: f32,
    pub(super) class: u16,
}

/// A validated forest. Only [`super::ensemble`] makes one.
pub(super) struct Forest {
    /// All trees one after the other, each in preorder.
    pub(super) nodes: Vec<Node>,
    /// Index of each tree's root.
    pub(super) roots: Vec<u32>,
    /// The top of each tree; filled by [`Forest::finish`].
    pub(super) tops: Vec<Top>,
    /// Leaf `i` casts the votes `leaf_votes[i]..leaf_votes[i + 1]`.
    pub(super) leaf_votes: Vec<u32>,
    /// The votes of all leaves.
    pub(super) votes: Vec<Vote>,
    /// Number of classes.
    pub(super) classes: usize,
    /// What the sums of boosted trees start from, one value a class; they go through a softmax. `None` where the votes
    /// are the probabilities.
    pub(super) base: Option<Vec<f64>>,
    /// Branches on the longest path.
    pub(super) depth: usize,
    /// Weighted number of training samples that reached each node, if the file says.
    pub(super) cover: Option<Vec<f32>>,
}

impl fmt::Debug for Forest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // tract prints operators into its messages; a million nodes do not belong there.
        let Self { nodes, roots, classes, depth, .. } = self;
        write!(f, "Forest({} trees, {} nodes, depth {depth}, {classes} classes)", roots.len(), nodes.len())
    }
}

impl Forest {
    /// The probabilities of each row of `input` (rows of 78): rows of one value a class.
    pub(super) fn evaluate(&self, input: &[f32], probabilities: &mut [f32]) {
        let mut sums = vec![0.0; probabilities.len()];
        self.sums(InstructionSet::detect(), input, &mut sums);
        round(&sums, probabilities);
    }

    /// The probabilities of each row before they are rounded to float32, the same on every instruction set.
    ///
    /// A row takes the left path where `value <= threshold`, so NaN goes right as in ONNX. Sums are in float64 and
    /// rounded once: equal shares of votes then stay equal and the first class wins, as in scikit-learn, where float32
    /// sums let their order decide (onnxruntime's labels of such rows change with its number of threads).
    pub(super) fn sums(&self, instructions: InstructionSet, input: &[f32], sums: &mut [f64]) {
        match &self.base {
            Some(base) => sums.chunks_exact_mut(self.classes).for_each(|sums| sums.copy_from_slice(base)),
            None => sums.fill(0.0),
        }
        instructions.add_votes(self, input, sums);
        if self.base.is_some() {
            softmax_rows(sums, self.classes);
        }
    }

    /// Makes the tables of the trees' tops, when the trees are complete.
    pub(super) fn finish(mut self) -> Self {
        self.tops = self.roots.iter().map(|&root| Top::of(&self.nodes, root)).collect();
        self
    }

    /// Adds the votes of the leaf at index `at` to a row's sums.
    #[inline(always)]
    pub(super) fn add_votes(&self, at: u32, sums: &mut [f64]) {
        let leaf = self.nodes[at as usize];
        if leaf.feature() == SEVERAL {
            for vote in self.votes_of(leaf.target()) {
                sums[usize::from(vote.class)] += f64::from(vote.weight);
            }
        } else {
            sums[leaf.feature()] += f64::from(leaf.threshold);
        }
    }

    /// The votes of leaf `number`.
    pub(super) fn votes_of(&self, number: u32) -> &[Vote] {
        let [start, end] = [0, 1].map(|offset| self.leaf_votes[number as usize + offset] as usize);
        &self.votes[start..end]
    }

    /// The indices of the nodes that a row of 78 passes in the tree at `root`, root and leaf included.
    pub(super) fn path(&self, root: u32, row: &[f32; FEATURE_COUNT]) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(root as usize), |&at| {
            let node = self.nodes[at];
            (!node.is_leaf())
                .then(|| if row[node.feature()] <= node.threshold { at + 1 } else { node.target() as usize })
        })
    }

    /// The children of a branch, the votes of a leaf.
    pub(super) fn below(&self, at: usize) -> Below<'_> {
        let node = self.nodes[at];
        if node.is_leaf() {
            Below::Votes(self.votes_of(node.target()))
        } else {
            Below::Children(at + 1, node.target() as usize)
        }
    }

    /// The feature that a branch looks at.
    pub(super) fn feature(&self, branch: usize) -> usize {
        self.nodes[branch].feature()
    }

    /// Whether any branch looks at `feature`.
    pub(super) fn looks_at(&self, feature: usize) -> bool {
        self.nodes.iter().any(|node| !node.is_leaf() && node.feature() == feature)
    }
}

/// What comes below a node.
pub(super) enum Below<'a> {
    /// Indices of the left and the right child.
    Children(usize, usize),
    /// What the leaf says.
    Votes(&'a [Vote]),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_branch(feature: u8, threshold: f32) -> Forest {
        let mut root = Node::branch(feature, threshold);
        root.set_right(2);
        let votes = vec![Vote { weight: 1.0, class: 0 }, Vote { weight: 1.0, class: 1 }];
        Forest {
            nodes: vec![root, Node::leaf(0, &votes[..1]), Node::leaf(1, &votes[1..])],
            roots: vec![0],
            tops: Vec::new(),
            leaf_votes: vec![0, 1, 2],
            votes,
            classes: 2,
            depth: 1,
            base: None,
            cover: None,
        }
        .finish()
    }

    /// The class of a row that holds `value` in its last column, in a batch of one and in a full block.
    fn class_of(value: f32) -> [usize; 2] {
        let forest = one_branch(77, 2.0);
        [1, 64].map(|count| {
            let mut rows = vec![0.0; count * FEATURE_COUNT];
            rows.chunks_exact_mut(FEATURE_COUNT).for_each(|row| row[77] = value);
            let mut probabilities = vec![0.5; count * 2];
            forest.evaluate(&rows, &mut probabilities);
            let last = &probabilities[probabilities.len() - 2..];
            assert_eq!(last[0] + last[1], 1.0);
            usize::from(last[1] == 1.0)
        })
    }

    #[test]
    fn a_value_equal_to_the_threshold_goes_left() {
        assert_eq!(class_of(2.0), [0, 0]);
        assert_eq!(class_of(2.000_000_2), [1, 1]);
        assert_eq!(class_of(f32::NEG_INFINITY), [0, 0]);
    }

    #[test]
    fn nan_takes_the_false_branch() {
        assert_eq!(class_of(f32::NAN), [1, 1]);
    }

    #[test]
    fn the_parts_of_a_node_do_not_touch_each_other() {
        let mut node = Node::branch(77, 1.0);
        node.set_right(TARGET);
        node.set_right(5);
        assert_eq!((node.feature(), node.target(), node.is_leaf()), (77, 5, false));
        let leaf = Node::leaf(TARGET, &[Vote { weight: 0.25, class: 126 }]);
        assert_eq!((leaf.target(), leaf.is_leaf(), leaf.feature(), leaf.threshold), (TARGET, true, 126, 0.25));
        for votes in [vec![], vec![Vote { weight: 0.5, class: 127 }], vec![Vote { weight: 0.5, class: 3 }; 2]] {
            assert_eq!(Node::leaf(0, &votes).feature(), SEVERAL);
        }
    }

    #[test]
    fn a_path_lists_the_nodes_from_root_to_leaf() {
        let forest = one_branch(0, 0.0);
        let path = |value| forest.path(0, &[value; FEATURE_COUNT]).collect::<Vec<_>>();
        assert_eq!((path(-1.0), path(1.0)), (vec![0, 1], vec![0, 2]));
    }
}
