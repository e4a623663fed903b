//! How rows walk through a forest, on the widest instruction set that the CPU has. All of them give the same bits.
//!
//! Many rows go block by block through a few trees at a time, while the next trees are on their way from memory. In a
//! block the branches of a tree's top are taken by comparing whole columns; what is deeper is walked row by row, each row
//! a step in turn, so that their cache misses overlap. A few rows go one by one through many trees at a time.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod block;
mod plain;
mod reach;
mod top;

use std::fmt;

use self::block::Block;
pub(super) use self::top::Tops;
use super::{predictor::Stacking, trees::Forest};
use crate::features::FEATURE_COUNT;

/// Fewer rows than this are faster one by one.
const FEWEST_FOR_A_BLOCK: usize = 12;

/// What a model is evaluated with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstructionSet {
    /// AVX-512 (F, BW, DQ, VL): 16 values at a time, and a row goes through 32 trees at a time.
    Avx512,
    /// AVX2: 8 values at a time.
    Avx2,
    /// What every CPU of the architecture has.
    Plain,
}

impl InstructionSet {
    /// All of them, the widest first.
    pub const ALL: [Self; 3] = [Self::Avx512, Self::Avx2, Self::Plain];

    /// The widest that this CPU has.
    #[must_use]
    pub fn detect() -> Self {
        Self::ALL.into_iter().find(|set| set.is_available()).unwrap_or(Self::Plain)
    }

    /// Whether this CPU has it.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx512 | Self::Avx2 => false,
            Self::Plain => true,
        }
    }

    /// Itself where the CPU has it, else the plain one.
    pub(super) fn or_plain(self) -> Self {
        if self.is_available() { self } else { Self::Plain }
    }

    /// As reports and options spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Plain => "plain",
        }
    }

    /// Adds the votes for each row of `input` (rows of 78) to its sums.
    pub(super) fn add_votes(self, forest: &Forest, input: &[f32], sums: &mut [f64]) {
        let rows = input.len() / FEATURE_COUNT;
        let alone = match rows % Block::ROWS {
            rest if rest < FEWEST_FOR_A_BLOCK => rest,
            _ => 0,
        };
        let (in_blocks, one_by_one) = input.split_at((rows - alone) * FEATURE_COUNT);
        let (block_sums, row_sums) = sums.split_at_mut((rows - alone) * forest.classes);
        if !in_blocks.is_empty() {
            let blocks: Vec<Block> = in_blocks.chunks(Block::ROWS * FEATURE_COUNT).map(Block::of).collect();
            self.walk_blocks(forest, &blocks, block_sums);
        }
        let rows = one_by_one.as_chunks::<FEATURE_COUNT>().0;
        for (row, sums) in rows.iter().zip(row_sums.chunks_exact_mut(forest.classes)) {
            self.walk_row(forest, row, sums);
        }
    }

    fn walk_blocks(self, forest: &Forest, blocks: &[Block], sums: &mut [f64]) {
        match self.or_plain() {
            // SAFETY: `or_plain` has seen that the CPU has these instructions.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512::walk_blocks(forest, blocks, sums) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2::walk_blocks(forest, blocks, sums) },
            _ => plain::walk_blocks(forest, blocks, sums),
        }
    }

    fn walk_row(self, forest: &Forest, row: &[f32; FEATURE_COUNT], sums: &mut [f64]) {
        match self.or_plain() {
            // SAFETY: `or_plain` has seen that the CPU has these instructions.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512::walk_row(forest, row, sums) },
            // Half as wide, gathering gains nothing over loads (docs/models.md).
            _ => plain::walk_row(forest, row, sums),
        }
    }

    /// Has a stacking's linear models compiled for this instruction set make probabilities of the trees' votes.
    pub(super) fn stack(self, stacking: &Stacking, input: &[f32], votes: &[f64], probabilities: &mut [f32]) {
        match self.or_plain() {
            // SAFETY: `or_plain` has seen that the CPU has these instructions.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { avx512::stack(stacking, input, votes, probabilities) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { avx2::stack(stacking, input, votes, probabilities) },
            _ => stacking.evaluate(input, votes, probabilities),
        }
    }
}

impl fmt::Display for InstructionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
