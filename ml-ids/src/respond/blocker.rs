//! Deciding what is blocked, and keeping the list: a verdict that is sure enough blocks its flow's source unless
//! something stands against it; a thread removes what has expired and notices what `ml-ids block` does.

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::Ordering,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use aya::maps::{MapData, PerCpuArray};
use ipnet::IpNet;
use log::{error, warn};
use ml_ids_common::{BlockEntry, FilterCounters};

use super::{
    BlockOptions, RespondError,
    blocklist::{BlocklistError, Cause, entry},
    event::{Action, Event, Journal},
    guard::Guard,
    host,
    memory::{Muted, Pardons},
    note::{Note, Settings},
    pins::{Hands, Pins},
    tally::{BlockCounts, FAILED, FULL, Tally, add},
};
use crate::{
    sensor::{
        FilterMaps,
        clock::{micros, monotonic_us, unix_us as unix},
    },
    sink::Hub,
};

/// Time between two looks at what others have done and what has expired.
const TICK: Duration = Duration::from_secs(1);
/// Time between two looks at the host's addresses and routes.
const REFRESH: Duration = Duration::from_secs(5);
/// Longest time between two looks at the whole list.
const LONGEST_SCAN: Duration = Duration::from_secs(30);
/// Looking through the list takes at most one part in this many of the time.
const SHARE: u32 = 50;

/// The running response.
pub(super) struct Blocker {
    shared: Arc<Shared>,
    counters: PerCpuArray<MapData, FilterCounters>,
    /// Dropping it ends the thread.
    stop: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

struct Shared {
    options: BlockOptions,
    tally: Tally,
    /// `None` once the sensor is ending.
    work: Mutex<Option<Work>>,
}

/// What decisions and housekeeping take turns at.
struct Work {
    hands: Hands,
    journal: Journal,
    guard: Guard,
    allow: Vec<IpNet>,
    muted: Muted,
    pardons: Pardons,
    /// When the list has to be looked through, in microseconds since boot.
    next_scan_us: u64,
    pins: Pins,
}

impl Blocker {
    pub(super) fn start(
        options: BlockOptions,
        allow: Vec<IpNet>,
        maps: FilterMaps,
        hub: Arc<Hub>,
    ) -> Result<Self, RespondError> {
        let FilterMaps { blocked, protected, counters } = maps;
        let settings = Settings { ttl_us: micros(options.ttl), max: options.max, dry_run: options.dry_run.into() };
        let (pins, mut hands) = Pins::create(&options.bpffs, blocked, protected, settings)?;
        let guard = Guard::new(host::essentials().map_err(RespondError::Host)?, &allow);
        hands.protected.write(&guard).map_err(RespondError::Protect)?;
        let journal = Journal::new(hub, options.dry_run);
        let (muted, pardons) = (Muted::default(), Pardons::default());
        let work = Work { hands, journal, guard, allow, muted, pardons, next_scan_us: 0, pins };
        let shared = Arc::new(Shared { options, tally: Tally::default(), work: Mutex::new(Some(work)) });
        let (stop, stopped) = channel();
        let keeper = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("ml-ids-respond".to_owned())
            .spawn(move || {
                let mut next_refresh = Instant::now() + REFRESH;
                while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                    let refresh = Instant::now() >= next_refresh;
                    if refresh {
                        next_refresh = Instant::now() + REFRESH;
                    }
                    keeper.tidy(refresh);
                }
            })
            .map_err(RespondError::Thread)?;
        Ok(Self { shared, counters, stop: Mutex::new(Some((stop, thread))) })
    }

    pub(super) fn options(&self) -> &BlockOptions {
        &self.shared.options
    }

    /// Blocks the source of a verdict whose flow ended at `end_us` in Unix time, unless something stands against it.
    pub(super) fn consider(&self, source: IpAddr, end_us: u64, cause: impl FnOnce() -> Cause) {
        let shared = &*self.shared;
        if let Some(work) = shared.lock().as_mut() {
            work.consider(&shared.options, &shared.tally, source, end_us, &cause());
        }
    }

    pub(super) fn counts(&self) -> BlockCounts {
        self.shared.tally.snapshot()
    }

