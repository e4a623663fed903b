//! The walk with AVX-512: the top of a tree compares 16 rows an instruction, and a single row goes through 32 trees at a
//! time, with its 78 values in registers.

use std::arch::x86_64::{
    __m512, __m512i, _CMP_LE_OQ, _mm512_add_epi8, _mm512_add_epi32, _mm512_and_si512, _mm512_castsi512_ps,
    _mm512_castsi512_si256, _mm512_cmp_ps_mask, _mm512_extracti64x4_epi64, _mm512_i32gather_epi64, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_mask_add_epi32, _mm512_mask_cmp_ps_mask, _mm512_mask_mov_epi8, _mm512_mask_mov_epi32,
    _mm512_mask_mov_ps, _mm512_movepi32_mask, _mm512_permutex2var_epi32, _mm512_permutex2var_ps, _mm512_permutexvar_ps,
    _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_si512, _mm512_srli_epi32, _mm512_storeu_si512,
    _mm512_test_epi32_mask,
};

use super::{
    super::{
        predictor::Stacking,
        trees::{FEATURE_SHIFT, Forest, Node, TARGET},
    },
    block::{self, Block},
    reach::Reach,
    top::Top,
};
use crate::features::FEATURE_COUNT;

/// Values of a register.
const LANES: usize = 16;
/// Trees that a single row walks through at a time.
const TREES: usize = 2 * LANES;
/// Registers that hold a row.
const REGISTERS: usize = FEATURE_COUNT.div_ceil(LANES);
const _: () = assert!(REGISTERS == 5, "`values_at` looks into five registers");

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn walk_blocks(forest: &Forest, blocks: &[Block], sums: &mut [f64]) {
    block::walk_blocks(forest, &forest.tops.wide, blocks, sums, |reach, top, block| {
        match block.rows() {
            0..=16 => reach.fill(top, block, |column, threshold| compare::<1>(column, threshold)),
            17..=32 => reach.fill(top, block, |column, threshold| compare::<2>(column, threshold)),
            _ => reach.fill(top, block, |column, threshold| compare::<4>(column, threshold)),
        }
        exits(reach, top)
    });
}

/// Bits of the rows, in `REGISTERS` registers, whose values are at most the threshold.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn compare<const REGISTERS: usize>(column: &[f32; Block::ROWS], threshold: f32) -> u64 {
    let threshold = _mm512_set1_ps(threshold);
    let mut left = 0;
    for (number, rows) in column.as_chunks::<LANES>().0[..REGISTERS].iter().enumerate() {
        // SAFETY: the array has the 16 values that are read.
        let values = unsafe { _mm512_loadu_ps(rows.as_ptr()) };
        left |= u64::from(_mm512_cmp_ps_mask::<_CMP_LE_OQ>(values, threshold)) << (number * LANES);
    }
    left
}

/// The number of the exit that each row takes: 64 bytes of a register, of which each exit sets those of its rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn exits(reach: &Reach, top: Top<'_>) -> [u8; Block::ROWS] {
    let mut number = _mm512_setzero_si512();
    let mut exits = _mm512_setzero_si512();
    for exit in top.exits {
        exits = _mm512_mask_mov_epi8(exits, reach.rows(exit.place), number);
        number = _mm512_add_epi8(number, _mm512_set1_epi8(1));
    }
    let mut numbers = [0; Block::ROWS];
    // SAFETY: the array has room for the 64 bytes that are written.
    unsafe { _mm512_storeu_si512(numbers.as_mut_ptr().cast(), exits) };
    numbers
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn walk_row(forest: &Forest, row: &[f32; FEATURE_COUNT], sums: &mut [f64]) {
    let mut padded = [0.0; REGISTERS * LANES];
    padded[..FEATURE_COUNT].copy_from_slice(row);
    // SAFETY: the array has five times the 16 values that are read.
    let row = std::array::from_fn(|register| unsafe { _mm512_loadu_ps(padded.as_ptr().add(register * LANES)) });
    for roots in forest.roots.chunks(TREES) {
        // Lanes without a tree walk the first one again; their leaves are not counted.
        let mut at = [roots[0]; TREES];
        at[..roots.len()].copy_from_slice(roots);
        let places = at.as_mut_ptr();
        // SAFETY: the array has the 32 values that are read.
        let mut lanes = unsafe { [_mm512_loadu_si512(places.cast()), _mm512_loadu_si512(places.add(LANES).cast())] };
        loop {
            // SAFETY: roots are nodes of the forest, and so is what a step makes of a node.
            let walking = unsafe { step(forest, &row, &mut lanes[0]) | step(forest, &row, &mut lanes[1]) };
            if walking == 0 {
                break;
            }
        }
        // SAFETY: the array has room for the 32 values that are written.
        unsafe {
            _mm512_storeu_si512(places.cast(), lanes[0]);
            _mm512_storeu_si512(places.add(LANES).cast(), lanes[1]);
        }
        at[..roots.len()].iter().for_each(|&leaf| forest.add_votes(leaf, sums));
    }
}

