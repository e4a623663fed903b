//! `BPF_PROG_TEST_RUN` on a loaded program, from any thread: what concurrency tests, benches and the traffic generator need
//! beyond what aya offers.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    time::Duration,
};

/// `BPF_PROG_TEST_RUN` and its flag for live frames (include/uapi/linux/bpf.h).
const PROG_TEST_RUN: libc::c_long = 10;
const LIVE_FRAMES: u32 = 2;
/// Live frames that the kernel handles between two chances for others to run.
const LIVE_BATCH: u32 = 64;

/// A loaded program that can be run.
#[derive(Debug)]
pub struct TestRunner {
    program: OwnedFd,
}

/// The kernel's `struct { … } test` of `union bpf_attr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    program: u32,
    return_value: u32,
    data_in_size: u32,
    data_out_size: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_in_size: u32,
    context_out_size: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    reserved: u32,
}

impl TestRunner {
    pub(super) const fn new(program: OwnedFd) -> Self {
        Self { program }
    }

    /// Runs the program `repeat` times on one frame, and returns the mean time of a run as the kernel measured it.
    ///
    /// # Errors
    /// What the kernel answers; `EINVAL` to a frame shorter than an Ethernet header or too long.
    pub fn run(&self, frame: &[u8], repeat: u32) -> io::Result<Duration> {
        self.call(Attributes { repeat, ..self.attributes(frame) })
    }

    /// Lets the program make `repeat` live frames out of `frame` and send them where it says.
    ///
    /// # Errors
    /// What the kernel answers; `EINVAL` before Linux 5.18.
    pub fn live(&self, frame: &[u8], repeat: u32) -> io::Result<()> {
        let attributes = self.attributes(frame);
        self.call(Attributes { repeat, flags: LIVE_FRAMES, batch_size: LIVE_BATCH, ..attributes }).map(drop)
    }

    fn attributes(&self, frame: &[u8]) -> Attributes {
        Attributes {
            program: self.program.as_raw_fd().cast_unsigned(),
            data_in_size: u32::try_from(frame.len()).unwrap_or(u32::MAX),
            data_in: frame.as_ptr().expose_provenance() as u64,
            ..Attributes::default()
        }
    }

    fn call(&self, mut attributes: Attributes) -> io::Result<Duration> {
        let size = size_of::<Attributes>();
        // SAFETY: the structure is as long as is said, and the frame it points to is borrowed by the caller.
        let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_TEST_RUN, &raw mut attributes, size) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Duration::from_nanos(attributes.duration.into()))
    }
}
