//! Room in the ring buffer for one record, from reservation to sending.
//!
//! Verifiers of older kernels (6.1 and before, no longer 6.12) do not see that a reservation which has been compared with
//! null once comes out the same the second time, and miss a reservation that was never made. So the pointer is compared
//! once, and from there on a number says how that came out: of numbers every verifier knows the value.

use core::hint::black_box;

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::generated::{bpf_ringbuf_discard, bpf_ringbuf_reserve, bpf_ringbuf_submit},
};
use ml_ids_common::FlowState;

use crate::maps::RECORDS;

/// Space for a record, or none. Given back by [`Room::close`], on every path: the verifier insists.
#[must_use = "a reservation that is not closed is refused by the verifier"]
pub(crate) struct Room {
    record: *mut FlowState,
    /// 1 if there is space, otherwise 0. As wide as a register: older verifiers forget what narrower ones held.
    there: u64,
}

impl Room {
    /// Reserves space if the ring buffer has any. Not to be called under a lock.
    #[inline(always)]
    pub(crate) fn reserve() -> Self {
        // SAFETY: the map is a ring buffer.
        let record: *mut FlowState =
            unsafe { bpf_ringbuf_reserve((&raw const RECORDS).cast_mut().cast(), size_of::<FlowState>() as u64, 0) }
                .cast();
        // Opaque, or the compiler goes back to comparing the pointer.
        Self { record, there: black_box(u64::from(!record.is_null())) }
    }

    /// None, without asking.
    #[inline(always)]
    pub(crate) fn none() -> Self {
        Self { record: core::ptr::null_mut(), there: black_box(0) }
    }

    #[inline(always)]
    pub(crate) fn is_there(&self) -> bool {
        self.there != 0
    }

    /// Copies a finished flow into the space, if there is any.
    #[inline(always)]
    pub(crate) fn write(&self, state: &FlowState) {
        if self.is_there() {
            // SAFETY: reserved space of the size of a state, 8-byte aligned.
            unsafe { state.copy_to(self.record) };
        }
    }

    /// Sends the record, or returns the space. True when the record was sent; `wake` is how the ring buffer is to tell the
    /// agent.
    #[inline(always)]
    pub(crate) fn close(self, send: bool, wake: u64) -> bool {
        if !self.is_there() {
            return false;
        }
        // SAFETY: reserved above, and closed once.
        unsafe {
            if send {
                bpf_ringbuf_submit(self.record.cast(), wake);
            } else {
                bpf_ringbuf_discard(self.record.cast(), u64::from(BPF_RB_NO_WAKEUP));
            }
        }
        send
    }
}
