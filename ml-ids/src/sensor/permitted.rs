//! Capabilities that the program's file permits, put to use.
//!
//! In a container the sensor is not root; its file grants what loading and attaching takes (`setcap …=p`). Permitted and not
//! effective, because the kernel would refuse to start a program whose effective ones are not all there, and most commands
//! need none.

use caps::{CapSet, errors::CapsError};

/// Makes every permitted capability of this thread effective, and so of the threads that it starts. Root has them already.
///
/// # Errors
/// When the kernel does not say what is permitted, or does not give it.
pub fn use_permitted() -> Result<(), CapsError> {
    let permitted = caps::read(None, CapSet::Permitted)?;
    if caps::read(None, CapSet::Effective)?.is_superset(&permitted) {
        return Ok(());
    }
    caps::set(None, CapSet::Effective, &permitted)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use caps::Capability;

    use super::*;

    #[test]
    fn what_is_permitted_becomes_effective_and_nothing_else() {
        // Capabilities belong to the thread; the other tests keep theirs.
        let ended = thread::spawn(|| {
            let permitted = caps::read(None, CapSet::Permitted).unwrap();
            if !permitted.contains(&Capability::CAP_NET_ADMIN) {
                eprintln!("SKIPPED: it takes root");
                return;
            }
            caps::drop(None, CapSet::Effective, Capability::CAP_NET_ADMIN).unwrap();
            assert!(!caps::has_cap(None, CapSet::Effective, Capability::CAP_NET_ADMIN).unwrap());
            use_permitted().unwrap();
            assert_eq!(caps::read(None, CapSet::Effective).unwrap(), permitted);
        });
        ended.join().unwrap();
    }
}
