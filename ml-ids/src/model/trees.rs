//! A forest as it is evaluated: flat, compact, and correct by construction.
//!
//! Layout and lock step follow the measurements in docs/models.md: 8 bytes a node in preorder with the left child
//! next to its parent, sparse votes, 16 rows side by side through each tree at larger batches and 16 trees side by
//! side for a single row, so that the cache misses of independent walks overlap.

use std::fmt;

use super::softmax::{round, softmax_rows};
use crate::features::FEATURE_COUNT;

/// Walks that are advanced together.
const LANES: usize = 16;
/// A row padded to a power of two, so that a 7-bit feature number needs no bounds check.
const ROW: usize = 128;
const _: () = assert!(FEATURE_COUNT <= ROW);

type Row = [f32; ROW];

/// One node: `threshold`, and a word of leaf bit (31), feature (24 to 30) and target (0 to 23), the right child's
/// index of a branch or the number of a leaf.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Node {
    threshold: f32,
    word: u32,
}

const _: () = assert!(size_of::<Node>() == 8);

/// First number that no longer fits a node's target.
pub(super) const TARGETS: usize = 1 << 24;
const TARGET: u32 = TARGETS as u32 - 1;
const LEAF: u32 = 1 << 31;

impl Node {
    /// A branch; `right` is filled in when the right child's place is known.
    pub(super) fn branch(feature: u8, threshold: f32) -> Self {
        Self { threshold, word: u32::from(feature & 0x7f) << 24 }
    }

    /// The `number`th leaf.
    pub(super) fn leaf(number: u32) -> Self {
        Self { threshold: 0.0, word: LEAF | (number & TARGET) }
    }

    pub(super) fn set_right(&mut self, right: u32) {
        self.word = self.word & !TARGET | (right & TARGET);
    }

    pub(super) fn is_leaf(self) -> bool {
        self.word & LEAF != 0
    }

    pub(super) fn feature(self) -> usize {
        (self.word >> 24 & 0x7f) as usize
    }

    fn target(self) -> u32 {
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
        self.sums(input, &mut sums);
        round(&sums, probabilities);
    }

    /// The probabilities of each row before they are rounded to float32.
    ///
    /// A row takes the left path where `value <= threshold`, so NaN goes right as in ONNX. Sums are in float64 and
    /// rounded once: equal shares of votes then stay equal and the first class wins, as in scikit-learn, where float32
    /// sums let their order decide (onnxruntime's labels of such rows change with its number of threads).
    pub(super) fn sums(&self, input: &[f32], sums: &mut [f64]) {
        self.add_votes_of_rows(input, sums);
        if self.base.is_some() {
            softmax_rows(sums, self.classes);
        }
    }

    fn add_votes_of_rows(&self, input: &[f32], sums: &mut [f64]) {
        let mut rows = [[0.0; ROW]; LANES];
        for (input, sums) in input.chunks(LANES * FEATURE_COUNT).zip(sums.chunks_mut(LANES * self.classes)) {
            match &self.base {
                Some(base) => sums.chunks_exact_mut(self.classes).for_each(|sums| sums.copy_from_slice(base)),
                None => sums.fill(0.0),
            }
            for (row, values) in rows.iter_mut().zip(input.chunks_exact(FEATURE_COUNT)) {
                row[..FEATURE_COUNT].copy_from_slice(values);
            }
            let count = input.len() / FEATURE_COUNT;
            if count == LANES {
                self.add_rows(&rows, sums);
            } else {
                for (row, sums) in rows.iter().zip(sums.chunks_exact_mut(self.classes)).take(count) {
                    self.add_row(row, sums);
                }
            }
        }
    }

    /// Sixteen rows through one tree after the other.
    fn add_rows(&self, rows: &[Row; LANES], sums: &mut [f64]) {
        let lanes = std::array::from_fn(|lane| &rows[lane]);
        for &root in &self.roots {
            let leaves = self.walk([root; LANES], lanes);
            for (leaf, sums) in leaves.into_iter().zip(sums.chunks_exact_mut(self.classes)) {
                self.add_votes(leaf, sums);
            }
        }
    }

    /// One row through sixteen trees at a time.
    fn add_row(&self, row: &Row, sums: &mut [f64]) {
        for roots in self.roots.chunks(LANES) {
            // Lanes without a tree walk the first one again; their leaves are not counted.
            let mut start = [roots[0]; LANES];
            start[..roots.len()].copy_from_slice(roots);
            let leaves = self.walk(start, [row; LANES]);
            for &leaf in &leaves[..roots.len()] {
                self.add_votes(leaf, sums);
            }
        }
    }

    fn add_votes(&self, leaf: u32, sums: &mut [f64]) {
        for vote in self.votes_of(leaf) {
            sums[usize::from(vote.class)] += f64::from(vote.weight);
        }
    }

    /// From `at` to the leaves; each lane has its own row. Gives the numbers of the leaves.
    fn walk(&self, mut at: [u32; LANES], rows: [&Row; LANES]) -> [u32; LANES] {
        loop {
            let mut all_leaves = LEAF;
            for (at, row) in at.iter_mut().zip(rows) {
                let node = self.nodes[*at as usize];
                all_leaves &= node.word;
                let next = if row[node.feature()] <= node.threshold { *at + 1 } else { node.target() };
                *at = if node.is_leaf() { *at } else { next };
            }
            if all_leaves != 0 {
                return at.map(|at| self.nodes[at as usize].target());
            }
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
        Forest {
            nodes: vec![root, Node::leaf(0), Node::leaf(1)],
            roots: vec![0],
            leaf_votes: vec![0, 1, 2],
            votes: vec![Vote { weight: 1.0, class: 0 }, Vote { weight: 1.0, class: 1 }],
            classes: 2,
            depth: 1,
            base: None,
            cover: None,
        }
    }

    /// The class of a row that holds `value` in its last column, in a batch of one and in a full block.
    fn class_of(value: f32) -> [usize; 2] {
        let forest = one_branch(77, 2.0);
        [1, LANES].map(|count| {
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
        let leaf = Node::leaf(TARGET);
        assert_eq!((leaf.target(), leaf.is_leaf()), (TARGET, true));
    }

    #[test]
    fn a_path_lists_the_nodes_from_root_to_leaf() {
        let forest = one_branch(0, 0.0);
        let path = |value| forest.path(0, &[value; FEATURE_COUNT]).collect::<Vec<_>>();
        assert_eq!((path(-1.0), path(1.0)), (vec![0, 1], vec![0, 2]));
    }
}
