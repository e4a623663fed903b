//! The walk with AVX2: the top of a tree compares 8 rows an instruction.

use std::arch::x86_64::{_CMP_LE_OQ, _mm256_cmp_ps, _mm256_loadu_ps, _mm256_movemask_ps, _mm256_set1_ps};

use super::{
    super::{predictor::Stacking, trees::Forest},
    block::{self, Block},
};

/// Rows of an instruction.
const LANES: usize = 8;

#[target_feature(enable = "avx2")]
pub(super) fn walk_blocks(forest: &Forest, blocks: &[Block], sums: &mut [f64]) {
    block::walk_blocks(forest, &forest.tops.wide, blocks, sums, |reach, top, block| {
        match block.rows() {
            0..=16 => reach.fill(top, block, |column, threshold| compare::<2>(column, threshold)),
            17..=32 => reach.fill(top, block, |column, threshold| compare::<4>(column, threshold)),
            _ => reach.fill(top, block, |column, threshold| compare::<8>(column, threshold)),
        }
        reach.exits(top)
    });
}

/// Bits of the rows, in `REGISTERS` registers, whose values are at most the threshold.
#[inline]
#[target_feature(enable = "avx2")]
fn compare<const REGISTERS: usize>(column: &[f32; Block::ROWS], threshold: f32) -> u64 {
    let threshold = _mm256_set1_ps(threshold);
    let mut left = 0;
    for (number, rows) in column.as_chunks::<LANES>().0[..REGISTERS].iter().enumerate() {
        // SAFETY: the array has the 8 values that are read.
        let values = unsafe { _mm256_loadu_ps(rows.as_ptr()) };
        let mask = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LE_OQ>(values, threshold));
        left |= u64::from(mask as u8) << (number * LANES);
    }
    left
}

#[target_feature(enable = "avx2")]
pub(super) fn stack(stacking: &Stacking, input: &[f32], votes: &[f64], probabilities: &mut [f32]) {
    stacking.evaluate(input, votes, probabilities);
}
