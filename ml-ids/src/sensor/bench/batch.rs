//! The batch operations on maps, for which aya has no call.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use crate::sensor::map_batch::BatchAttributes;

/// Elements of one call.
const COUNT: usize = 4096;

/// What to do with what is read (include/uapi/linux/bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Batch {
    Lookup = 24,
    LookupAndDelete = 25,
}

/// Reads a whole map whose keys have `K` bytes and whose values `V`. Returns how many elements there were.
pub(super) fn walk<const K: usize, const V: usize>(map: BorrowedFd<'_>, operation: Batch) -> io::Result<usize> {
    let mut keys = vec![[0u8; K]; COUNT];
    let mut values = vec![[0u8; V]; COUNT];
    let (mut position, mut after) = (0u64, 0u64);
    let mut total = 0;
    loop {
        let first = total == 0;
        let mut attributes = BatchAttributes {
            in_batch: if first { 0 } else { (&raw mut position).expose_provenance() as u64 },
            out_batch: (&raw mut after).expose_provenance() as u64,
            keys: keys.as_mut_ptr().expose_provenance() as u64,
            values: values.as_mut_ptr().expose_provenance() as u64,
            count: COUNT as u32,
            map: map.as_raw_fd().cast_unsigned(),
            element_flags: 0,
            flags: 0,
        };
        // SAFETY: the attributes point to memory of this function with room for COUNT elements.
        let more = unsafe { attributes.call(operation as libc::c_long) }?;
        total += attributes.count as usize;
        if !more || attributes.count == 0 {
            return Ok(total);
        }
        position = after;
    }
}
