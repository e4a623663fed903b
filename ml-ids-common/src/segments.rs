//! What the wire carries of a super-packet: a socket buffer that the network card, or the stack just above it, cuts into
//! segments after the egress hook has seen it.

use crate::{Packet, TcpFlags};

/// Most pieces that a super-packet is counted as.
pub const MAX_PIECES: u32 = 2;

/// A super-packet as at most [`MAX_PIECES`] runs of like segments: the full ones, and the last one, which carries FIN and
/// PSH and is as long as what is left. All have one time. CWR, which is on the first segment alone (RFC 3168), is counted
/// with the last: once, as it should be, and no feature tells where.
#[derive(Clone, Copy, Debug)]
pub struct Segments {
    /// Payload of a full segment.
    size: u32,
    /// Segments on the wire.
    count: u32,
    /// Runs that have been told.
    piece: u32,
    payload: u32,
    padded_payload: u32,
    flags: TcpFlags,
}

impl Segments {
    /// `size` is the payload of a full segment (`gso_size`), 0 for an ordinary packet.
    #[inline(always)]
    #[must_use]
    pub const fn new(packet: &Packet, size: u32) -> Self {
        let &Packet { payload, padded_payload, flags, .. } = packet;
        let count = if size == 0 || payload <= size { 1 } else { payload.div_ceil(size) };
        // No super-packet has as many; the engine multiplies in 16 bits.
        let count = if count > u16::MAX as u32 { u16::MAX as u32 } else { count };
        Self { size, count, piece: 0, payload, padded_payload, flags }
    }

    /// Segments on the wire.
    #[inline(always)]
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Turns `packet`, the one that this was made of, into the next run of like segments. False when there is none left.
    /// An ordinary packet is its own only run and stays as it is.
    #[inline(always)]
    #[must_use]
    pub const fn next(&mut self, packet: &mut Packet) -> bool {
        const ON_ONE: u8 = TcpFlags::FIN | TcpFlags::PSH | TcpFlags::CWR;
        let Self { size, count, piece, payload, padded_payload, flags } = *self;
        self.piece = piece.wrapping_add(1);
        if count == 1 {
            return piece == 0;
        }
        let before = size.wrapping_mul(count.wrapping_sub(1));
        if piece == 0 {
            packet.flags = TcpFlags(flags.0 & !ON_ONE);
            packet.payload = size;
            packet.padded_payload = size;
            packet.copies = count.wrapping_sub(1);
        } else {
            packet.flags = flags;
            packet.payload = payload.wrapping_sub(before);
            packet.padded_payload = padded_payload.wrapping_sub(before);
            packet.copies = 1;
        }
        piece < MAX_PIECES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FlowState, Plan, Profile, SliceReader, parse_ethernet};

    fn super_packet(payload: u32, flags: u8) -> Packet {
        let headers = [
            2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, // Ethernet
            0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, // IPv4
            3, 0xe8, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags, 0x72, 0x10, 0, 0, 0, 0, // TCP
        ];
        let packet = parse_ethernet(&SliceReader(&headers), 54, Profile::Fixed).unwrap();
        Packet { payload, padded_payload: payload, ..packet }
    }

    /// The segments one by one, as the card would send them.
    fn on_the_wire(packet: Packet, size: u32) -> impl Iterator<Item = Packet> {
        let count = packet.payload.div_ceil(size);
        (0..count).map(move |index| {
            let mut flags = packet.flags.0;
            if index + 1 < count {
                flags &= !(TcpFlags::FIN | TcpFlags::PSH | TcpFlags::CWR);
            }
            let payload = size.min(packet.payload - index * size);
            Packet { flags: TcpFlags(flags), payload, padded_payload: payload, ..packet }
        })
    }

    fn count(state: &mut FlowState, packet: &Packet, now: u64, profile: Profile) {
        let plan = state.plan(packet, now, profile);
        assert!(!matches!(plan, Plan::Late));
        state.apply(plan, packet, now, 0, profile);
    }

    #[test]
    fn pieces_of_a_super_packet_count_as_its_segments_do_one_by_one() {
        let flags = [TcpFlags::ACK, TcpFlags::ACK | TcpFlags::PSH, TcpFlags::CWR | TcpFlags::ACK | TcpFlags::PSH, 0x19];
        for profile in [Profile::Fixed, Profile::Cns2022] {
            for segments in 1..=9 {
                for flags in flags {
                    for rest in [1, 500, 1448] {
                        let (mut pieces, mut one_by_one) = (FlowState::default(), FlowState::default());
                        for burst in 0..4u32 {
                            let mut packet = super_packet((segments - 1) * 1448 + rest, flags);
                            packet.from_b = burst == 2;
                            let now = 1_000_000 + u64::from(burst) * 700_000;
                            let mut split = Segments::new(&packet, 1448);
                            assert_eq!(split.count(), segments);
                            let mut piece = packet;
                            while split.next(&mut piece) {
                                count(&mut pieces, &piece, now, profile);
                            }
                            for segment in on_the_wire(packet, 1448) {
                                count(&mut one_by_one, &segment, now, profile);
                            }
                            assert_eq!(
                                pieces, one_by_one,
                                "{profile:?} {segments} segments, flags {flags:#x}, burst {burst}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn an_ordinary_packet_is_one_piece() {
        let packet = super_packet(1448, TcpFlags::ACK);
        for size in [0, 1448, 9000] {
            let (mut split, mut piece) = (Segments::new(&packet, size), packet);
            assert_eq!((split.count(), split.next(&mut piece), piece), (1, true, packet));
            assert!(!split.next(&mut piece));
        }
    }
}
