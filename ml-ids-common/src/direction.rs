//! What a packet does to the counters of its direction: lengths, gaps, bulks (`docs/feature-spec.md` sections 5 and 6).
//! The same rules hold here as in [`crate::FlowState`]'s engine: no calls, no division, no panics.

use crate::{BULK_GAP_US, Direction, Packet, TcpFlags};

/// Packets that make a bulk.
const BULK_PACKETS: u32 = 4;

impl Direction {
    #[inline(always)]
    pub(crate) fn first_packet(&mut self, packet: &Packet, now: i32) {
        self.first = now;
        self.last = now;
        self.length_min = packet.payload;
        self.length_max = packet.payload;
        self.padded_min = packet.padded_payload;
        self.padded_max = packet.padded_payload;
        self.count(packet);
    }

    #[inline(always)]
    pub(crate) fn next_packet(&mut self, packet: &Packet, now: i32) {
        let gap = now.wrapping_sub(self.last);
        extend(&mut self.gap_min, &mut self.gap_max, gap, self.packets == 1, packet.copies);
        self.gap_square_sum = self.gap_square_sum.wrapping_add(square(gap));
        self.last = now;
        self.length_min = lesser(self.length_min, packet.payload);
        self.length_max = greater(self.length_max, packet.payload);
        self.padded_min = lesser(self.padded_min, packet.padded_payload);
        self.padded_max = greater(self.padded_max, packet.padded_payload);
        self.header_min = lesser(self.header_min, u32::from(packet.header));
        self.count(packet);
    }

    #[inline(always)]
    fn count(&mut self, packet: &Packet) {
        let length = u64::from(packet.payload);
        let padded = u64::from(packet.padded_payload);
        let copies = packet.copies;
        let times = u64::from(copies);
        let all_length = length.wrapping_mul(times);
        let all_padded = padded.wrapping_mul(times);
        self.packets = self.packets.wrapping_add(copies);
        self.length_sum = self.length_sum.wrapping_add(all_length);
        self.length_square_sum = self.length_square_sum.wrapping_add(length.wrapping_mul(all_length));
        self.padded_sum = self.padded_sum.wrapping_add(all_padded);
        self.padded_square_sum = self.padded_square_sum.wrapping_add(padded.wrapping_mul(all_padded));
        self.header_sum = self.header_sum.wrapping_add(u64::from(packet.header).wrapping_mul(times));
        self.psh = self.psh.wrapping_add(flag(packet.flags, TcpFlags::PSH, copies));
        self.urg = self.urg.wrapping_add(flag(packet.flags, TcpFlags::URG, copies));
        self.data_packets = self.data_packets.wrapping_add(if length != 0 { copies } else { 0 });
        self.padded_data_packets = self.padded_data_packets.wrapping_add(if padded != 0 { copies } else { 0 });
    }

    /// Feeds the bulk machine of section 6, after the caller has broken a run that the other side interrupted. Copies
    /// follow one another without a gap, so they lengthen a run at once.
    #[inline(always)]
    pub(crate) fn bulk(&mut self, now: i32, payload: u32, copies: u32) {
        if payload == 0 {
            return;
        }
        if self.bulk_start == Self::UNSET || now.wrapping_sub(self.bulk_last) > BULK_GAP_US {
            self.bulk_start = now;
            self.bulk_run_packets = 0;
            self.bulk_run_bytes = 0;
        }
        let before = self.bulk_run_packets;
        let after = before.wrapping_add(copies);
        let bytes = u64::from(payload).wrapping_mul(u64::from(copies));
        if after < BULK_PACKETS {
            self.bulk_run_bytes = self.bulk_run_bytes.wrapping_add(bytes as u32);
        } else if before < BULK_PACKETS {
            self.bulks = self.bulks.wrapping_add(1);
            self.bulk_packets = self.bulk_packets.wrapping_add(after);
            self.bulk_bytes = self.bulk_bytes.wrapping_add(u64::from(self.bulk_run_bytes)).wrapping_add(bytes);
            self.bulk_run_bytes = 0;
            self.bulk_duration = self.bulk_duration.wrapping_add(i64::from(now.wrapping_sub(self.bulk_start)));
        } else {
            self.bulk_packets = self.bulk_packets.wrapping_add(copies);
            self.bulk_bytes = self.bulk_bytes.wrapping_add(bytes);
            self.bulk_duration = self.bulk_duration.wrapping_add(i64::from(now.wrapping_sub(self.bulk_last)));
        }
        self.bulk_run_packets = after;
        self.bulk_last = now;
    }
}

/// The two low flag bits, each times `copies`, as two `u32` that lie side by side in memory. Bit by bit the compiler makes
/// masks of them, and the verifier follows both values of each: 256 paths through everything that comes after.
#[inline(always)]
pub(crate) const fn flag_pair(flags: u8, copies: u32) -> u64 {
    const SPREAD: u64 = 1 | 1 << 31;
    const LOWEST: u64 = 1 | 1 << 32;
    let pair = (((flags & 3) as u64).wrapping_mul(SPREAD) & LOWEST).wrapping_mul(copies as u64);
    if cfg!(target_endian = "big") { pair.rotate_left(32) } else { pair }
}

/// One flag bit times `copies`.
#[inline(always)]
const fn flag(flags: TcpFlags, bit: u8, copies: u32) -> u32 {
    ((flags.0 >> bit.trailing_zeros()) & 1) as u32 * copies
}

/// Takes a gap into its least and largest, and the zero gaps between copies.
#[inline(always)]
pub(crate) fn extend(least: &mut i32, largest: &mut i32, gap: i32, first: bool, copies: u32) {
    if first || gap < *least {
        *least = gap;
    }
    if first || gap > *largest {
        *largest = gap;
    }
    if copies > 1 {
        if *least > 0 {
            *least = 0;
        }
        if *largest < 0 {
            *largest = 0;
        }
    }
}

#[inline(always)]
pub(crate) fn square(gap: i32) -> u64 {
    let gap = i64::from(gap);
    gap.wrapping_mul(gap).cast_unsigned()
}

#[inline(always)]
const fn lesser(left: u32, right: u32) -> u32 {
    if right < left { right } else { left }
}

#[inline(always)]
const fn greater(left: u32, right: u32) -> u32 {
    if right > left { right } else { left }
}
