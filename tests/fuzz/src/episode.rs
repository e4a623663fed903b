//! One episode: some thousand frames and clock moves from one seed, through the parser and the tables of all profiles.

use std::cell::Cell;

use ml_ids_common::{
    Decap, FlowKey, Fragment, FrameReader, IpVersion, MAX_TUNNEL_HEADERS, Packet, Profile, Skip, SliceReader,
    parse_ethernet,
};

use crate::{
    frames::{self, Expected, Population},
    mutate::mutate,
    random::Random,
    table::Table,
};

/// Frames of an episode.
pub const FRAMES: u64 = 4096;
/// Unix time at which most episodes start, in microseconds.
pub(crate) const PRESENT_US: u64 = 1_700_000_000_000_000;
const SECOND: u64 = 1_000_000;

/// What an episode came to, over all profiles.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Frames run, each under all profiles.
    pub frames: u64,
    /// Frames that were well-formed.
    pub well_formed: u64,
    /// Packets that were counted into flows.
    pub in_flow: u64,
    /// Packets that were not, by reason.
    pub skipped: [u64; Skip::COUNT],
    /// Flows that ended and were recounted.
    pub emitted: u64,
    /// Flows that were too short to be emitted.
    pub discarded: u64,
    /// Packets of the longest flow.
    pub longest: u32,
}

impl Tally {
    /// Adds another episode.
    pub fn add(&mut self, other: &Self) {
        let Self { frames, well_formed, in_flow, skipped, emitted, discarded, longest } = other;
        self.frames += frames;
        self.well_formed += well_formed;
        self.in_flow += in_flow;
        self.emitted += emitted;
        self.discarded += discarded;
        self.longest = self.longest.max(*longest);
        for (sum, count) in self.skipped.iter_mut().zip(skipped) {
            *sum += count;
        }
    }
}

/// Told of each frame just before it is run, so that a failing episode can be written down.
pub trait Watch {
    /// A frame, and the time at which it comes.
    fn frame(&mut self, now_us: u64, frame: &[u8]);
}

/// Nobody watches.
impl Watch for () {
    fn frame(&mut self, _now_us: u64, _frame: &[u8]) {}
}

/// Runs one episode.
///
/// # Errors
/// The first fault found. Panics of the parser and the engine (overflow, bounds) are the caller's to catch.
pub fn run(seed: u64, episode: u64, watch: &mut impl Watch) -> Result<Tally, String> {
    let mut random = Random::new(seed, episode);
    let monotonic = random.percent(40);
    let population = Population::new(&mut random);
    let decap = if random.percent(50) { Decap::NONE } else { Decap(random.byte() & Decap::ALL.0) };
    // Small enough to be full in some episodes.
    let capacity = random.pick([16, 256, 4096]);
    let mut clock = Clock::new(&mut random);
    let mut tables = Profile::ALL.map(|profile| Table::new(profile, monotonic, capacity));
    let mut tally = Tally::default();
    let (mut frame, mut donor) = (Vec::new(), Vec::new());
    for _ in 0..FRAMES {
        let now_us = clock.advance(&mut random);
        let mut expected = Some(frames::build(&mut random, population, decap, &mut frame));
        if random.percent(20) {
            let original = frame.clone();
            mutate(&mut random, &mut frame, &donor);
            if frame != original {
                expected = None;
            }
            donor = original;
        }
        watch.frame(now_us, &frame);
        // A multi-buffer frame: what is readable ends before the frame does.
        let unreadable = if random.percent(3) { random.below(65536) as u32 } else { 0 };
        let length = frame.len() as u32 + unreadable;
        for table in &mut tables {
            let profile = table.profile();
            let parsed = parse_ethernet(&Guard::new(&frame), length, profile, decap);
            parsed.map_or(Ok(()), |packet| plausible(&packet, length).and_then(|()| answered(&packet, profile)))?;
            if let Some(expected) = expected.filter(|_| unreadable == 0) {
                agrees(expected, parsed, profile)?;
            }
            table.frame(parsed, length, now_us)?;
        }
        tally.well_formed += u64::from(expected.is_some());
        if random.below(64) == 0 {
            for table in &mut tables {
                table.sweep(now_us)?;
                table.balance()?;
            }
        }
    }
    tally.frames = FRAMES;
    for table in &mut tables {
        table.finish()?;
        tally.in_flow += table.packets.in_flow;
        tally.emitted += table.flows.emitted;
        tally.discarded += table.flows.discarded;
        tally.longest = tally.longest.max(table.longest);
        for (sum, count) in tally.skipped.iter_mut().zip(table.packets.skipped) {
            *sum += count;
        }
    }
    Ok(tally)
}

/// Holds the parser to what the kernel's reader relies on: even offsets, and an end to the reading.
pub(crate) struct Guard<'a> {
    reader: SliceReader<'a>,
    reads: Cell<u32>,
}

impl<'a> Guard<'a> {
    pub(crate) fn new(frame: &'a [u8]) -> Self {
        Self { reader: SliceReader(frame), reads: Cell::new(0) }
    }
}

