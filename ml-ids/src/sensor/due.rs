//! When each slot of the flow table needs a look: the kernel's map of times, read through a memory mapping.
//!
//! Reading eight bytes a slot is all that waiting for flows to end costs while nothing is due.

use std::{io, os::fd::BorrowedFd, ptr::NonNull};

/// Times that are copied out of the mapping at once: a page.
const CHUNK: usize = 512;

/// The mapped map.
pub(super) struct DueTimes {
    base: NonNull<u64>,
    slots: usize,
}

// SAFETY: the mapping belongs to this value alone and is only read.
unsafe impl Send for DueTimes {}

/// What a look at all times found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// Slots in use.
    pub(super) used: u32,
    /// The earliest time that is still to come, `u64::MAX` if there is none.
    pub(super) next_us: u64,
}

impl DueTimes {
    /// Maps the map behind `descriptor`, which has `slots` elements of eight bytes.
    pub(super) fn map(descriptor: BorrowedFd<'_>, slots: u32) -> io::Result<Self> {
        use std::os::fd::AsRawFd as _;
        let slots = slots as usize;
        // SAFETY: a new mapping, which the kernel checks against the map's size.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                slots * size_of::<u64>(),
                libc::PROT_READ,
                libc::MAP_SHARED,
                descriptor.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(Self { base, slots })
    }

    /// Appends the slots that are due at `now_us` to `due`.
    pub(super) fn scan(&self, now_us: u64, due: &mut Vec<u32>) -> Scan {
        let mut found = Scan { used: 0, next_us: u64::MAX };
        self.chunks(|first, times| {
            let mut earliest = u64::MAX;
            for time in times {
                found.used += u32::from(*time != 0);
                // 0 wraps to the latest time of all.
                earliest = earliest.min(time.wrapping_sub(1));
            }
            if earliest >= now_us {
                found.next_us = found.next_us.min(earliest.saturating_add(1));
                return;
            }
            for (slot, time) in (first..).zip(times) {
                match *time {
                    0 => {}
                    time if time <= now_us => due.push(slot),
                    time => found.next_us = found.next_us.min(time),
                }
            }
        });
        found
    }

    /// All slots in use.
    pub(super) fn used(&self) -> Vec<u32> {
        let mut used = Vec::new();
        self.scan(u64::MAX, &mut used);
        used
    }

    /// Copies the times out a chunk at a time, with the number of the chunk's first slot.
    fn chunks(&self, mut look: impl FnMut(u32, &[u64])) {
        let mut copy = [0; CHUNK];
        let mut first = 0;
        while first < self.slots {
            let count = CHUNK.min(self.slots - first);
            for (index, time) in copy.iter_mut().take(count).enumerate() {
                // SAFETY: inside the mapping. The kernel writes these words at any time, whole; they are hints.
                *time = unsafe { self.base.add(first + index).read_volatile() };
            }
            look(first as u32, copy.get(..count).unwrap_or_default());
            first += count;
        }
    }
}

impl Drop for DueTimes {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`, which nobody uses any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.slots * size_of::<u64>()) };
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write as _, os::fd::AsFd as _};

    use super::*;

    fn times(values: &[u64]) -> (DueTimes, File) {
        let mut file = tempfile::tempfile().unwrap();
        for value in values {
            file.write_all(&value.to_ne_bytes()).unwrap();
        }
        (DueTimes::map(file.as_fd(), values.len() as u32).unwrap(), file)
    }

    #[test]
    fn due_slots_are_found_and_the_next_time_is_told() {
        let mut values = vec![0; 1500];
        (values[3], values[700], values[701], values[1499]) = (50, 100, 101, 90);
        let (due_times, _file) = times(&values);
        let mut due = Vec::new();
        assert_eq!(due_times.scan(49, &mut due), Scan { used: 4, next_us: 50 });
        assert_eq!(due, [0; 0]);
        assert_eq!(due_times.scan(100, &mut due), Scan { used: 4, next_us: 101 });
        assert_eq!(due, [3, 700, 1499]);
        assert_eq!(due_times.used(), [3, 700, 701, 1499]);
    }

    #[test]
    fn an_empty_table_has_no_next_time() {
        let (due_times, _file) = times(&[0; 1025]);
        let mut due = Vec::new();
        assert_eq!(due_times.scan(u64::MAX - 1, &mut due), Scan { used: 0, next_us: u64::MAX });
        assert!(due.is_empty());
    }
}
