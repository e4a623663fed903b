//! Synthetic traffic as a classic pcap file: mostly TCP conversations, DNS-like exchanges and some UDP streams, all
//! drawn from a seed. No checksums: nobody who reads it looks at them.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

/// 14 November 2023, in microseconds.
const START_US: u64 = 1_700_000_000_000_000;
/// Mean time between the starts of two conversations, in microseconds.
const MEAN_ARRIVAL_US: u64 = 4000;
const SNAP_LENGTH: u32 = 65535;
const MIN_FRAME: usize = 60;
const TCP: u8 = 6;
const UDP: u8 = 17;
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// Writes `packets` packets in the order of their times.
pub(crate) fn write(file: &Path, packets: u64, seed: u64) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(file)?);
    // Magic for microseconds, version 2.4, no zone, no accuracy, snap length, Ethernet.
    file.write_all(&0xa1b2_c3d4_u32.to_le_bytes())?;
    file.write_all(&[2, 0, 4, 0])?;
    file.write_all(&[0; 8])?;
    file.write_all(&SNAP_LENGTH.to_le_bytes())?;
    file.write_all(&1u32.to_le_bytes())?;
    let mut traffic = Traffic::new(seed);
    let mut frame = Vec::new();
    for _ in 0..packets {
        let packet = traffic.next();
        packet.encode(&mut frame);
        let length = u32::try_from(frame.len()).unwrap_or(SNAP_LENGTH);
        for word in [(packet.time_us / 1_000_000) as u32, (packet.time_us % 1_000_000) as u32, length, length] {
            file.write_all(&word.to_le_bytes())?;
        }
        file.write_all(&frame)?;
    }
    file.flush()
}

/// Draws conversations and merges their packets by time.
struct Traffic {
    random: Random,
    next_start_us: u64,
    /// Of conversations that have started before `next_start_us`.
    waiting: BinaryHeap<Reverse<Packet>>,
    serial: u64,
}

/// One packet. Ordered by time, then by when it was drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    time_us: u64,
    serial: u64,
    source: Host,
    destination: Host,
    protocol: u8,
    flags: u8,
    window: u16,
    timestamps: bool,
    payload: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Host {
    address: [u8; 4],
    port: u16,
}

impl Traffic {
    fn new(seed: u64) -> Self {
        let random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        Self { random, next_start_us: START_US, waiting: BinaryHeap::new(), serial: 0 }
    }

    /// There is always one more.
    fn next(&mut self) -> Packet {
        loop {
            match self.waiting.peek() {
                Some(Reverse(packet)) if packet.time_us < self.next_start_us => {
                    let packet = *packet;
                    self.waiting.pop();
                    return packet;
                }
                _ => self.start(),
            }
        }
    }

    fn start(&mut self) {
        let random = &mut self.random;
        let client = Host {
            address: [10, random.between(0, 8) as u8, random.between(0, 256) as u8, random.between(1, 255) as u8],
            port: random.between(1024, 65536) as u16,
        };
        let mut server =
            Host { address: [192, 168, random.between(0, 4) as u8, random.between(1, 255) as u8], port: 53 };
        let conversation = Conversation { traffic: self, time_us: 0, client, server, protocol: UDP, timestamps: false };
        match conversation.traffic.random.between(0, 100) {
            0..70 => {
                server.port = conversation.traffic.random.pick([80, 443, 443, 443, 22, 25, 8080]);
                let timestamps = conversation.traffic.random.between(0, 100) < 60;
                Conversation { protocol: TCP, server, timestamps, ..conversation }.tcp();
            }
            70..95 => conversation.exchange(),
            _ => {
                server.port = 5004;
                Conversation { server, ..conversation }.stream();
            }
        }
        self.next_start_us += 1 + self.random.between(0, 2 * MEAN_ARRIVAL_US);
    }
}

/// A conversation while it is drawn. Times are offsets from its start.
struct Conversation<'a> {
    traffic: &'a mut Traffic,
    time_us: u64,
    client: Host,
    server: Host,
    protocol: u8,
    timestamps: bool,
}

