//! A block of rows, and the walk through the forest that all instruction sets share.

use super::{
    super::trees::{FEATURES, Forest, Node},
    reach::Reach,
    top::{Table, Top},
};
use crate::features::FEATURE_COUNT;

/// 64 rows, column by column.
pub(super) struct Block {
    values: Box<[f32; FEATURES * Self::ROWS]>,
    rows: usize,
}

impl Block {
    /// Rows of a block: the bits of a word.
    pub(super) const ROWS: usize = 64;

    /// The block of up to 64 rows.
    pub(super) fn of(rows: &[f32]) -> Self {
        // A power of two of columns, so that a 7-bit feature needs no bounds check; most are never touched.
        let mut values = Box::new([0.0; FEATURES * Self::ROWS]);
        let mut count = 0;
        for (number, row) in rows.chunks_exact(FEATURE_COUNT).enumerate() {
            for (column, value) in values.chunks_exact_mut(Self::ROWS).zip(row) {
                column[number] = *value;
            }
            count = number + 1;
        }
        Self { values, rows: count }
    }

    /// How many rows it has.
    #[inline(always)]
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// The values of a column.
    #[inline(always)]
    pub(super) fn column(&self, feature: u8) -> &[f32; Self::ROWS] {
        &self.values.as_chunks().0[usize::from(feature) % FEATURES]
    }

    #[inline(always)]
    fn value(&self, feature: usize, row: usize) -> f32 {
        self.values[feature % FEATURES * Self::ROWS + row % Self::ROWS]
    }
}

/// Trees that a block goes through at a time: few enough for their nodes and the block to stay in the cache, and enough
/// for many rows to be walking at once.
const TREES: usize = 8;
/// Walks of a block through as many trees.
const WALKS: usize = TREES * Block::ROWS;

/// Adds the votes of all trees to the sums of the blocks' rows. `leave_top` sends the rows of a block through a tree's top
/// and gives the number of the exit that each takes.
#[inline(always)]
pub(super) fn walk_blocks(
    forest: &Forest,
    tops: &Table,
    blocks: &[Block],
    sums: &mut [f64],
    leave_top: impl Fn(&mut Reach, Top<'_>, &Block) -> [u8; Block::ROWS],
) {
    let start = |tree: usize| forest.roots.get(tree).map_or(forest.nodes.len(), |&root| root as usize);
    let trees = forest.roots.len();
    let mut reach = Reach::new();
    let mut places = [0; WALKS];
    let mut walking = [0; WALKS];
    for first in (0..trees).step_by(TREES) {
        let group = first..trees.min(first + TREES);
        let coming = &forest.nodes[start(group.end)..start(group.end + TREES)];
        let mut coming = coming.chunks(coming.len().div_ceil(blocks.len()).max(1));
        for (block, sums) in blocks.iter().zip(sums.chunks_mut(Block::ROWS * forest.classes)) {
            prefetch(coming.next().unwrap_or_default());
            let rows = u64::MAX >> (Block::ROWS - block.rows);
            let mut count = 0;
            for (number, tree) in group.clone().enumerate() {
                let top = tops.top(tree);
                let exits = leave_top(&mut reach, top, block);
                for (place, exit) in places[number * Block::ROWS..][..block.rows].iter_mut().zip(exits) {
                    *place = top.exits[usize::from(exit)].node;
                }
                let mut rows = reach.walking(top) & rows;
                while rows != 0 {
                    walking[count % WALKS] = (number * Block::ROWS) as u16 + rows.trailing_zeros() as u16;
                    count += 1;
                    rows &= rows - 1;
                }
            }
            walk_on(&forest.nodes, block, &mut walking, count, &mut places);
            for places in places.chunks_exact(Block::ROWS).take(group.len()) {
                vote(forest, &places[..block.rows], sums);
            }
        }
    }
}

/// From the tops to the leaves: the `count` walks that are not yet there take a step in turn.
#[inline(always)]
fn walk_on(nodes: &[Node], block: &Block, walking: &mut [u16; WALKS], mut count: usize, places: &mut [u32; WALKS]) {
    while count > 0 {
        let mut left = 0;
        for number in 0..count {
            let walk = walking[number % WALKS];
            let place = &mut places[usize::from(walk) % WALKS];
            let node = nodes[*place as usize];
            let value = block.value(node.feature(), usize::from(walk));
            *place = if value <= node.threshold { *place + 1 } else { node.target() };
            walking[left % WALKS] = walk;
            left += usize::from(!nodes[*place as usize].is_leaf());
        }
        count = left;
    }
}

/// Adds the votes of the leaves at `leaves`, a row each, to the rows' sums. Few leaves have more than one, which is seen
/// to afterwards: the CPU would not guess when.
#[inline(always)]
fn vote(forest: &Forest, leaves: &[u32], sums: &mut [f64]) {
    let mut rows = [0u8; Block::ROWS];
    let mut count = 0;
    for (row, (&leaf, sums)) in leaves.iter().zip(sums.chunks_exact_mut(forest.classes)).enumerate() {
        rows[count % Block::ROWS] = row as u8;
        count += usize::from(forest.add_first_vote(leaf, sums));
    }
    for row in rows[..count].iter().map(|&row| usize::from(row)) {
        forest.add_further_votes(leaves[row], &mut sums[row * forest.classes..][..forest.classes]);
    }
}

/// Asks for nodes that will be needed soon. A large forest comes from memory for each batch, and comes faster in order.
#[inline(always)]
fn prefetch(nodes: &[Node]) {
    #[cfg(target_arch = "x86_64")]
    for line in nodes.chunks(64 / size_of::<Node>()) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: every x86_64 has SSE, and a prefetch reads nothing that the program could see.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = nodes;
}