    /// Lets another user and group end it, and says where it works.
    pub(super) fn give(&self, uid: u32, gid: u32) -> io::Result<Option<PathBuf>> {
        let work = self.shared.lock();
        let Some(work) = work.as_ref() else { return Ok(None) };
        work.pins.give(uid, gid)?;
        Ok(work.pins.bpffs().map(Path::to_owned))
    }

    /// Packets of blocked sources that a dry run let through, and packets that a protected prefix saved.
    pub(super) fn filtered(&self) -> FilterCounters {
        let mut sum = FilterCounters::default();
        if let Ok(values) = self.counters.get(&0, 0) {
            for FilterCounters { would_block, spared } in values.iter() {
                sum.would_block = sum.would_block.wrapping_add(*would_block);
                sum.spared = sum.spared.wrapping_add(*spared);
            }
        }
        sum
    }

    /// Ends all blocks and removes the pins. Later verdicts block nothing.
    pub(super) fn stop(&self) {
        if let Some((stop, thread)) = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take() {
            drop(stop);
            if thread.join().is_err() {
                error!(
                    "the thread that keeps the list of blocked sources ended with a panic; `ml-ids block list` shows what is still blocked, restart the sensor and report this with the lines above"
                );
            }
        }
        if let Some(mut work) = self.shared.lock().take() {
            work.end_all(&self.shared.tally);
        }
    }
}

impl Drop for Blocker {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Option<Work>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tidy(&self, refresh: bool) {
        let mut work = self.lock();
        let Some(work) = work.as_mut() else { return };
        work.take_notes(&self.tally);
        if refresh {
            work.refresh();
        }
        let now_us = monotonic_us();
        if now_us >= work.next_scan_us {
            let began = Instant::now();
            work.scan(&self.tally, now_us);
            let rest = micros(began.elapsed() * SHARE);
            work.next_scan_us = work.next_scan_us.max(now_us.saturating_add(rest));
        }
    }
}

impl Work {
    fn consider(&mut self, options: &BlockOptions, tally: &Tally, source: IpAddr, end_us: u64, cause: &Cause) {
        // The command may just have unblocked it.
        self.take_notes(tally);
        let (net, now_us) = (IpNet::from(source), monotonic_us());
        let unix_us = unix(now_us);
        // Had it been blocked when the flow's last packet came, the block would be over.
        let too_late = end_us.saturating_add(micros(options.ttl)) < unix_us;
        if too_late || self.pardons.hold(net, end_us) {
            return;
        }
        if let Err(refusal) = self.guard.check(net) {
            self.refuse(options, tally, (source, unix_us), refusal.why.name(), refusal.to_string(), cause);
            return;
        }
        match self.hands.list.covering(&net) {
            Ok(Some(entry)) if entry.expires_us > now_us => return,
            Ok(_) => {}
            Err(error) => warn!("{error}"),
        }
        let entry = entry(now_us, options.ttl, Some(cause));
        let mut added = self.hands.list.add(&net, &entry);
        if matches!(added, Err(BlocklistError::Full)) {
            self.scan(tally, now_us);
            added = self.hands.list.add(&net, &entry);
        }
        match added {
            Ok(()) => {
                // The command tells before it removes: had it done so since the look above, its note is here by now.
                self.take_notes(tally);
                if self.pardons.hold(net, end_us) {
                    self.remove(&net);
                    return;
                }
                self.expect(entry.expires_us);
                add(&tally.blocked);
                add(&tally.entries);
                self.journal.write(&Event {
                    action: Action::Block,
                    net,
                    reason: "verdict",
                    words: String::new(),
                    ttl: Some(options.ttl),
                    cause: Some(cause),
                    packets: None,
                    unix_us,
                });
            }
            Err(error) => {
                let reason = if matches!(error, BlocklistError::Full) { FULL } else { FAILED };
                self.refuse(options, tally, (source, unix_us), reason, error.to_string(), cause);
            }
        }
    }

    /// Counts a refusal, and tells of it unless it has told of this source a short while ago.
    fn refuse(
        &mut self,
        options: &BlockOptions,
        tally: &Tally,
        (source, unix_us): (IpAddr, u64),
        reason: &'static str,
        words: String,
        cause: &Cause,
    ) {
        tally.refuse(reason);
        if !self.muted.tells(source, unix_us, unix_us.saturating_add(micros(options.ttl))) {
            return;
        }
        let (action, net) = (Action::Refuse, IpNet::from(source));
        self.journal.write(&Event {
            action,
            net,
            reason,
            words,
            ttl: None,
            cause: Some(cause),
            packets: None,
            unix_us,
        });
    }

