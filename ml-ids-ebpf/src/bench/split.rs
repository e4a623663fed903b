//! A flow's value in two parts: what depends on the order of packets under a lock, what only adds up in a value of each
//! CPU outside of it. A sketch with the fields of the real state, close enough to tell what it would cost.

use aya_ebpf::{
    bindings::{TC_ACT_UNSPEC, bpf_spin_lock as Lock},
    btf_maps::{Array, PerCpuArray},
    helpers::generated::{bpf_spin_lock, bpf_spin_unlock},
    macros::{btf_map, classifier},
    programs::TcContext,
};
use ml_ids_common::{Packet, TcpFlags};

use crate::locks::find;

const ACTIVITY_LIMIT_US: u64 = 5_000_000;
const BULK_GAP_US: u64 = 1_000_000;

/// Under the lock.
#[repr(C)]
struct Ordered {
    lock: Lock,
    teardown: u32,
    packets: u64,
    active_start: u64,
    spans: [u64; 8],
    whole: Gaps,
    sides: [Gaps; 2],
    bulks: [Bulk; 2],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Gaps {
    packets: u64,
    first: u64,
    last: u64,
    least: u64,
    most: u64,
    square_sum: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Bulk {
    start: u64,
    last: u64,
    packets: u64,
    bytes: u64,
    total_packets: u64,
    total_bytes: u64,
    duration: u64,
}

/// Of each CPU.
#[repr(C)]
struct Sums {
    packets: u64,
    flags: [u32; 8],
    sides: [Lengths; 2],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Lengths {
    packets: u64,
    sum: u64,
    square_sum: u64,
    padded_sum: u64,
    padded_square_sum: u64,
    header_sum: u64,
    least: u32,
    most: u32,
    padded_least: u32,
    padded_most: u32,
    psh: u32,
    urg: u32,
    data_packets: u32,
    padded_data_packets: u32,
}

#[btf_map]
static ORDERED: Array<Ordered, 4> = Array::new();
#[btf_map]
static SUMS: PerCpuArray<Sums, 4> = PerCpuArray::new();

/// The lock covers half of the update.
#[classifier]
fn update_split(ctx: TcContext) -> i32 {
    let Some((slot, packet, now_us)) = find(&ctx) else { return TC_ACT_UNSPEC };
    let (Some(ordered), Some(sums)) = (ORDERED.get_ptr_mut(slot), SUMS.get_ptr_mut(slot)) else { return TC_ACT_UNSPEC };
    // SAFETY: a live map value, under its lock, with no call in between.
    unsafe {
        bpf_spin_lock(&raw mut (*ordered).lock);
        (*ordered).add(packet, now_us);
        bpf_spin_unlock(&raw mut (*ordered).lock);
    }
    // SAFETY: a per-CPU value.
    unsafe { &mut *sums }.add(packet);
    TC_ACT_UNSPEC
}

impl Ordered {
    #[inline(always)]
    fn add(&mut self, packet: &Packet, now_us: u64) {
        let now_us = if now_us < self.whole.last { self.whole.last } else { now_us };
        let gap = now_us.wrapping_sub(self.whole.last);
        if gap > ACTIVITY_LIMIT_US {
            let active = self.whole.last.wrapping_sub(self.active_start);
            let [active_sum, active_squares, active_count, _, idle_sum, idle_squares, idle_count, _] = &mut self.spans;
            *active_sum = active_sum.wrapping_add(active);
            *active_squares = active_squares.wrapping_add(active.wrapping_mul(active));
            *active_count = active_count.wrapping_add(1);
            *idle_sum = idle_sum.wrapping_add(gap);
            *idle_squares = idle_squares.wrapping_add(gap.wrapping_mul(gap));
            *idle_count = idle_count.wrapping_add(1);
            self.active_start = now_us;
        }
        self.packets = self.packets.wrapping_add(1);
        self.whole.add(now_us);
        let [a, b] = &mut self.sides;
        if packet.from_b { b } else { a }.add(now_us);
        let [a, b] = &mut self.bulks;
        if packet.from_b { b } else { a }.add(packet, now_us);
        if packet.flags.any(TcpFlags::FIN | TcpFlags::RST) {
            self.teardown = self.teardown.wrapping_add(1);
        }
    }
}

impl Gaps {
    #[inline(always)]
    fn add(&mut self, now_us: u64) {
        let gap = now_us.wrapping_sub(self.last);
        if self.packets == 0 {
            self.first = now_us;
        } else {
            if self.packets == 1 || gap < self.least {
                self.least = gap;
            }
            if gap > self.most {
                self.most = gap;
            }
            self.square_sum = self.square_sum.wrapping_add(gap.wrapping_mul(gap));
        }
        self.packets = self.packets.wrapping_add(1);
        self.last = now_us;
    }
}

impl Bulk {
    #[inline(always)]
    fn add(&mut self, packet: &Packet, now_us: u64) {
        if packet.payload == 0 {
            return;
        }
        if now_us.wrapping_sub(self.last) > BULK_GAP_US {
            (self.start, self.packets, self.bytes) = (now_us, 0, 0);
        }
        self.packets = self.packets.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(u64::from(packet.payload));
        if self.packets >= 4 {
            self.total_packets = self.total_packets.wrapping_add(1);
            self.total_bytes = self.total_bytes.wrapping_add(u64::from(packet.payload));
            self.duration = self.duration.wrapping_add(now_us.wrapping_sub(self.last));
        }
        self.last = now_us;
    }
}

impl Sums {
    #[inline(always)]
    fn add(&mut self, packet: &Packet) {
        self.packets = self.packets.wrapping_add(1);
        for (bit, count) in self.flags.iter_mut().enumerate() {
            *count = count.wrapping_add(u32::from(packet.flags.0 >> bit & 1));
        }
        let [a, b] = &mut self.sides;
        if packet.from_b { b } else { a }.add(packet);
    }
}

impl Lengths {
    #[inline(always)]
    fn add(&mut self, packet: &Packet) {
        let (payload, padded) = (packet.payload, packet.padded_payload);
        if self.packets == 0 {
            (self.least, self.padded_least) = (payload, padded);
        }
        self.least = if payload < self.least { payload } else { self.least };
        self.most = if payload > self.most { payload } else { self.most };
        self.padded_least = if padded < self.padded_least { padded } else { self.padded_least };
        self.padded_most = if padded > self.padded_most { padded } else { self.padded_most };
        self.packets = self.packets.wrapping_add(1);
        self.sum = self.sum.wrapping_add(payload.into());
        self.square_sum = self.square_sum.wrapping_add(u64::from(payload).wrapping_mul(payload.into()));
        self.padded_sum = self.padded_sum.wrapping_add(padded.into());
        self.padded_square_sum = self.padded_square_sum.wrapping_add(u64::from(padded).wrapping_mul(padded.into()));
        self.header_sum = self.header_sum.wrapping_add(packet.header.into());
        self.psh = self.psh.wrapping_add(u32::from(packet.flags.any(TcpFlags::PSH)));
        self.urg = self.urg.wrapping_add(u32::from(packet.flags.any(TcpFlags::URG)));
        self.data_packets = self.data_packets.wrapping_add(u32::from(payload != 0));
        self.padded_data_packets = self.padded_data_packets.wrapping_add(u32::from(padded != 0));
    }
}
