//! What `GET /health` and `/metrics` say of the rights that the process still has.

use std::sync::{OnceLock, PoisonError, RwLock};

use serde::Serialize;

/// How much of its rights the process has given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PrivilegeState {
    /// All.
    Dropped,
    /// None: it was asked to keep them.
    Kept,
    /// Some are left.
    Partial,
}

/// The rights of the process.
#[derive(Clone, Debug, Serialize)]
pub struct PrivilegeHealth {
    /// In a word.
    pub state: PrivilegeState,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Capabilities that any thread has, by name.
    pub capabilities: Vec<String>,
    /// Executing a program cannot gain rights.
    pub no_new_privs: bool,
    /// System calls are filtered.
    pub seccomp: bool,
    /// `abi N`, or `unavailable`.
    pub landlock: String,
    /// What is left, and why.
    pub why: Option<String>,
}

/// What is known of them.
#[derive(Debug, Default)]
pub(super) struct Privileges {
    health: OnceLock<PrivilegeHealth>,
    /// Numbers of system calls that were refused.
    refused: RwLock<Vec<u32>>,
}

impl Privileges {
    /// They are known from now on, once.
    pub(super) fn set(&self, health: PrivilegeHealth) {
        // They do not come back, so there is nothing to change.
        let _ = self.health.set(health);
    }

    pub(super) fn set_refused(&self, numbers: Vec<u32>) {
        *self.refused.write().unwrap_or_else(PoisonError::into_inner) = numbers;
    }

    /// `None` in a process that was not asked to end them.
    pub(super) fn health(&self) -> Option<&PrivilegeHealth> {
        self.health.get()
    }

    /// What degrades the process.
    pub(super) fn problem(&self) -> Option<String> {
        let refused = self.refused.read().unwrap_or_else(PoisonError::into_inner);
        (!refused.is_empty()).then(|| {
            format!("the filter of system calls has refused numbers {refused:?}; what asked for them has failed")
        })
    }

    /// What is worth knowing and was decided by whoever started it or by the kernel.
    pub(super) fn note(&self) -> Option<String> {
        let health = self.health()?;
        match health.state {
            PrivilegeState::Dropped => None,
            PrivilegeState::Kept => Some("all privileges are kept; start without --keep-privileges".to_owned()),
            PrivilegeState::Partial => {
                Some(format!("not all privileges have ended: {}", health.why.as_deref().unwrap_or("see privileges")))
            }
        }
    }
}
