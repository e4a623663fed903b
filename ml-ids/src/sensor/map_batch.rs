//! Many elements of a map in one system call.

use std::io;

/// The kernel's `struct { … } batch` of `union bpf_attr`.
#[repr(C)]
pub(super) struct BatchAttributes {
    pub(super) in_batch: u64,
    pub(super) out_batch: u64,
    pub(super) keys: u64,
    pub(super) values: u64,
    /// Elements that there is room for; after the call, those that were read.
    pub(super) count: u32,
    pub(super) map: u32,
    pub(super) element_flags: u64,
    pub(super) flags: u64,
}

impl BatchAttributes {
    /// Runs one of the kernel's batch commands. Returns whether there may be more: the end of the map is said by an error, and
    /// what was read before it counts.
    ///
    /// # Safety
    /// The addresses must lead to memory with room for `count` keys and values, of which any bits are valid.
    pub(super) unsafe fn call(&mut self, command: libc::c_long) -> io::Result<bool> {
        // SAFETY: the structure is as long as is said; the caller vouches for what it points to.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(self), size_of::<Self>()) };
        let error = io::Error::last_os_error();
        match result {
            0.. => Ok(true),
            _ if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            _ => Err(error),
        }
    }
}