impl FrameReader for Guard<'_> {
    fn halfwords<const N: usize>(&self, offset: u32) -> Option<[u16; N]> {
        assert!(offset.is_multiple_of(2), "the parser reads a header at the odd offset {offset}");
        self.reads.set(self.reads.get() + 1);
        assert!(self.reads.get() <= 32 + 2 * MAX_TUNNEL_HEADERS, "the parser reads more headers than it may follow");
        self.reader.halfwords(offset)
    }

    fn forget(&self, offset: u32) -> u32 {
        assert!(offset <= u32::from(u16::MAX), "the offset {offset} is wider than the kernel's reader can pass on");
        offset
    }
}

/// What must hold of any packet that the parser lets through.
pub(crate) fn plausible(packet: &Packet, length: u32) -> Result<(), String> {
    let headed = packet.fragment != Fragment::LATER;
    let tcp_or_udp = matches!(packet.key.protocol, 6 | 17) && headed;
    let ports = (tcp_or_udp || packet.key.protocol == 132) && headed;
    let blank = packet.header == 0 && packet.flags.0 == 0 && packet.window == 0 && packet.padded_payload == 0;
    let holds = packet.payload <= packet.padded_payload
        && packet.padded_payload <= length
        && packet.header <= 60
        && matches!(packet.key.protocol, 0 | 6 | 17 | 132)
        && packet.fragment.0 <= Fragment::LATER.0
        && matches!(packet.key.version, 4 | 6)
        && packet.key.reserved == 0
        && (tcp_or_udp || blank)
        && (ports || (packet.key.port_a == 0 && packet.key.port_b == 0));
    if holds { Ok(()) } else { Err(format!("a frame of {length} bytes cannot be {packet:?}")) }
}

/// The answer to a packet must find the same flow, from its other end.
pub(crate) fn answered(packet: &Packet, profile: Profile) -> Result<(), String> {
    let key = packet.key;
    let Some(version) = [IpVersion::V4, IpVersion::V6].into_iter().find(|version| *version as u8 == key.version) else {
        return Err(format!("IP version {}", key.version));
    };
    let (a, b) = ((key.addr_a, key.port_a), (key.addr_b, key.port_b));
    let (from, to) = if packet.from_b { (b, a) } else { (a, b) };
    let per_direction = matches!(profile, Profile::Cic2017);
    let again = FlowKey::canonical(version, key.protocol, from, to, per_direction);
    let answer = FlowKey::canonical(version, key.protocol, to, from, per_direction);
    let one_way = a == b || (per_direction && key.one_host());
    if again == (key, packet.from_b) && (one_way || answer == (key, !packet.from_b)) {
        Ok(())
    } else {
        Err(format!("{} keeps a packet under {key:?} and its answer under {answer:?}", profile.name()))
    }
}

/// Compares what the parser made of a well-formed frame with what the builder put into it.
fn agrees(expected: Result<Expected, Skip>, parsed: Result<Packet, Skip>, profile: Profile) -> Result<(), String> {
    let found = parsed.map(|packet| {
        let key = packet.key;
        let a = (key.addr_a.to_ip(key.version), key.port_a);
        let b = (key.addr_b.to_ip(key.version), key.port_b);
        let (source, destination) = if packet.from_b { (b, a) } else { (a, b) };
        Expected {
            version: key.version,
            protocol: key.protocol,
            source: sixteen(source.0),
            destination: sixteen(destination.0),
            source_port: source.1,
            destination_port: destination.1,
            header: packet.header,
            flags: packet.flags.0,
            window: packet.window,
            payload: packet.payload,
            padded_payload: packet.padded_payload,
            fragment: packet.fragment,
            datagram: if packet.fragment == Fragment::NONE { 0 } else { packet.datagram },
        }
    });
    if found == expected {
        Ok(())
    } else {
        Err(format!("a well-formed frame is misread by {}:\n  sent {expected:?}\n  read {found:?}", profile.name()))
    }
}

fn sixteen(address: std::net::IpAddr) -> [u8; 16] {
    match address {
        std::net::IpAddr::V4(address) => {
            let mut bytes = [0; 16];
            bytes[12..].copy_from_slice(&address.octets());
            bytes
        }
        std::net::IpAddr::V6(address) => address.octets(),
    }
}

/// A clock that creeps, stops at the engine's limits, runs backwards, and jumps.
struct Clock {
    now_us: u64,
    /// Most moves are tiny, so that flows grow long.
    calm: bool,
}

impl Clock {
    fn new(random: &mut Random) -> Self {
        let now_us = match random.below(10) {
            0 => 0,
            1 => random.below(200 * SECOND),
            2 => u64::MAX - random.below(200 * SECOND),
            _ => PRESENT_US,
        };
        Self { now_us, calm: random.percent(60) }
    }

    fn advance(&mut self, random: &mut Random) -> u64 {
        let scale = if self.calm { 20 } else { 1 };
        let now = self.now_us;
        self.now_us = match random.below(1000 * scale) {
            0 => random.bits(),
            1..8 => now.wrapping_sub(random.below(200 * SECOND)),
            8..40 => now.wrapping_sub(random.below(SECOND)),
            40..60 => now.wrapping_add(random.below(130 * SECOND)),
            60..120 => {
                let limit = random.pick([1, 5, 120]) * SECOND;
                now.wrapping_add(limit + random.below(2))
            }
            120..200 => now.wrapping_add(random.below(10 * SECOND)),
            200..350 => now.wrapping_add(random.below(2 * SECOND)),
            350..400 => now,
            _ => now.wrapping_add(random.below(2000)),
        };
        self.now_us
    }
}
