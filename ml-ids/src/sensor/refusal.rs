//! What the kernel's refusals mean: told apart by the error number at their root and by the rights of this process.

use std::{error::Error, io};

use aya::{EbpfError, programs::ProgramError};
use caps::{CapSet, Capability};

use super::load::{Options, SensorError};

/// What loading and attaching needs, and the older right that holds it.
const NEEDED: [(Capability, Option<Capability>, &str); 3] = [
    (Capability::CAP_BPF, Some(Capability::CAP_SYS_ADMIN), "CAP_BPF"),
    (Capability::CAP_NET_ADMIN, None, "CAP_NET_ADMIN"),
    (Capability::CAP_PERFMON, Some(Capability::CAP_SYS_ADMIN), "CAP_PERFMON"),
];

/// Rights that are needed, and whether this process holds them.
pub(super) fn rights() -> Vec<(&'static str, bool)> {
    let held = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    NEEDED.iter().map(|(needed, older, name)| (*name, held(*needed) || older.is_some_and(held))).collect()
}

/// Turns a permission error, however deep, into the message that says what to do.
pub(super) fn denied<E: Error + 'static>(
    action: &'static str,
    otherwise: impl Fn(E) -> SensorError,
) -> impl Fn(E) -> SensorError {
    move |error| match os_error(&error) {
        // EACCES is what the verifier answers to a program that it rejects.
        Some(libc::EPERM) => without_permission(action, rights().iter().all(|(_, held)| *held)),
        _ => otherwise(error),
    }
}

fn without_permission(action: &'static str, has_rights: bool) -> SensorError {
    if has_rights { SensorError::Barred { action } } else { SensorError::Permission { action } }
}

/// What it means that maps cannot be made.
pub(super) fn no_maps(options: &Options) -> impl Fn(EbpfError) -> SensorError {
    let Options { max_flows, ring_bytes, .. } = *options;
    denied("create eBPF maps", move |error| match os_error(&error) {
        Some(libc::ENOMEM) => SensorError::Memory { max_flows, ring_bytes, source: Box::new(error) },
        _ => SensorError::Load(error),
    })
}

/// What it means that a program cannot be loaded.
pub(super) fn refused(program: &'static str) -> impl Fn(ProgramError) -> SensorError {
    denied("load eBPF programs", move |source| SensorError::Program { program, source: Box::new(source) })
}

/// The operating system's error number at the root of an error.
pub(super) fn os_error(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.raw_os_error();
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_the_rights_is_not_told_to_become_root() {
        assert!(without_permission("x", false).to_string().contains("run as root"));
        let barred = without_permission("x", true).to_string();
        assert!(barred.contains("seccomp") && !barred.contains("run as root"), "{barred}");
    }
}
