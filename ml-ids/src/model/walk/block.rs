//! A block of rows, and the walk through the forest that all instruction sets share.

use super::{
    super::trees::{FEATURES, Forest, Node},
    top::Top,
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

/// Adds the votes of all trees to the sums of the blocks' rows. `leave_top` gives the node at which each row of a block
/// leaves a tree's top.
#[inline(always)]
pub(super) fn walk_blocks(
    forest: &Forest,
    blocks: &[Block],
    sums: &mut [f64],
    leave_top: impl Fn(&Top, &Block) -> [u32; Block::ROWS],
) {
    for (number, top) in forest.tops.iter().enumerate() {
        let start = |tree: usize| forest.roots.get(tree).map_or(forest.nodes.len(), |&root| root as usize);
        let coming = &forest.nodes[start(number + 1)..start(number + 2)];
        let mut coming = coming.chunks(coming.len().div_ceil(blocks.len()).max(1));
        for (block, sums) in blocks.iter().zip(sums.chunks_mut(Block::ROWS * forest.classes)) {
            prefetch(coming.next().unwrap_or_default());
            let mut at = leave_top(top, block);
            walk_on(&forest.nodes, block, &mut at);
            for (&leaf, sums) in at.iter().zip(sums.chunks_exact_mut(forest.classes)).take(block.rows) {
                forest.add_votes(leaf, sums);
            }
        }
    }
}

/// From the top to the leaves: the rows that are not yet there take a step in turn.
#[inline(always)]
fn walk_on(nodes: &[Node], block: &Block, at: &mut [u32; Block::ROWS]) {
    let mut walking = [0u8; Block::ROWS];
    let mut count = 0;
    for row in 0..block.rows {
        walking[count % Block::ROWS] = row as u8;
        count += usize::from(!nodes[at[row % Block::ROWS] as usize].is_leaf());
    }
    while count > 0 {
        let mut left = 0;
        for number in 0..count {
            let row = walking[number % Block::ROWS];
            let place = &mut at[usize::from(row) % Block::ROWS];
            let node = nodes[*place as usize];
            let value = block.value(node.feature(), usize::from(row));
            *place = if value <= node.threshold { *place + 1 } else { node.target() };
            walking[left % Block::ROWS] = row;
            left += usize::from(!nodes[*place as usize].is_leaf());
        }
        count = left;
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
