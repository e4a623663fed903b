//! Places for connections, and who has to leave when there are none.
//!
//! A cap alone is a weapon: as many slow clients as there are places, each within its timeouts, and nobody else gets in for
//! half a minute. So a client that comes when all places are taken gets that of the one whom the server has been waiting for
//! longest, once its patience (see [`Pulse`]) is over. A request that is being worked on is never cut off, and none that
//! arrives at a fair rate; an idle kept-alive connection is the first to go, which HTTP clients are made for.
//!
//! Places reserved for `/health` would not help, as nobody can say what a client wants before it has said so, which is what
//! slow clients do not. A limit for each peer would cut off a proxy or a network behind one address, and is passed by who has
//! many.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::Semaphore, time::timeout};

use super::{health::QueueHealth, limits::Limits, pulse::Pulse, state::AppState};

/// Longest wait before another look at who could leave: clients become late that were worked for at the last look.
const LONGEST_LOOK: Duration = Duration::from_millis(50);
/// Time for one that was cut off to be gone.
const LEAVING: Duration = Duration::from_millis(100);

/// The places of a server.
#[derive(Debug)]
pub(crate) struct Connections {
    free: Semaphore,
    capacity: usize,
    patience: Duration,
    began: Instant,
    open: Mutex<BTreeMap<u64, Arc<Pulse>>>,
    came: AtomicU64,
    cut: AtomicU64,
}

/// A place, until dropped.
#[derive(Debug)]
pub(crate) struct Place {
    state: Arc<AppState>,
    number: u64,
    /// How its client stands.
    pub(crate) pulse: Arc<Pulse>,
}

impl Connections {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            free: Semaphore::new(limits.connections),
            capacity: limits.connections,
            patience: limits.patience,
            began: Instant::now(),
            open: Mutex::default(),
            came: AtomicU64::new(0),
            cut: AtomicU64::new(0),
        }
    }

    /// Cuts off the client that is late by most. Returns how long to wait for a place before looking again.
    fn make_room(&self) -> Duration {
        let open = self.open();
        let Some((until, slowest)) =
            open.values().filter_map(|pulse| Some((pulse.until()?, pulse))).min_by_key(|found| found.0)
        else {
            return LONGEST_LOOK;
        };
        match Duration::from_micros(until).checked_sub(self.began.elapsed()) {
            Some(patience) if !patience.is_zero() => patience.min(LONGEST_LOOK),
            _ => {
                slowest.cut();
                self.cut.fetch_add(1, Ordering::Relaxed);
                LEAVING
            }
        }
    }

    /// How many there are, and how many were cut off to make room. Clients that wait are the kernel's and not seen here.
    pub(crate) fn health(&self) -> QueueHealth {
        let length = self.open().len() as u64;
        QueueHealth { length, capacity: self.capacity as u64, refused: self.cut.load(Ordering::Relaxed) }
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Pulse>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// A place for a client that has come, sooner or later; `None` never comes, as nobody closes the semaphore.
    pub(crate) async fn take(state: &Arc<AppState>) -> Option<Self> {
        let connections = &state.connections;
        let permit = loop {
            if let Ok(permit) = connections.free.try_acquire() {
                break permit;
            }
            let look = connections.make_room();
            if let Ok(permit) = timeout(look, connections.free.acquire()).await {
                break permit.ok()?;
            }
        };
        permit.forget();
        let pulse = Arc::new(Pulse::new(connections.began, connections.patience));
        let number = connections.came.fetch_add(1, Ordering::Relaxed);
        connections.open().insert(number, Arc::clone(&pulse));
        Some(Self { state: Arc::clone(state), number, pulse })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let connections = &self.state.connections;
        connections.open().remove(&self.number);
        connections.free.add_permits(1);
    }
}