impl Conversation<'_> {
    fn send(&mut self, from_client: bool, flags: u8, window: u16, payload: u64) {
        let (source, destination) = if from_client { (self.client, self.server) } else { (self.server, self.client) };
        self.traffic.serial += 1;
        self.traffic.waiting.push(Reverse(Packet {
            time_us: self.traffic.next_start_us + self.time_us,
            serial: self.traffic.serial,
            source,
            destination,
            protocol: self.protocol,
            flags,
            window,
            timestamps: self.timestamps,
            payload: payload as usize,
        }));
    }

    fn wait(&mut self, low: u64, high: u64) {
        self.time_us += self.traffic.random.between(low, high);
    }

    /// Handshake, requests with bursts of answers, and an end by FINs or, sometimes, RST.
    fn tcp(mut self) {
        let round_trip = self.traffic.random.pick([200, 5000, 40000]);
        self.send(true, SYN, 64240, 0);
        self.time_us += round_trip;
        self.send(false, SYN | ACK, 65160, 0);
        self.time_us += round_trip / 4;
        self.send(true, ACK, 502, 0);
        for _ in 0..self.traffic.random.pick([1, 1, 2, 5, 20]) {
            self.time_us += self.traffic.random.pick([100, 1000, 50_000, 800_000, 2_000_000]);
            let request = self.traffic.random.between(50, 900);
            self.send(true, PSH | ACK, 502, request);
            self.time_us += round_trip;
            let segments = self.traffic.random.pick([1, 2, 4, 10, 40]);
            for segment in 1..=segments {
                let last = segment == segments;
                let length = if last { self.traffic.random.between(1, 1448) } else { 1448 };
                self.send(false, if last { PSH | ACK } else { ACK }, 509, length);
                self.wait(5, 200);
                if segment % 2 == 0 {
                    self.send(true, ACK, 600, 0);
                    self.wait(5, 60);
                }
            }
        }
        if self.traffic.random.between(0, 100) < 15 {
            self.time_us += round_trip;
            self.send(true, RST | ACK, 0, 0);
            return;
        }
        self.time_us += 50;
        self.send(true, FIN | ACK, 600, 0);
        self.time_us += round_trip;
        self.send(false, FIN | ACK, 509, 0);
        self.time_us += 10;
        self.send(true, ACK, 600, 0);
    }

    /// A question and its answer.
    fn exchange(mut self) {
        let question = self.traffic.random.between(25, 60);
        self.send(true, 0, 0, question);
        self.wait(300, 60_000);
        let answer = self.traffic.random.between(50, 400);
        self.send(false, 0, 0, answer);
    }

    /// A one-way stream.
    fn stream(mut self) {
        for _ in 0..self.traffic.random.between(20, 200) {
            let length = self.traffic.random.between(100, 1200);
            self.send(true, 0, 0, length);
            self.wait(5000, 40_000);
        }
    }
}

impl Packet {
    /// The Ethernet frame, padded to its least length.
    fn encode(&self, frame: &mut Vec<u8>) {
        const TIMESTAMPS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0];
        let options: &[u8] = if self.timestamps { &TIMESTAMPS } else { &[] };
        let header = if self.protocol == TCP { 20 + options.len() } else { 8 };
        let total = (20 + header + self.payload) as u16;
        frame.clear();
        frame.extend_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0]);
        frame.extend_from_slice(&total.to_be_bytes());
        frame.extend_from_slice(&(self.serial as u16).to_be_bytes());
        frame.extend_from_slice(&[0x40, 0, 64, self.protocol, 0, 0]);
        frame.extend_from_slice(&self.source.address);
        frame.extend_from_slice(&self.destination.address);
        frame.extend_from_slice(&self.source.port.to_be_bytes());
        frame.extend_from_slice(&self.destination.port.to_be_bytes());
        if self.protocol == TCP {
            frame.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1, (header as u8 / 4) << 4, self.flags]);
            frame.extend_from_slice(&self.window.to_be_bytes());
            frame.extend_from_slice(&[0; 4]);
            frame.extend_from_slice(options);
        } else {
            frame.extend_from_slice(&((header + self.payload) as u16).to_be_bytes());
            frame.extend_from_slice(&[0; 2]);
        }
        frame.resize(frame.len() + self.payload, b'x');
        frame.resize(frame.len().max(MIN_FRAME), 0);
    }
}

/// xorshift64* (Vigna 2016).
struct Random(u64);

impl Random {
    /// A number in `low..high`.
    fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d);
        low + ((u128::from(bits) * u128::from(high - low)) >> 64) as u64
    }

    fn pick<T: Copy, const N: usize>(&mut self, choices: [T; N]) -> T {
        choices[self.between(0, N as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_in_order_of_time_and_are_the_same_for_a_seed() {
        let draw = |seed| {
            let mut traffic = Traffic::new(seed);
            (0..20_000).map(|_| traffic.next()).collect::<Vec<Packet>>()
        };
        let packets = draw(1);
        assert!(packets.windows(2).all(|pair| pair[0].time_us <= pair[1].time_us));
        assert_eq!(packets, draw(1));
        assert_ne!(packets, draw(2));
        let tcp = packets.iter().filter(|packet| packet.protocol == TCP).count();
        assert!((10_000..20_000).contains(&tcp), "{tcp} of 20000 are TCP");
    }

    #[test]
    fn a_frame_says_how_long_it_is() {
        let mut frame = Vec::new();
        let host = Host { address: [10, 0, 0, 1], port: 80 };
        let packet = Packet {
            time_us: 0,
            serial: 1,
            source: host,
            destination: host,
            protocol: TCP,
            flags: PSH | ACK,
            window: 1,
            timestamps: true,
            payload: 100,
        };
        packet.encode(&mut frame);
        assert_eq!(frame.len(), 14 + 20 + 32 + 100);
        assert_eq!(frame[16..18], [0, 152]);
        assert_eq!((frame[46], frame[47]), (0x80, PSH | ACK));
    }
}
