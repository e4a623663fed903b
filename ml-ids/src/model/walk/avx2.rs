//! The walk with AVX2: the top of a tree compares 8 rows an instruction.

use std::arch::x86_64::{_CMP_LE_OQ, _mm256_cmp_ps, _mm256_loadu_ps, _mm256_movemask_ps, _mm256_set1_ps};

use super::{
    super::{predictor::Stacking, trees::Forest},
    block::{self, Block},
    top::{BRANCHES, Top},
};

/// Rows of an instruction.
const LANES: usize = 8;

#[target_feature(enable = "avx2")]
pub(super) fn walk_blocks(forest: &Forest, blocks: &[Block], sums: &mut [f64]) {
    block::walk_blocks(forest, blocks, sums, |top, block| {
        let mut right = [0; BRANCHES];
        for ((right, &feature), &threshold) in right.iter_mut().zip(&top.features).zip(&top.thresholds) {
            let threshold = _mm256_set1_ps(threshold);
            let mut left = 0;
            for (number, rows) in block.column(feature).as_chunks::<LANES>().0.iter().enumerate() {
                // SAFETY: the array has the 8 values that are read.
                let values = unsafe { _mm256_loadu_ps(rows.as_ptr()) };
                let mask = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LE_OQ>(values, threshold));
                left |= u64::from(mask as u8) << (number * LANES);
            }
            *right = !left;
        }
        let turns = Top::turns(&right);
        std::array::from_fn(|row| top.exit(&turns, row))
    });
}

#[target_feature(enable = "avx2")]
pub(super) fn stack(stacking: &Stacking, input: &[f32], votes: &[f64], probabilities: &mut [f32]) {
    stacking.evaluate(input, votes, probabilities);
}
