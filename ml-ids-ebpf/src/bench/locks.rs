//! The real update of a flow under different ways to keep two CPUs apart. Each finds its slot as the real program does,
//! in a table that the bench has filled. All are classifiers: two CPUs cannot begin a long run of an XDP program together,
//! because the kernel patches its code for each, one after the other.

use core::arch::asm;

use aya_ebpf::{
    bindings::{TC_ACT_UNSPEC, bpf_spin_lock as Lock},
    btf_maps::{Array, HashMap, PerCpuArray},
    helpers::{
        bpf_ktime_get_ns,
        generated::{bpf_spin_lock, bpf_spin_unlock},
    },
    macros::{btf_map, classifier},
    programs::TcContext,
};
use ml_ids_common::{FlowKey, FlowState, Life, LockedFlow, Packet, Plan, Profile};

use crate::{floor::sent, scratch};

/// How often a program tries to take a lock word before it gives the packet up. A loop without an end does not load.
const TRIES: u32 = 256;
/// Slots of each array; a test takes one or two.
const SLOTS: usize = 4;

/// A state behind a word that is taken by compare-and-swap.
#[repr(C)]
struct Word {
    word: u64,
    state: FlowState,
}

#[btf_map]
static SLOT_OF: HashMap<FlowKey, u32, 1024> = HashMap::new();
#[btf_map]
static BARE: Array<FlowState, SLOTS> = Array::new();
#[btf_map]
static SPIN: Array<LockedFlow<Lock>, SLOTS> = Array::new();
#[btf_map]
static WORD: Array<Word, SLOTS> = Array::new();
#[btf_map]
static PER_CPU: PerCpuArray<FlowState, SLOTS> = PerCpuArray::new();
/// Packets that found a lock word taken for too long.
#[btf_map]
static GIVEN_UP: PerCpuArray<u64, 1> = PerCpuArray::new();

/// No lock at all.
#[classifier]
fn update_bare(ctx: TcContext) -> i32 {
    let Some((slot, packet, now_us)) = find(&ctx) else { return TC_ACT_UNSPEC };
    if let Some(state) = BARE.get_ptr_mut(slot) {
        // SAFETY: a live map value of integers. That updates get lost is what this measures.
        update(unsafe { &mut *state }, packet, now_us);
    }
    TC_ACT_UNSPEC
}

/// The kernel's spin lock.
#[classifier]
fn update_spin(ctx: TcContext) -> i32 {
    let Some((slot, packet, now_us)) = find(&ctx) else { return TC_ACT_UNSPEC };
    if let Some(flow) = SPIN.get_ptr_mut(slot) {
        // SAFETY: a live map value, under its lock, with no call in between.
        unsafe {
            bpf_spin_lock(&raw mut (*flow).lock);
            update(&mut (*flow).state, packet, now_us);
            bpf_spin_unlock(&raw mut (*flow).lock);
        }
    }
    TC_ACT_UNSPEC
}

/// A word taken by compare-and-swap (Linux 5.12), with interrupts on and an end to waiting.
#[classifier]
fn update_word(ctx: TcContext) -> i32 {
    let Some((slot, packet, now_us)) = find(&ctx) else { return TC_ACT_UNSPEC };
    let Some(flow) = WORD.get_ptr_mut(slot) else { return TC_ACT_UNSPEC };
    // SAFETY: a live map value.
    let word = unsafe { &raw mut (*flow).word };
    let mut tries = 0;
    while exchange_if(word, 0, 1) != 0 {
        tries += 1;
        if tries == TRIES {
            if let Some(count) = GIVEN_UP.get_ptr_mut(0) {
                // SAFETY: a per-CPU value.
                unsafe { *count = (*count).wrapping_add(1) };
            }
            return TC_ACT_UNSPEC;
        }
    }
    // SAFETY: the word is taken.
    update(unsafe { &mut (*flow).state }, packet, now_us);
    // Not by a plain store, which orders nothing on other processors than x86.
    exchange_if(word, 1, 0);
    TC_ACT_UNSPEC
}

/// Writes `new` if the word holds `old`. Returns what it held. Written out, because Rust's target description says that
/// eBPF has no such instruction.
#[inline(always)]
fn exchange_if(word: *mut u64, old: u64, new: u64) -> u64 {
    let held;
    // SAFETY: a live map value, aligned, which everybody uses as an atomic.
    unsafe {
        asm!(
            "r0 = cmpxchg_64({word} + 0, r0, {new})",
            word = in(reg) word,
            new = in(reg) new,
            inlateout("r0") old => held,
        );
    }
    held
}

/// A state of each CPU, as if only one ever saw the flow: what no lock can be cheaper than.
#[classifier]
fn update_per_cpu(ctx: TcContext) -> i32 {
    let Some((slot, packet, now_us)) = find(&ctx) else { return TC_ACT_UNSPEC };
    if let Some(state) = PER_CPU.get_ptr_mut(slot) {
        // SAFETY: a per-CPU value.
        update(unsafe { &mut *state }, packet, now_us);
    }
    TC_ACT_UNSPEC
}

/// Parses, reads the clock and looks the flow's slot up.
#[inline(always)]
pub(crate) fn find(ctx: &TcContext) -> Option<(u32, &'static Packet, u64)> {
    let packet = &mut scratch::park(sent(ctx).0.ok()?)?.packet;
    // SAFETY: the helper has no preconditions.
    let now_us = unsafe { bpf_ktime_get_ns() } / 1_000;
    let slot = SLOT_OF.get_ptr(&packet.key)?;
    // SAFETY: a live table value that nobody writes while the bench runs.
    Some((unsafe { slot.read() }, packet, now_us))
}

#[inline(always)]
fn update(state: &mut FlowState, packet: &Packet, now_us: u64) {
    if state.life == Life::Vacant as u8 {
        let plan = Plan::Open { source_is_b: packet.from_b };
        state.apply(plan, packet, now_us, 0, Profile::Fixed);
        return;
    }
    let last = state.start_us.wrapping_add_signed(i64::from(state.last));
    let now_us = if now_us < last { last } else { now_us };
    state.apply(Plan::Add, packet, now_us, 0, Profile::Fixed);
}
