//! Inputs made of others.

use ml_ids_fuzz::random::Random;

use ml_ids_fuzz_targets::Target;

/// Values at which lengths, counts and offsets go wrong.
const EDGES: [u64; 10] = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff];
/// Mutations of one input, at most.
const MOST: u64 = 6;

/// An input made of one of the corpus, parts of others, and the target's words.
pub(crate) fn mutated(random: &mut Random, target: &Target, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut input = any(random, corpus).to_vec();
    for _ in 0..=random.below(MOST) {
        let at = random.index(input.len() + 1);
        match random.below(9) {
            0 => input.truncate(at),
            1 => flip(random, &mut input),
            2 => overwrite(&mut input, at, &[random.byte()]),
            3 => {
                let width = random.pick([1, 2, 4, 8]);
                let edge = random.pick(EDGES);
                let (little, big) = (edge.to_le_bytes(), edge.to_be_bytes());
                let bytes = if random.percent(50) { &little[..width] } else { &big[8 - width..] };
                overwrite(&mut input, at, bytes);
            }
            4 => {
                let end = input.len().min(at + 1 + random.index(32));
                input.drain(at..end);
            }
            5 => {
                let value = random.byte();
                let count = 1 + random.index(16);
                insert(&mut input, at, &vec![value; count]);
            }
            6 => {
                let donor = any(random, corpus);
                let from = random.index(donor.len() + 1);
                let part = &donor[from..];
                let part = &part[..part.len().min(1 + random.index(256))];
                if random.percent(50) { overwrite(&mut input, at, part) } else { insert(&mut input, at, part) }
            }
            7 => {
                let end = input.len().min(at + 1 + random.index(128));
                let part = input[at..end].to_vec();
                insert(&mut input, at, &part);
            }
            _ => {
                let Some(word) = target.words.get(random.index(target.words.len())) else { continue };
                if random.percent(50) { overwrite(&mut input, at, word) } else { insert(&mut input, at, word) }
            }
        }
    }
    input.truncate(target.longest);
    input
}

fn any<'a>(random: &mut Random, corpus: &'a [Vec<u8>]) -> &'a [u8] {
    corpus.get(random.index(corpus.len())).map_or(&[], Vec::as_slice)
}

fn flip(random: &mut Random, input: &mut [u8]) {
    for _ in 0..=random.below(4) {
        let at = random.index(input.len());
        if let Some(byte) = input.get_mut(at) {
            *byte ^= 1 << random.below(8);
        }
    }
}

/// Writes over what stands there, and not beyond the end.
fn overwrite(input: &mut [u8], at: usize, bytes: &[u8]) {
    for (old, new) in input.iter_mut().skip(at).zip(bytes) {
        *old = *new;
    }
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    input.splice(at..at, bytes.iter().copied());
}

#[cfg(test)]
mod tests {
    use ml_ids_fuzz_targets::TARGETS;

    use super::*;

    #[test]
    fn a_seed_names_the_inputs_and_none_is_longer_than_the_target_wants() {
        let corpus = [vec![1; 5000], b"short".to_vec(), Vec::new()];
        let target = Target { longest: 100, ..TARGETS[0] };
        let inputs = |seed| {
            let mut random = Random::new(seed, 0);
            (0..500).map(|_| mutated(&mut random, &target, &corpus)).collect::<Vec<_>>()
        };
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
        assert!(inputs(1).iter().all(|input| input.len() <= 100));
    }

    #[test]
    fn an_empty_corpus_still_makes_inputs() {
        let mut random = Random::new(1, 1);
        assert!((0..100).any(|_| !mutated(&mut random, &TARGETS[0], &[]).is_empty()));
    }
}
