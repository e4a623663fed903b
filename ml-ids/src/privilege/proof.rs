//! What the kernel says of this process, all threads together.

use std::{fs, io};

use super::threads;

/// What the threads have in common, or any of them has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Effective user of the first.
    pub(super) uid: u32,
    /// Effective group of the first.
    pub(super) gid: u32,
    /// All user and group numbers of all threads are these.
    pub(super) users_agree: bool,
    /// In any of the sets but the bounding one, of any thread.
    pub(super) capabilities: u64,
    /// In the bounding set of any thread. It only limits what a program that is executed can gain, which is nothing once new
    /// privileges are forbidden.
    pub(super) bounding: u64,
    /// Every thread.
    pub(super) no_new_privs: bool,
    /// Every thread is under a filter.
    pub(super) seccomp: bool,
}

/// Reads it.
pub(super) fn read() -> io::Result<Found> {
    let mut found: Option<Found> = None;
    for thread in threads::list()? {
        let status = match fs::read_to_string(format!("/proc/self/task/{thread}/status")) {
            Ok(status) => status,
            // It has ended.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => continue,
            Err(error) => return Err(error),
        };
        let one = parse(&status).ok_or_else(|| io::Error::other("a thread's status is not what it should be"))?;
        found = Some(match found {
            None => one,
            Some(all) => Found {
                users_agree: all.users_agree && one.users_agree && (all.uid, all.gid) == (one.uid, one.gid),
                capabilities: all.capabilities | one.capabilities,
                bounding: all.bounding | one.bounding,
                no_new_privs: all.no_new_privs && one.no_new_privs,
                seccomp: all.seccomp && one.seccomp,
                ..all
            },
        });
    }
    found.ok_or_else(|| io::Error::other("no thread is listed"))
}

/// Reads the status of one thread.
fn parse(status: &str) -> Option<Found> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let ids = |name| -> Option<Vec<u32>> { field(name)?.split_ascii_whitespace().map(|id| id.parse().ok()).collect() };
    let mask = |name| u64::from_str_radix(field(name)?.trim(), 16).ok();
    let (users, groups) = (ids("Uid")?, ids("Gid")?);
    let (uid, gid) = (*users.get(1)?, *groups.get(1)?);
    // Kernels without one of the sets have nothing in it.
    let capabilities = mask("CapEff")? | mask("CapPrm")? | mask("CapInh")? | mask("CapAmb").unwrap_or(0);
    Some(Found {
        uid,
        gid,
        users_agree: users.iter().all(|user| *user == uid) && groups.iter().all(|group| *group == gid),
        capabilities,
        bounding: mask("CapBnd")?,
        no_new_privs: field("NoNewPrivs").is_some_and(|value| value.trim() == "1"),
        seccomp: field("Seccomp").is_some_and(|value| value.trim() == "2"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tml-ids\nUid:\t9\t9\t9\t9\nGid:\t8\t8\t8\t8\nCapInh:\t0000000000000000\n\
        CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\n\
        NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\n";

    #[test]
    fn a_thread_without_rights_is_seen_as_one() {
        let expected = Found {
            uid: 9,
            gid: 8,
            users_agree: true,
            capabilities: 0,
            bounding: 0,
            no_new_privs: true,
            seccomp: true,
        };
        assert_eq!(parse(STATUS), Some(expected));
    }

    #[test]
    fn whatever_is_left_is_seen() {
        for (from, to) in [
            ("Uid:\t9\t9\t9\t9", "Uid:\t9\t9\t0\t9"),
            ("Gid:\t8\t8\t8\t8", "Gid:\t8\t8\t8\t0"),
            ("CapInh:\t0000000000000000", "CapInh:\t0000000000001000"),
            ("CapAmb:\t0000000000000000", "CapAmb:\t8000000000000000"),
            ("CapBnd:\t0000000000000000", "CapBnd:\t000001ffffffffff"),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
            ("Seccomp:\t2", "Seccomp:\t0"),
        ] {
            let changed = STATUS.replace(from, to);
            assert_ne!(parse(&changed), parse(STATUS), "{to}");
        }
        assert_eq!(parse("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_is_read_thread_by_thread() {
        let found = read().unwrap();
        // SAFETY: no preconditions.
        assert_eq!(found.uid, unsafe { libc::geteuid() });
        assert!(found.users_agree, "{found:?}");
    }
}
