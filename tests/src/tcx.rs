//! A program of somebody else at a TCX hook: two instructions that end the chain, loaded by bare system calls.

use std::{
    ffi::CString,
    io,
    os::fd::{FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, ensure};

/// `r0 = TCX_PASS; exit`: lets every packet through and asks no further program.
const PASS: [u64; 2] = [0x0000_0000_0000_00b7, 0x0000_0000_0000_0095];
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_TCX_EGRESS: u32 = 47;
const BPF_F_BEFORE: u32 = 1 << 3;

/// The first fields of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    licence: u64,
    unused: [u64; 4],
}

/// The fields of `union bpf_attr` for `BPF_LINK_CREATE` at a TCX hook.
#[repr(C)]
#[derive(Default)]
struct Create {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    padding: u32,
    expected_revision: u64,
}

/// Puts the program before all others on the way out of an interface of this thread's namespace. It stays there as long as
/// the value lives. `None` where the kernel has no TCX.
///
/// # Errors
/// When the kernel refuses for another reason.
pub fn end_egress_chain(interface: &str) -> Result<Option<OwnedFd>> {
    let name = CString::new(interface)?;
    // SAFETY: a C string.
    let interface = unsafe { libc::if_nametoindex(name.as_ptr()) };
    ensure!(interface != 0, "no interface {name:?}");
    let load = Load {
        kind: BPF_PROG_TYPE_SCHED_CLS,
        instructions: PASS.len() as u32,
        code: PASS.as_ptr().expose_provenance() as u64,
        licence: c"GPL".as_ptr().expose_provenance() as u64,
        ..Load::default()
    };
    let program = bpf(BPF_PROG_LOAD, &load).context("cannot load two instructions")?;
    let create = Create {
        program: std::os::fd::AsRawFd::as_raw_fd(&program).try_into()?,
        interface,
        attach_type: BPF_TCX_EGRESS,
        flags: BPF_F_BEFORE,
        ..Create::default()
    };
    match bpf(BPF_LINK_CREATE, &create) {
        Ok(link) => Ok(Some(link)),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(None),
        Err(error) => Err(error).context("cannot attach to TCX"),
    }
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: `attributes` is laid out as the command's part of `union bpf_attr`, of the size given.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    match i32::try_from(fd) {
        // SAFETY: a descriptor that was just created and has no other owner.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
