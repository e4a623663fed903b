//! Nanoseconds to microseconds without a division, which costs the kernel path more than all of its additions.

/// The microseconds in `nanoseconds`, truncated, exactly.
///
/// By 2^32 = 4,294,967 x 1,000 + 296 the number shrinks to 41 bits, by a reciprocal that is a little too small to a remainder
/// of 12, and by one that is exact for so few to nothing.
#[inline(always)]
#[must_use]
pub const fn microseconds(nanoseconds: u64) -> u64 {
    let high = nanoseconds >> 32;
    let rest = high.wrapping_mul(296).wrapping_add(nanoseconds & 0xffff_ffff);
    // A thousand is 8 x 125.
    let eighths = rest >> 3;
    // 2^32 / 125 = 34,359,738.368: at most 24 too little for the 38 bits that are left.
    let nearly = eighths.wrapping_mul(34_359_738) >> 32;
    let missing = eighths.wrapping_sub(nearly.wrapping_mul(125));
    // 2^20 / 125 = 8,388.608: 8,389 is exact below 21,399.
    let fine = missing.wrapping_mul(8_389) >> 20;
    high.wrapping_mul(4_294_967).wrapping_add(nearly).wrapping_add(fine)
}

#[cfg(test)]
mod tests {
    use super::microseconds;

    /// Numbers all over and around each power of two; Miri, which is thousands of times slower, looks at fewer.
    const SAMPLES: (u64, u64) = if cfg!(miri) { (500, 10) } else { (1_000_000, 1_000) };

    #[test]
    fn it_is_the_division_by_a_thousand() {
        let edges = (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        let (all, around) = SAMPLES;
        let near =
            edges.flat_map(|edge| (0..=2 * around).map(move |step| edge.wrapping_add(step).wrapping_sub(around)));
        let mut spread = 0u64;
        let all_over = (0..all).map(|_| {
            // A full-period generator (Knuth's MMIX).
            spread = spread.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            spread >> (spread & 31)
        });
        for nanoseconds in near.chain(all_over) {
            assert_eq!(microseconds(nanoseconds), nanoseconds / 1_000, "{nanoseconds}");
        }
    }
}
