//! The walk without instructions of its own: what the compiler makes of it for every CPU.

use super::{
    super::trees::{FEATURES, Forest, LEAF},
    block::{self, Block},
};
use crate::features::FEATURE_COUNT;

/// Trees that a single row walks through side by side, so that the cache misses overlap.
const LANES: usize = 16;

pub(super) fn walk_blocks(forest: &Forest, blocks: &[Block], sums: &mut [f64]) {
    block::walk_blocks(forest, &forest.tops.narrow, blocks, sums, |reach, top, block| {
        match block.rows() {
            0..=16 => reach.fill(top, block, compare::<16>),
            17..=32 => reach.fill(top, block, compare::<32>),
            _ => reach.fill(top, block, compare::<64>),
        }
        reach.exits(top)
    });
}

/// Bits of the first `ROWS` rows whose values are at most the threshold.
#[inline(always)]
fn compare<const ROWS: usize>(column: &[f32; Block::ROWS], threshold: f32) -> u64 {
    let rows = column[..ROWS].iter().enumerate();
    rows.fold(0, |left, (row, &value)| left | u64::from(value <= threshold) << row)
}

pub(super) fn walk_row(forest: &Forest, row: &[f32; FEATURE_COUNT], sums: &mut [f64]) {
    let mut padded = [0.0; FEATURES];
    padded[..FEATURE_COUNT].copy_from_slice(row);
    for roots in forest.roots.chunks(LANES) {
        // Lanes without a tree walk the first one again; their leaves are not counted.
        let mut at = [roots[0]; LANES];
        at[..roots.len()].copy_from_slice(roots);
        loop {
            let mut all_leaves = LEAF;
            for at in &mut at {
                let node = forest.nodes[*at as usize];
                all_leaves &= node.word;
                let next = if padded[node.feature()] <= node.threshold { *at + 1 } else { node.target() };
                *at = if node.is_leaf() { *at } else { next };
            }
            if all_leaves != 0 {
                break;
            }
        }
        at[..roots.len()].iter().for_each(|&leaf| forest.add_votes(leaf, sums));
    }
}
