//! Which rows of a block come to which place of a tree's top.

use super::{
    block::Block,
    top::{EXITS, PLACES, Top},
};

/// For each place of a top a word with a bit a row: whether the row comes there.
pub(super) struct Reach([u64; PLACES]);

impl Reach {
    /// All rows are at the root.
    pub(super) fn new() -> Self {
        Self([u64::MAX; PLACES])
    }

    /// The rows that come to `place`.
    #[inline(always)]
    pub(super) fn rows(&self, place: u8) -> u64 {
        self.0[usize::from(place) % PLACES]
    }

    /// Sends the rows of a block through a top. `compare` gives the bits of a column's rows that are at most a threshold.
    #[inline(always)]
    pub(super) fn fill(&mut self, top: Top<'_>, block: &Block, compare: impl Fn(&[f32; Block::ROWS], f32) -> u64) {
        for (number, branch) in top.branches.iter().enumerate() {
            let left = compare(block.column(branch.feature), branch.threshold);
            let here = self.rows(branch.place);
            self.0[(2 * number + 1) % PLACES] = here & left;
            self.0[(2 * number + 2) % PLACES] = here & !left;
        }
    }

    /// The rows that come out of a top at a branch.
    #[inline(always)]
    pub(super) fn walking(&self, top: Top<'_>) -> u64 {
        top.inner.iter().fold(0, |rows, exit| rows | self.rows(exit.place))
    }

    /// The number of the exit that each row takes, as every CPU can find it.
    #[inline(always)]
    pub(super) fn exits(&self, top: Top<'_>) -> [u8; Block::ROWS] {
        let mut rows = [0; EXITS];
        for (rows, exit) in rows.iter_mut().zip(top.exits) {
            *rows = self.rows(exit.place);
        }
        // For each bit of the number a word with a bit a row. Numbers that differ in that bit only are joined after it.
        let mut bits = [0; 8];
        let mut pairs = top.exits.len().next_power_of_two() / 2;
        for bit in &mut bits {
            for pair in 0..pairs {
                let [even, odd] = [rows[2 * pair % EXITS], rows[(2 * pair + 1) % EXITS]];
                *bit |= odd;
                rows[pair % EXITS] = even | odd;
            }
            pairs /= 2;
        }
        let mut numbers = [0; Block::ROWS];
        for (eight, numbers) in numbers.as_chunks_mut().0.iter_mut().enumerate() {
            *numbers = transposed(bits.map(|bit| (bit >> (8 * eight)) as u8));
        }
        numbers
    }
}

/// Rows of eight bits as columns.
#[inline(always)]
fn transposed(rows: [u8; 8]) -> [u8; 8] {
    /// Bits that change places with those so many bits further up.
    const SWAPS: [(u64, u32); 3] =
        [(0x00aa_00aa_00aa_00aa, 7), (0x0000_cccc_0000_cccc, 14), (0x0000_0000_f0f0_f0f0, 28)];
    let swap = |bits: u64, &(which, distance): &(u64, u32)| {
        let differ = (bits ^ bits >> distance) & which;
        bits ^ differ ^ differ << distance
    };
    SWAPS.iter().fold(u64::from_le_bytes(rows), swap).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_j_of_row_i_is_bit_i_of_column_j() {
        for row in 0..8 {
            for column in 0..8 {
                let (mut rows, mut columns) = ([0; 8], [0; 8]);
                rows[row] = 1 << column;
                columns[column] = 1 << row;
                assert_eq!(transposed(rows), columns);
            }
        }
    }
}
