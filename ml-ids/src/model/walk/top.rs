//! The top of a tree as a table: all its branches, whether or not a row comes by.
//!
//! Comparing a whole column with a threshold takes two instructions for 16 rows; fetching a branch and a value for each
//! row takes many more. Up to here it pays to make every comparison, and to find out afterwards which of them counted.

use super::super::trees::Node;

/// Levels of branches in the table. One more doubles the comparisons and saves one step of the walk.
pub(super) const LEVELS: usize = 5;
/// Branches in the table.
pub(super) const BRANCHES: usize = (1 << LEVELS) - 1;
/// Ways out of it.
pub(super) const EXITS: usize = 1 << LEVELS;

/// The top of a tree. Branch `i` has the children `2 i + 1` and `2 i + 2`.
#[repr(C, align(64))]
pub(in super::super) struct Top {
    /// Where each way out leads: a node of the forest.
    pub(super) exits: [u32; EXITS],
    pub(super) thresholds: [f32; BRANCHES],
    pub(super) features: [u8; BRANCHES],
}

impl Top {
    /// The top of the tree at `root`. Below a leaf that lies higher than the table's end, all ways lead to it.
    pub(in super::super) fn of(nodes: &[Node], root: u32) -> Self {
        let mut top = Self { exits: [0; EXITS], thresholds: [0.0; BRANCHES], features: [0; BRANCHES] };
        let mut places = [root; BRANCHES + EXITS];
        for branch in 0..BRANCHES {
            let at = places[branch];
            let node = nodes[at as usize];
            let children = if node.is_leaf() {
                [at, at]
            } else {
                top.thresholds[branch] = node.threshold;
                top.features[branch] = node.feature() as u8;
                [at + 1, node.target()]
            };
            places[2 * branch + 1..2 * branch + 3].copy_from_slice(&children);
        }
        top.exits.copy_from_slice(&places[BRANCHES..]);
        top
    }

    /// Which branches count. `right` has, for each branch, a bit a row: whether the row goes right there. The result has,
    /// for each level, a bit a row: whether the row goes right at the branch that it passes.
    #[inline(always)]
    pub(super) fn turns(right: &[u64; BRANCHES]) -> [u64; LEVELS] {
        let mut turns = [0; LEVELS];
        for level in 0..LEVELS {
            let width = 1 << level;
            // The level's branches from left to right; each turn above halves those that a row can have come to.
            let mut candidates = [0; EXITS / 2];
            candidates[..width].copy_from_slice(&right[width - 1..2 * width - 1]);
            for (above, turn) in turns[..level].iter().enumerate() {
                let half = width >> (above + 1);
                for i in 0..half {
                    candidates[i] = candidates[i] & !turn | candidates[i + half] & turn;
                }
            }
            turns[level] = candidates[0];
        }
        turns
    }

    /// Where row number `row` comes out.
    #[inline(always)]
    pub(super) fn exit(&self, turns: &[u64; LEVELS], row: usize) -> u32 {
        let exit = turns.iter().fold(0, |exit, turn| exit << 1 | (turn >> row & 1) as usize);
        self.exits[exit % EXITS]
    }
}
