//! What a hostile or broken sender makes of a well-formed frame.

use crate::random::Random;

/// Largest frame that a mutation makes, in bytes. Beyond what any extension header chain reaches.
const MAX_FRAME: usize = 9216;

/// Applies one to four mutations in place. `donor` is an earlier frame, for splices.
pub(crate) fn mutate(random: &mut Random, frame: &mut Vec<u8>, donor: &[u8]) {
    for _ in 0..=random.below(4) {
        match random.below(8) {
            0 => truncate(random, frame),
            1 | 2 => flip(random, frame),
            3 => overwrite(random, frame),
            4 => splice(random, frame, donor),
            5 => lie_about_length(random, frame),
            6 => insert(random, frame),
            _ => extend(random, frame),
        }
    }
}

fn truncate(random: &mut Random, frame: &mut Vec<u8>) {
    // Headers are where a cut matters, so most cuts fall there.
    let reach = if random.percent(80) { frame.len().min(120) } else { frame.len() };
    frame.truncate(random.index(reach + 1));
}

/// A position, mostly within the headers.
fn position(random: &mut Random, frame: &[u8]) -> Option<usize> {
    let reach = if random.percent(90) { frame.len().min(120) } else { frame.len() };
    (reach > 0).then(|| random.index(reach))
}

fn flip(random: &mut Random, frame: &mut [u8]) {
    for _ in 0..=random.below(8) {
        if let Some(at) = position(random, frame) {
            frame[at] ^= 1 << random.below(8);
        }
    }
}

fn overwrite(random: &mut Random, frame: &mut [u8]) {
    let Some(at) = position(random, frame) else { return };
    let end = frame.len().min(at + 1 + random.index(4));
    let value = random.pick([0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff]);
    frame[at..end].fill(value);
}

fn splice(random: &mut Random, frame: &mut Vec<u8>, donor: &[u8]) {
    let keep = random.index(frame.len() + 1);
    let from = random.index(donor.len() + 1);
    frame.truncate(keep);
    frame.extend_from_slice(&donor[from..]);
    frame.truncate(MAX_FRAME);
}

/// Sets a field of the untagged headers that says how long something is: IPv4 header length and total length, IPv6
/// payload length, TCP data offset behind either.
fn lie_about_length(random: &mut Random, frame: &mut [u8]) {
    let at = random.pick([14, 16, 17, 18, 19, 20, 46, 55, 66]);
    if let Some(byte) = frame.get_mut(at) {
        *byte =
            if random.percent(50) { random.pick([0x00, 0x40, 0x41, 0x4f, 0x50, 0xf0, 0xff]) } else { random.byte() };
    }
}

fn insert(random: &mut Random, frame: &mut Vec<u8>) {
    let at = random.index(frame.len().min(120) + 1);
    let count = 1 + random.index(8);
    let value = random.byte();
    frame.splice(at..at, std::iter::repeat_n(value, count));
}

fn extend(random: &mut Random, frame: &mut Vec<u8>) {
    let wanted = if random.percent(95) { random.index(64) } else { random.index(MAX_FRAME) };
    let value = random.byte();
    frame.resize((frame.len() + wanted).min(MAX_FRAME), value);
}