/// Takes one step from each of 16 nodes; leaves stay where they are. Tells which are no leaves.
///
/// # Safety
///
/// All of `at` must be indices of the forest's nodes. A branch's children then are, as [`super::super::ensemble`] has
/// checked.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn step(forest: &Forest, row: &[__m512; REGISTERS], at: &mut __m512i) -> u16 {
    const { assert!(size_of::<Node>() == 8) };
    let nodes = forest.nodes.as_ptr().cast();
    // SAFETY: each index times 8 is where a node of 8 bytes begins.
    let pairs = unsafe {
        [
            _mm512_i32gather_epi64::<8>(_mm512_castsi512_si256(*at), nodes),
            _mm512_i32gather_epi64::<8>(_mm512_extracti64x4_epi64::<1>(*at), nodes),
        ]
    };
    let (thresholds, words) = apart(pairs);
    let walking = !_mm512_movepi32_mask(words);
    let values = values_at(row, _mm512_srli_epi32::<FEATURE_SHIFT>(words));
    let left = _mm512_mask_cmp_ps_mask::<_CMP_LE_OQ>(walking, values, thresholds);
    let targets = _mm512_and_si512(words, _mm512_set1_epi32(TARGET as i32));
    *at = _mm512_mask_mov_epi32(*at, walking & !left, targets);
    *at = _mm512_mask_add_epi32(*at, left, *at, _mm512_set1_epi32(1));
    walking
}

/// Sixteen nodes as their thresholds and their words.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn apart(pairs: [__m512i; 2]) -> (__m512, __m512i) {
    const EVEN: [i32; LANES] = [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30];
    // SAFETY: the array has the 16 values that are read.
    let even = unsafe { _mm512_loadu_si512(EVEN.as_ptr().cast()) };
    let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    let thresholds = _mm512_castsi512_ps(_mm512_permutex2var_epi32(pairs[0], even, pairs[1]));
    (thresholds, _mm512_permutex2var_epi32(pairs[0], odd, pairs[1]))
}

/// The row's values of 16 features, from registers: bits 0 to 4 of a feature choose among two of them, bits 5 and 6 which
/// two. Higher bits do not matter.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn values_at(row: &[__m512; REGISTERS], features: __m512i) -> __m512 {
    let low = _mm512_permutex2var_ps(row[0], features, row[1]);
    let middle = _mm512_permutex2var_ps(row[2], features, row[3]);
    let high = _mm512_permutexvar_ps(features, row[4]);
    let is_middle = _mm512_test_epi32_mask(features, _mm512_set1_epi32(32));
    let is_high = _mm512_test_epi32_mask(features, _mm512_set1_epi32(64));
    _mm512_mask_mov_ps(_mm512_mask_mov_ps(low, is_middle, middle), is_high, high)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn stack(stacking: &Stacking, input: &[f32], votes: &[f64], probabilities: &mut [f32]) {
    stacking.evaluate(input, votes, probabilities);
}
