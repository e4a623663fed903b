//! What `bpf(2)` can do with a pinned link that aya does not offer: say what it is attached to, and detach it at once.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_LINK_DETACH: libc::c_long = 34;

#[repr(C)]
struct ObjGet {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
struct GetInfo {
    fd: u32,
    length: u32,
    info: u64,
}

/// The beginning of `struct bpf_link_info`, as links of interfaces fill it.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    padding: u32,
    interface: u32,
    attach_type: u32,
    unused: [u64; 4],
}

/// A pinned link.
pub(super) struct Link(OwnedFd);

impl Link {
    /// Opens what is pinned at `path`.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let attributes = ObjGet { path: path.as_ptr().expose_provenance() as u64, fd: 0, flags: 0 };
        let fd = bpf(BPF_OBJ_GET, &attributes)?;
        // SAFETY: a descriptor that was just created and has no other owner.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Index of the interface that it is attached to, 0 when that is gone.
    pub(super) fn interface(&self) -> io::Result<u32> {
        let mut info = LinkInfo::default();
        let attributes = GetInfo {
            fd: self.0.as_raw_fd().cast_unsigned(),
            length: size_of::<LinkInfo>() as u32,
            info: (&raw mut info).expose_provenance() as u64,
        };
        bpf(BPF_OBJ_GET_INFO_BY_FD, &attributes)?;
        Ok(info.interface)
    }

    /// Detaches. When this returns the program no longer runs; without it, removing the pin does so some time later.
    pub(super) fn detach(&self) -> io::Result<()> {
        bpf(BPF_LINK_DETACH, &self.0.as_raw_fd().cast_unsigned()).map(drop)
    }
}

/// The system call. Returns a descriptor, or 0.
fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<i32> {
    // SAFETY: `attributes` is laid out as the command's part of `union bpf_attr`, of the size given, and what it points to
    // lives until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    match i32::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}
