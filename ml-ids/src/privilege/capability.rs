//! Capabilities: their names, and the few that some kernels leave no choice about.

use caps::{CapSet, Capability};

/// A capability that stays, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    capability: Capability,
    /// Why, in words.
    pub why: &'static str,
}

impl Kept {
    /// Where `bpf(2)` works on nothing without it, not even on maps that are open.
    pub const BPF: Self = Self {
        capability: Capability::CAP_BPF,
        why: "this kernel refuses open maps to processes without it (kernel.unprivileged_bpf_disabled before Linux 5.19)",
    };
    /// Where programs hang on a filter, which nobody else may remove.
    pub const NET_ADMIN: Self = Self {
        capability: Capability::CAP_NET_ADMIN,
        why: "clsact filters cannot be attached again or removed without it (TCX links can, from Linux 6.6)",
    };

    /// As in `CAP_BPF`.
    #[must_use]
    pub fn name(&self) -> String {
        self.capability.to_string()
    }

    /// Its bit in the kernel's masks.
    #[must_use]
    pub fn bit(&self) -> u64 {
        self.capability.bitmask()
    }
}

/// Whether this thread may change its user and groups.
pub(super) fn may_change_user() -> bool {
    [Capability::CAP_SETUID, Capability::CAP_SETGID]
        .into_iter()
        .all(|capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false))
}

/// The names of a mask's capabilities; numbers of those that are newer than this program.
pub(super) fn names(mask: u64) -> Vec<String> {
    let known = caps::all();
    let name = |bit: u8| {
        let found = known.iter().find(|capability| capability.index() == bit);
        found.map_or_else(|| format!("capability {bit}"), ToString::to_string)
    };
    (0..64).filter(|bit| mask >> bit & 1 == 1).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_told_by_name() {
        assert_eq!(names(Kept::BPF.bit() | Kept::NET_ADMIN.bit()), ["CAP_NET_ADMIN", "CAP_BPF"]);
        assert_eq!(names(1 << 63), ["capability 63"]);
        assert_eq!(names(0), Vec::<String>::new());
    }
}
