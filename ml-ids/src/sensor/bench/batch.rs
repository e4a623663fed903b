//! The batch operations on maps, for which aya has no call.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

/// Elements of one call.
const COUNT: usize = 4096;

/// What to do with what is read (include/uapi/linux/bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Batch {
    Lookup = 24,
    LookupAndDelete = 25,
}

/// The kernel's `struct { … } batch` of `union bpf_attr`.
#[repr(C)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// Reads a whole map whose keys have `K` bytes and whose values `V`. Returns how many elements there were.
pub(super) fn walk<const K: usize, const V: usize>(map: BorrowedFd<'_>, operation: Batch) -> io::Result<usize> {
    let mut keys = vec![[0u8; K]; COUNT];
    let mut values = vec![[0u8; V]; COUNT];
    let (mut position, mut after) = (0u64, 0u64);
    let mut total = 0;
    loop {
        let first = total == 0;
        let mut attributes = Attributes {
            in_batch: if first { 0 } else { (&raw mut position).expose_provenance() as u64 },
            out_batch: (&raw mut after).expose_provenance() as u64,
            keys: keys.as_mut_ptr().expose_provenance() as u64,
            values: values.as_mut_ptr().expose_provenance() as u64,
            count: COUNT as u32,
            map: map.as_raw_fd().cast_unsigned(),
            element_flags: 0,
            flags: 0,
        };
        let size = size_of::<Attributes>();
        // SAFETY: the structure is as long as is said, and points to memory of this function with room for COUNT elements.
        let result = unsafe { libc::syscall(libc::SYS_bpf, operation as libc::c_long, &raw mut attributes, size) };
        let error = io::Error::last_os_error();
        if result < 0 && error.raw_os_error() != Some(libc::ENOENT) {
            return Err(error);
        }
        total += attributes.count as usize;
        if result < 0 || attributes.count == 0 {
            return Ok(total);
        }
        position = after;
    }
}
