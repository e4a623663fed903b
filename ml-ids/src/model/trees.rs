//! A forest as it is evaluated: flat, compact, and correct by construction. How rows walk through it is [`super::walk`]'s.
//!
//! The layout follows the measurements in docs/models.md: 8 bytes a node in preorder with the left child next to its
//! parent, a leaf's first vote inside its node, and the top of each tree once more as a table.

use std::fmt;

use super::{
    softmax::{round, softmax_rows},
    walk::{InstructionSet, Tops},
};
use crate::features::FEATURE_COUNT;

/// One node: `threshold`, and a word of leaf bit (31), feature (24 to 30), a bit for further votes (23) and target (0 to
/// 22). A branch's target is its right child's index. A leaf has the weight of its first vote for a threshold and that
/// vote's class for a feature; if it has the bit, its target is where its further votes begin.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub(super) struct Node {
    pub(super) threshold: f32,
    pub(super) word: u32,
}

const _: () = assert!(size_of::<Node>() == 8);

/// First number that no longer fits a node's target.
pub(super) const TARGETS: usize = 1 << 23;
pub(super) const TARGET: u32 = TARGETS as u32 - 1;
/// The bit of a leaf with further votes.
const FURTHER: u32 = 1 << 23;
/// The bit of a leaf.
pub(super) const LEAF: u32 = 1 << 31;
/// Where the feature begins.
pub(super) const FEATURE_SHIFT: u32 = 24;
/// The features that fit: 0 to this, without the last one. The classes of first votes, too.
pub(super) const FEATURES: usize = 128;
const _: () = assert!(FEATURE_COUNT <= FEATURES);

impl Node {
    /// A branch; `right` is filled in when the right child's place is known.
    pub(super) fn branch(feature: u8, threshold: f32) -> Self {
        Self { threshold, word: u32::from(feature & 0x7f) << FEATURE_SHIFT }
    }

    /// A leaf with a first vote, and whether there are more, from `further` on.
    fn leaf(first: Vote, further: Option<u32>) -> Self {
        let class = u32::from(first.class) % FEATURES as u32;
        let target = further.map_or(0, |further| FURTHER | (further & TARGET));
        Self { threshold: first.weight, word: LEAF | class << FEATURE_SHIFT | target }
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

    /// Of a leaf: whether it has more votes than the first.
    pub(super) fn has_further(self) -> bool {
        self.word & FURTHER != 0
    }

    /// Of a leaf: its first vote.
    fn first(self) -> Vote {
        Vote { weight: self.threshold, class: self.feature() as u16 }
    }
}

/// What a leaf adds to one class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Vote {
    pub(super) weight: f32,
    pub(super) class: u16,
}

/// A vote of a leaf that is not its first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct FurtherVote {
    vote: Vote,
    is_last: bool,
}

/// A validated forest. Only [`super::ensemble`] makes one.
pub(super) struct Forest {
    /// All trees one after the other, each in preorder.
    pub(super) nodes: Vec<Node>,
    /// Index of each tree's root.
    pub(super) roots: Vec<u32>,
    /// The tops of the trees; filled by [`Forest::finish`].
    pub(super) tops: Tops,
    /// The votes that do not fit into their leaves' nodes, those of a leaf one after the other.
    pub(super) further: Vec<FurtherVote>,
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

    /// Adds a leaf to the tree that is being built.
    pub(super) fn push_leaf(&mut self, votes: &[Vote]) {
        // A leaf without votes, or with a first one for a class that does not fit, votes for class 0 with no weight.
        let (first, further) = match votes {
            [first, further @ ..] if usize::from(first.class) < FEATURES => (*first, further),
            _ => (Vote { weight: 0.0, class: 0 }, votes),
        };
        let start = self.further.len() as u32;
        self.nodes.push(Node::leaf(first, (!further.is_empty()).then_some(start)));
        self.further.extend(further.iter().map(|&vote| FurtherVote { vote, is_last: false }));
        if let (false, Some(last)) = (further.is_empty(), self.further.last_mut()) {
            last.is_last = true;
        }
    }

    /// Makes the tables of the trees' tops, when the trees are complete.
    pub(super) fn finish(mut self) -> Self {
        self.tops = Tops::of(&self);
        self
    }

    /// Adds the votes of the leaf at index `at` to a row's sums.
    #[inline(always)]
    pub(super) fn add_votes(&self, at: u32, sums: &mut [f64]) {
        if self.add_first_vote(at, sums) {
            self.add_further_votes(at, sums);
        }
    }

