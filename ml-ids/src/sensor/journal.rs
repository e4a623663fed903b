//! What the agent writes down in the kernel's map `META`, through a memory mapping: which table it is, and how far the agent
//! has come with the records. The map may outlive the agent, so a kill between two steps is seen by the next one.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use ml_ids_common::{TABLE_READY, TableMeta};

/// The mapped map.
pub struct Journal {
    base: NonNull<TableMeta>,
}

// SAFETY: what is written after `seal` is written by atomic operations.
unsafe impl Send for Journal {}
// SAFETY: as above.
unsafe impl Sync for Journal {}

impl Journal {
    /// Maps the map behind `descriptor`.
    pub(super) fn map(descriptor: BorrowedFd<'_>) -> io::Result<Self> {
        // SAFETY: a new mapping, which the kernel checks against the map's size.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<TableMeta>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                descriptor.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(Self { base })
    }

    /// What it holds.
    pub(super) fn read(&self) -> TableMeta {
        // SAFETY: mapped; every bit pattern is valid.
        unsafe { self.base.read_volatile() }
    }

    /// Says of a table that has just been prepared what it is.
    pub(super) fn seal(&self, meta: TableMeta) {
        // SAFETY: mapped, and nobody else has it yet.
        unsafe { self.base.write_volatile(TableMeta { magic: 0, ..meta }) };
        // SAFETY: a mapped, aligned word that is changed by atomic operations only.
        let magic = unsafe { AtomicU64::from_ptr(&raw mut (*self.base.as_ptr()).magic) };
        magic.store(TABLE_READY, Ordering::Release);
    }

    /// Who works on the table; 0 for nobody.
    pub(super) fn set_owner(&self, pid: u32) {
        // SAFETY: a mapped, aligned word that is changed by atomic operations only.
        unsafe { AtomicU32::from_ptr(&raw mut (*self.base.as_ptr()).owner) }.store(pid, Ordering::Release);
    }

    /// A record has been read and is about to be released to the ring buffer.
    pub(super) fn count_taken(&self, records: u64) {
        // SAFETY: a mapped, aligned word that is changed by atomic operations only.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.base.as_ptr()).taken) }.fetch_add(records, Ordering::Relaxed);
    }

    /// Verdicts have been written, or the books say why not.
    pub fn count_judged(&self, records: u64) {
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.base.as_ptr()).judged) }.fetch_add(records, Ordering::Release);
    }

    /// Writes off what an earlier agent had taken and never judged. Returns how many records that are.
    pub(super) fn write_off(&self) -> u64 {
        let TableMeta { taken, judged, .. } = self.read();
        let lost = taken.saturating_sub(judged);
        self.count_judged(lost);
        lost
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, which nobody uses any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), size_of::<TableMeta>()) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn what_was_taken_and_not_judged_is_written_off_once() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let first = Journal::map(file.as_fd()).unwrap();
        first.seal(TableMeta { max_flows: 1024, owner: 7, ..TableMeta::default() });
        first.count_taken(10);
        first.count_judged(7);
        drop(first);
        let second = Journal::map(file.as_fd()).unwrap();
        let found = second.read();
        assert_eq!((found.magic, found.max_flows, found.owner), (TABLE_READY, 1024, 7));
        assert_eq!((second.write_off(), second.write_off()), (3, 0));
        second.set_owner(0);
        assert_eq!(second.read().owner, 0);
    }
}
