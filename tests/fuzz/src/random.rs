//! The one source of chance: a xorshift generator, so that a seed names a run exactly, on any machine.

/// xorshift64* (Vigna 2016, <https://doi.org/10.1145/2845077>).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator for one episode of a run. Neighbouring numbers give unrelated sequences (splitmix64 finaliser).
    pub fn new(seed: u64, episode: u64) -> Self {
        let mut mixed = seed.wrapping_add(episode.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // The state must not be zero.
        Self((mixed ^ (mixed >> 31)) | 1)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number in `0..bound`; 0 when the bound is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.bits()) * u128::from(bound);
        (wide >> 64) as u64
    }

    /// A number in `0..bound` as an index.
    pub fn index(&mut self, bound: usize) -> usize {
        self.below(bound as u64) as usize
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        (self.bits() >> 56) as u8
    }

    /// True `percent` times of a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of a fixed set.
    pub fn pick<T: Copy, const N: usize>(&mut self, choices: [T; N]) -> T {
        choices[self.index(N)]
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn a_seed_and_an_episode_name_one_sequence() {
        let draw = |seed, episode| {
            let mut random = Random::new(seed, episode);
            [random.bits(), random.bits(), random.bits()]
        };
        assert_eq!(draw(7, 3), draw(7, 3));
        assert_ne!(draw(7, 3), draw(7, 4));
        assert_ne!(draw(7, 3), draw(8, 3));
    }

    #[test]
    fn below_reaches_every_value_and_no_other() {
        let mut random = Random::new(1, 1);
        let mut hit = [false; 5];
        for _ in 0..1000 {
            hit[random.index(5)] = true;
        }
        assert_eq!(hit, [true; 5]);
    }
}
