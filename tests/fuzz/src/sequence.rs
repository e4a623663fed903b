//! The parser and the engine driven by bytes: what a coverage-guided fuzzer makes of its input is frames and clock moves.
//!
//! ```text
//! one byte: profile, a clock that may run backwards | one byte: tunnels that are looked into
//! then, until the bytes end: two bytes, length | four bytes, microseconds since the last frame, signed | the frame
//! ```
//!
//! Numbers are little-endian; a length beyond the end means what is left.

use ml_ids_common::{Decap, Profile, parse_ethernet};

use crate::{
    episode::{Guard, PRESENT_US, answered, plausible},
    table::Table,
};

/// Flows that the table holds: few, so that it is full in a short input.
const CAPACITY: usize = 16;
/// Frames between two sweeps.
const SWEEP_EVERY: usize = 8;

/// The frames of an input.
#[derive(Clone, Copy, Debug)]
pub struct Sequence<'a> {
    /// How flows live.
    pub profile: Profile,
    /// A frame that is older than the flow's last counts as simultaneous with it, as live.
    pub monotonic: bool,
    /// Tunnels that are looked into.
    pub decap: Decap,
    rest: &'a [u8],
    now_us: u64,
}

impl<'a> Sequence<'a> {
    /// Reads the first two bytes; `None` when there are none.
    #[must_use]
    pub fn new(data: &'a [u8]) -> Option<Self> {
        let (&[kind, tunnels], rest) = data.split_first_chunk()?;
        let profile = *Profile::ALL.get(usize::from(kind) % Profile::ALL.len())?;
        let decap = Decap(tunnels & Decap::ALL.0);
        Some(Self { profile, monotonic: kind & 0x80 != 0, decap, rest, now_us: PRESENT_US })
    }
}

impl<'a> Iterator for Sequence<'a> {
    type Item = (u64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.rest.split_first_chunk::<2>()?;
        let (moved, rest) = rest.split_first_chunk::<4>()?;
        let (frame, rest) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
        self.rest = rest;
        self.now_us = self.now_us.wrapping_add_signed(i64::from(i32::from_le_bytes(*moved)));
        Some((self.now_us, frame))
    }
}

/// Runs an input through parser and table; every finished flow is recounted and the books are balanced.
///
/// # Errors
/// The first fault found.
pub fn run(data: &[u8]) -> Result<(), String> {
    let Some(frames) = Sequence::new(data) else { return Ok(()) };
    let mut table = Table::new(frames.profile, frames.monotonic, CAPACITY);
    for (number, (now_us, frame)) in frames.enumerate() {
        let length = frame.len() as u32;
        let parsed = parse_ethernet(&Guard::new(frame), length, frames.profile, frames.decap);
        if let Ok(packet) = &parsed {
            plausible(packet, length)?;
            answered(packet, frames.profile)?;
        }
        table.frame(parsed, length, now_us)?;
        if number % SWEEP_EVERY == SWEEP_EVERY - 1 {
            table.sweep(now_us)?;
            table.balance()?;
        }
    }
    table.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_read_as_the_head_says() {
        let input = [&[0x80, 0x0f, 3, 0, 10, 0, 0, 0, 1, 2, 3][..], &[9, 0, 0xff, 0xff, 0xff, 0xff, 4]].concat();
        let sequence = Sequence::new(&input).unwrap();
        assert!(sequence.monotonic);
        let frames: Vec<_> = sequence.collect();
        assert_eq!(frames, [(PRESENT_US + 10, &[1, 2, 3][..]), (PRESENT_US + 9, &[4])]);
    }

    #[test]
    fn no_bytes_are_no_frames() {
        assert!(Sequence::new(&[1]).is_none());
        assert_eq!(run(&[]), Ok(()));
    }
}
