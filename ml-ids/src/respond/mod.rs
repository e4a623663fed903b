//! What follows an alert besides telling of it: the source may be blocked, in the kernel and for a while.
//!
//! ```text
//! verdict ─► allow-list ─► threshold ─► guard ─► map of blocked prefixes ◄─ ml-ids block
//!                                                        │
//!                                         ingress programs drop by it
//! ```
//!
//! The map is the only place that knows what is blocked. The programs compare an entry's end with the clock themselves,
//! so a block ends on time whatever the agent does; and it ends with the sensor.

mod blocker;
mod blocklist;
mod bpf_folder;
mod event;
mod guard;
mod host;
mod memory;
mod note;
mod pins;
mod tally;

use std::{io, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use aya::maps::MapError;
use ipnet::IpNet;
use ml_ids_common::FilterCounters;

pub use blocklist::{Blocklist, BlocklistError, Cause, LONGEST_TTL, Protected, entry};
pub use bpf_folder::PinsError;
pub use guard::{Guard, Protection, Refusal};
pub use note::{Note, Settings};
pub use pins::{BPFFS, Hands, Turn};
pub use tally::BlockCounts;

use crate::{detect::Verdict, model::Model, privilege::Account, sensor::FilterMaps, sink::Hub};
use blocker::Blocker;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum RespondError {
    /// The maps cannot be pinned.
    #[error(transparent)]
    Pins(#[from] PinsError),
    /// The host's own addresses are unknown, so they could be blocked.
    #[error("cannot read the addresses of this host, which must never be blocked; run without --block if this goes on")]
    Host(#[source] io::Error),
    /// They cannot be protected.
    #[error("cannot enter all protected prefixes; give fewer prefixes with --allow")]
    Protect(#[source] MapError),
    /// The thread that keeps the list cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// How to block.
#[derive(Clone, Debug)]
pub struct BlockOptions {
    /// Least probability of a verdict that blocks.
    pub threshold: f32,
    /// How long a block lasts.
    pub ttl: Duration,
    /// Most entries.
    pub max: u32,
    /// Nothing is dropped.
    pub dry_run: bool,
    /// BPF file system of the pins.
    pub bpffs: PathBuf,
}

/// What is done about alerts.
#[derive(Default)]
pub struct Responder {
    allow: Vec<IpNet>,
    blocker: Option<Blocker>,
}

/// A response at one time.
#[derive(Clone, Debug)]
pub struct BlockState {
    /// How it was set up.
    pub options: BlockOptions,
    /// What it has done.
    pub counts: BlockCounts,
    /// What the kernel has done besides dropping.
    pub filtered: FilterCounters,
}

impl Responder {
    /// Alerts on sources of `allow` are none; with `block`, sources of alerts are blocked by these maps, and `hub` is told of
    /// it.
    ///
    /// # Errors
    /// When blocking is asked for and cannot be done safely.
    pub fn start(
        allow: Vec<IpNet>,
        block: Option<(BlockOptions, FilterMaps)>,
        hub: &Arc<Hub>,
    ) -> Result<Self, RespondError> {
        let start = |(options, maps)| Blocker::start(options, allow.clone(), maps, Arc::clone(hub));
        let blocker = block.map(start).transpose()?;
        Ok(Self { allow, blocker })
    }

    /// Whether the source is on the allow-list, so that nothing that it does is an alert.
    #[must_use]
    pub fn allows(&self, source: IpAddr) -> bool {
        self.allow.iter().any(|net| net.contains(&source))
    }

    /// Answers an alert.
    pub fn answer(&self, verdict: &Verdict, model: &Model) {
        let Some(blocker) = &self.blocker else { return };
        let score = &verdict.score;
        if score.probability < blocker.options().threshold {
            return;
        }
        let record = &verdict.record;
        let end_us = record.state().start_us.saturating_add_signed(record.duration_us().max(0));
        blocker.consider(record.source().0, end_us, || Cause {
            class: u32::try_from(score.class).unwrap_or(u32::MAX),
            label: model.contract().classes.get(score.class).cloned().unwrap_or_default(),
            probability: score.probability,
        });
    }

    /// Gives what is pinned to the account that goes on. Returns the folders that it needs.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn hand_over(&self, account: &Account) -> io::Result<Vec<PathBuf>> {
        let Some(blocker) = &self.blocker else { return Ok(Vec::new()) };
        Ok(blocker.give(account.uid(), account.gid())?.into_iter().collect())
    }

    /// How blocking stands; `None` when it is off.
    #[must_use]
    pub fn state(&self) -> Option<BlockState> {
        let blocker = self.blocker.as_ref()?;
        Some(BlockState { options: blocker.options().clone(), counts: blocker.counts(), filtered: blocker.filtered() })
    }

    /// Ends all blocks. Later alerts block nothing.
    pub fn stop(&self) {
        if let Some(blocker) = &self.blocker {
            blocker.stop();
        }
    }
}