    /// Writes down what the command has done since the last look.
    fn take_notes(&mut self, tally: &Tally) {
        while let Some(note) = self.hands.next_note() {
            // What has changed is looked at with the next tick.
            self.next_scan_us = 0;
            let Some(net) = note.net() else { continue };
            let Note { at_us, expires_us, packets, added, .. } = note;
            let unix_us = unix(at_us);
            let (action, ttl) = if added == 0 {
                add(&tally.unblocked);
                self.pardons.add(net, unix_us);
                (Action::Unblock, None)
            } else {
                add(&tally.blocked);
                (Action::Block, Some(Duration::from_micros(expires_us.saturating_sub(at_us))))
            };
            self.journal.write(&Event {
                action,
                net,
                reason: "hand",
                words: String::new(),
                ttl,
                cause: None,
                packets: (added == 0).then_some(packets),
                unix_us,
            });
        }
    }

    /// Looks again at what the host cannot do without.
    fn refresh(&mut self) {
        self.pardons.forget(unix(monotonic_us()));
        let guard = match host::essentials() {
            Ok(host) => Guard::new(host, &self.allow),
            Err(error) => {
                warn!("cannot read the addresses of this host, those known so far stay protected: {error}");
                return;
            }
        };
        if guard == self.guard {
            return;
        }
        if let Err(error) = self.hands.protected.write(&guard) {
            warn!("cannot protect all addresses of this host in the kernel: {error}");
        }
        self.guard = guard;
        // Something that is blocked may have become protected.
        self.next_scan_us = 0;
    }

    /// Looks through the list: removes what has expired or has become protected, counts the rest.
    fn scan(&mut self, tally: &Tally, now_us: u64) {
        // Somebody else removes something: with the next tick.
        let Some(_turn) = self.hands.try_turn() else { return };
        let entries = match self.hands.list.entries() {
            Ok(entries) => entries,
            Err(error) => {
                warn!("{error}");
                self.next_scan_us = now_us.saturating_add(micros(LONGEST_SCAN));
                return;
            }
        };
        self.next_scan_us = now_us.saturating_add(micros(LONGEST_SCAN));
        let mut left = 0u64;
        for (net, entry) in entries {
            if entry.expires_us <= now_us {
                if self.remove(&net) {
                    add(&tally.expired);
                    self.over(Action::Expire, net, &entry, ("ttl", String::new()));
                }
            } else if let Err(refusal) = self.guard.check(net) {
                if self.remove(&net) {
                    add(&tally.unblocked);
                    self.over(Action::Unblock, net, &entry, (refusal.why.name(), refusal.to_string()));
                }
            } else {
                left = left.saturating_add(1);
                self.expect(entry.expires_us);
            }
        }
        tally.entries.store(left, Ordering::Relaxed);
    }

    /// Ends everything because the sensor ends.
    fn end_all(&mut self, tally: &Tally) {
        self.take_notes(tally);
        for (net, entry) in self.hands.list.entries().unwrap_or_default() {
            if self.remove(&net) {
                add(&tally.unblocked);
                self.over(Action::Unblock, net, &entry, ("shutdown", "the sensor ends".to_owned()));
            }
        }
        tally.entries.store(0, Ordering::Relaxed);
    }

    fn remove(&mut self, net: &IpNet) -> bool {
        self.hands.list.remove(net).unwrap_or_else(|error| {
            warn!("{error}");
            false
        })
    }

    fn over(&mut self, action: Action, net: IpNet, entry: &BlockEntry, (reason, words): (&'static str, String)) {
        let cause = Cause::of(entry);
        self.journal.write(&Event {
            action,
            net,
            reason,
            words,
            ttl: None,
            cause: cause.as_ref(),
            packets: Some(entry.packets),
            unix_us: unix(monotonic_us()),
        });
    }

    /// Something is over at this time: the list is looked through no later.
    fn expect(&mut self, at_us: u64) {
        self.next_scan_us = self.next_scan_us.min(at_us);
    }
}