    /// Adds the first of them, and tells whether there are more.
    #[inline(always)]
    pub(super) fn add_first_vote(&self, at: u32, sums: &mut [f64]) -> bool {
        let leaf = self.nodes[at as usize];
        sums[leaf.feature()] += f64::from(leaf.threshold);
        leaf.has_further()
    }

    /// Adds all but the first, if there are any.
    #[inline(always)]
    pub(super) fn add_further_votes(&self, at: u32, sums: &mut [f64]) {
        for vote in self.further_votes(self.nodes[at as usize]) {
            sums[usize::from(vote.class)] += f64::from(vote.weight);
        }
    }

    #[inline(always)]
    fn further_votes(&self, leaf: Node) -> impl Iterator<Item = Vote> {
        let mut next = leaf.has_further().then_some(leaf.target() as usize);
        std::iter::from_fn(move || {
            let FurtherVote { vote, is_last } = self.further[next?];
            next = next.filter(|_| !is_last).map(|at| at + 1);
            Some(vote)
        })
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
    pub(super) fn below(&self, at: usize) -> Below {
        let node = self.nodes[at];
        if node.is_leaf() {
            Below::Votes(std::iter::once(node.first()).chain(self.further_votes(node)).collect())
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
pub(super) enum Below {
    /// Indices of the left and the right child.
    Children(usize, usize),
    /// What the leaf says.
    Votes(Vec<Vote>),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A branch between leaves with these votes.
    fn one_branch(feature: u8, threshold: f32, left: &[Vote], right: &[Vote]) -> Forest {
        let mut root = Node::branch(feature, threshold);
        root.set_right(2);
        let mut forest = Forest {
            nodes: vec![root],
            roots: vec![0],
            tops: Tops::default(),
            further: Vec::new(),
            classes: 200,
            depth: 1,
            base: None,
            cover: None,
        };
        forest.push_leaf(left);
        forest.push_leaf(right);
        forest.finish()
    }

    const ZERO: Vote = Vote { weight: 1.0, class: 0 };
    const ONE: Vote = Vote { weight: 1.0, class: 1 };

    /// The class of a row that holds `value` in its last column, in a batch of one and in a full block.
    fn class_of(value: f32) -> [usize; 2] {
        let forest = one_branch(77, 2.0, &[ZERO], &[ONE]);
        [1, 64].map(|count| {
            let mut rows = vec![0.0; count * FEATURE_COUNT];
            rows.chunks_exact_mut(FEATURE_COUNT).for_each(|row| row[77] = value);
            let mut probabilities = vec![0.5; count * 200];
            forest.evaluate(&rows, &mut probabilities);
            let last = &probabilities[probabilities.len() - 200..];
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
        let leaf = Node::leaf(Vote { weight: 0.25, class: 127 }, Some(TARGET));
        assert_eq!((leaf.target(), leaf.is_leaf(), leaf.has_further()), (TARGET, true, true));
        assert_eq!(leaf.first(), Vote { weight: 0.25, class: 127 });
    }

    #[test]
    fn a_leaf_casts_all_its_votes_and_no_other_leafs() {
        let vote = |class| Vote { weight: 0.25, class };
        let lists = [vec![], vec![vote(127)], vec![vote(128)], vec![vote(3); 3], vec![vote(199), vote(0)]];
        for (left, right) in lists.iter().flat_map(|left| lists.iter().map(move |right| (left, right))) {
            let forest = one_branch(0, 0.0, left, right);
            for (at, votes) in [(1, left), (2, right)] {
                let (mut found, mut wanted) = ([0.0; 200], [0.0; 200]);
                forest.add_votes(at, &mut found);
                votes.iter().for_each(|vote| wanted[usize::from(vote.class)] += f64::from(vote.weight));
                assert_eq!(found, wanted, "{left:?}, {right:?}");
                let Below::Votes(below) = forest.below(at as usize) else { panic!("node {at} is a leaf") };
                assert!(below.into_iter().filter(|vote| vote.weight != 0.0).eq(votes.iter().copied()));
            }
        }
    }

    #[test]
    fn a_path_lists_the_nodes_from_root_to_leaf() {
        let forest = one_branch(0, 0.0, &[ZERO], &[ONE]);
        let path = |value| forest.path(0, &[value; FEATURE_COUNT]).collect::<Vec<_>>();
        assert_eq!((path(-1.0), path(1.0)), (vec![0, 1], vec![0, 2]));
    }
}
