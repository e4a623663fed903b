//! Softmax in float64, with an exponential function of our own: the same bits on every machine and instruction set,
//! and a loop that the compiler makes vectors of, where the C library's is a call a value.

/// Turns scores into probabilities, in place.
#[inline(always)]
pub(super) fn softmax(scores: &mut [f64]) {
    let greatest =
        scores.iter().fold(f64::NEG_INFINITY, |greatest, &score| if score > greatest { score } else { greatest });
    for score in scores.iter_mut() {
        *score = exp(*score - greatest);
    }
    let sum: f64 = scores.iter().sum();
    for score in scores.iter_mut() {
        *score /= sum;
    }
}

/// Applies a softmax to each row of `classes` sums.
pub(super) fn softmax_rows(sums: &mut [f64], classes: usize) {
    sums.chunks_exact_mut(classes).for_each(softmax);
}

/// The one rounding to float32.
pub(super) fn round(sums: &[f64], probabilities: &mut [f32]) {
    for (probability, sum) in probabilities.iter_mut().zip(sums) {
        *probability = *sum as f32;
    }
}

/// e to the power of `x`, for `x` of at most 0; below -708 that is 0.
///
/// `x = k ln 2 + r` with `|r| <= ln 2 / 2`, so `e^x = 2^k e^r`, and the series of `e^r` ends below float64's precision
/// after thirteen terms.
#[inline(always)]
fn exp(x: f64) -> f64 {
    /// ln 2 in two parts, of which the first has so few bits that `k` times it is exact.
    const LN_2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
    const LN_2_LOW: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);
    /// Adding and subtracting it rounds to an integer, which then stands in the lowest bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    const SERIES: [f64; 12] = [
        1.0 / 479_001_600.0,
        1.0 / 39_916_800.0,
        1.0 / 3_628_800.0,
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
    ];
    let shifted = x * std::f64::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    let r = (x - k * LN_2_HIGH) - k * LN_2_LOW;
    let mut sum = 1.0 / 6_227_020_800.0;
    for factor in SERIES {
        sum = sum * r + factor;
    }
    let power = f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52);
    if x < -708.0 { 0.0 } else { (sum * r + 1.0) * power }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_that_of_the_c_library_up_to_its_last_bits() {
        for step in 0..=70_800_u32 {
            let x = -f64::from(step) / 100.0;
            let (ours, wanted) = (exp(x), x.exp());
            assert!((ours - wanted).abs() <= wanted * 4.0 * f64::EPSILON, "e^{x} is {wanted:e}, not {ours:e}");
        }
        assert_eq!((exp(0.0), exp(-800.0), exp(f64::NEG_INFINITY)), (1.0, 0.0, 0.0));
    }

    #[test]
    fn scores_however_large_become_probabilities() {
        for scores in [vec![0.0; 3], vec![1e300, -1e300, 0.0], vec![700.0, 699.0, -5.0], vec![-1e9, -1e9 - 1.0]] {
            let mut probabilities = scores.clone();
            softmax(&mut probabilities);
            let sum: f64 = probabilities.iter().sum();
            assert!((sum - 1.0).abs() < 1e-12, "{scores:?} became {probabilities:?}");
        }
        let mut two = [3.0, 5.0];
        softmax(&mut two);
        assert!((two[0] - 1.0 / (1.0 + 2.0_f64.exp())).abs() < 1e-15, "{two:?}");
    }
}
