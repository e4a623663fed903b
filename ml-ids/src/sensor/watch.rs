//! The watch thread: keeps the programs attached to the interfaces that are meant, while these come, go, and go down and
//! up, and moves hooks that turn out to be blind.
//!
//! It is woken by rtnetlink and by the clock, and each time compares what there is with what is attached. It owns every
//! link; the drain thread never waits for it.

use std::{
    os::fd::AsFd as _,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use log::{debug, error, info, warn};
use ml_ids_common::Hook;

use super::{
    InterfaceState, SensorError, SensorState, WatchedInterface,
    attach::AttachMode,
    interface::Interface,
    links::{LinkInfo, Links},
    load::Loaded,
    trust::Totals,
    wake::{Waker, wait},
    wanted::Watch,
    watched::Watched,
};

/// How often hooks are held against their interfaces' counters.
const TICK: Duration = Duration::from_secs(2);
/// Pause between two lists that are read for notifications: thousands may come in a row.
const CALM: Duration = Duration::from_millis(50);
/// How often a failed attachment is tried again when nothing else happens.
const RETRY: Duration = Duration::from_secs(30);
/// Interfaces of patterns that are still shown when they are gone.
const GONE_SHOWN: usize = 16;

/// Everything that the thread needs.
pub(super) struct Watcher {
    watch: Watch,
    links: Links,
    // Before the programs: netlink attachments are undone by the program's descriptor.
    watched: Vec<Watched>,
    loaded: Arc<Mutex<Loaded>>,
    state: Arc<SensorState>,
    retry_at: Instant,
}

impl Watcher {
    /// Attaches to what is there.
    ///
    /// # Errors
    /// When a named interface cannot be attached to, or none of those that match a pattern.
    pub(super) fn begin(
        watch: &Watch,
        mut links: Links,
        loaded: Arc<Mutex<Loaded>>,
        state: Arc<SensorState>,
    ) -> Result<Self, SensorError> {
        let list = links.list().map_err(|source| SensorError::Io { action: "list the interfaces", source })?;
        let mut watcher =
            Self { watch: watch.clone(), links, watched: Vec::new(), loaded, state, retry_at: Instant::now() + RETRY };
        let mut failures = watcher.reconcile(&list, true);
        if let Some(position) = failures.iter().position(|(named, _)| *named) {
            return Err(failures.swap_remove(position).1);
        }
        let attached = watcher.watched.iter().any(|watched| watched.sides.iter().any(Option::is_some));
        match failures.into_iter().next() {
            Some((_, error)) if !attached => return Err(error),
            _ => {}
        }
        if let Some(pins) = &mut watcher.loaded.lock().unwrap_or_else(PoisonError::into_inner).pins {
            pins.drop_unclaimed();
        }
        for pattern in watch.interfaces.iter().filter(|pattern| !list.iter().any(|link| pattern.matches(link))) {
            info!("no interface matches {pattern} yet, waiting for it");
        }
        watcher.publish(&list);
        Ok(watcher)
    }

    /// Whether a program hangs on a filter, which is not removed by closing a descriptor.
    pub(super) fn uses_clsact(&self) -> bool {
        let sides = self.watched.iter().flat_map(|watched| watched.sides.iter().flatten());
        sides.into_iter().any(|side| side.hook.place.is_clsact())
    }

    /// Starts the thread.
    pub(super) fn start(self) -> Result<WatchThread, SensorError> {
        let failed = |source| SensorError::Io { action: "create an event descriptor", source };
        let stop = Waker::new().map_err(failed)?;
        let stopped = stop.try_clone().map_err(failed)?;
        let thread = thread::Builder::new()
            .name("ml-ids-watch".to_owned())
            .spawn(move || self.run(&stopped))
            .map_err(|source| SensorError::Io { action: "start the watch thread", source })?;
        Ok(WatchThread { thread, stop })
    }

    fn run(mut self, stop: &Waker) {
        let mut next_tick = Instant::now() + TICK;
        loop {
            let pause = next_tick.saturating_duration_since(Instant::now());
            let (stopped, changed) = match wait([stop.as_fd(), self.links.changes()], pause) {
                Ok([stopped, changed]) => (stopped, changed),
                Err(error) => {
                    error!(
                        "cannot wait for changes of interfaces, none will be noticed any more: {error}; restart the sensor"
                    );
                    // The links stay with this thread until it is told to stop.
                    while matches!(wait([stop.as_fd()], Duration::MAX), Ok([false])) {}
                    return;
                }
            };
            if stopped {
                return;
            }
            let tick = Instant::now() >= next_tick;
            if changed {
                self.links.clear_changes();
            }
            if tick || changed {
                self.refresh(tick, changed);
            }
            if tick {
                next_tick = Instant::now() + TICK;
            }
            if changed && matches!(wait([stop.as_fd()], CALM), Ok([true])) {
                return;
            }
        }
    }

    /// Compares what there is with what is attached.
    fn refresh(&mut self, tick: bool, changed: bool) {
        let list = match self.links.list() {
            Ok(list) => list,
            Err(error) => {
                warn!("cannot list the interfaces, trying again in {} s: {error}", TICK.as_secs());
                return;
            }
        };
        let retry = changed || Instant::now() >= self.retry_at;
        if retry {
            self.retry_at = Instant::now() + RETRY;
        }
        self.reconcile(&list, retry);
        if tick {
            self.judge(&list);
        }
        self.publish(&list);
    }

    /// Drops what is gone, attaches what has come. Returns what could not be attached, and whether it was named.
    fn reconcile(&mut self, list: &[LinkInfo], retry: bool) -> Vec<(bool, SensorError)> {
        let Self { watch, watched, .. } = self;
        let mut attach = retry;
        for known in watched.iter_mut().filter(|known| known.here) {
            let link = list.iter().find(|link| link.index == known.index);
            match link {
                Some(link) if watch.covers(link) => {
                    known.named = watch.names(link);
                    known.update(link);
                }
                Some(link) => {
                    warn!("{} is now called {}, which is not watched: detached", known.name, link.name);
                    known.leave();
                }
                None => {
                    warn!("{} is gone; it is attached again when an interface of that name appears", known.name);
                    known.leave();
                }
            }
        }
        for link in list.iter().filter(|link| watch.covers(link)) {
            if watched.iter().any(|known| known.here && known.index == link.index) {
                continue;
            }
            let named = watch.names(link);
            let (interface, problem) = match Interface::of(link) {
                Ok(interface) => (Some(interface), None),
                Err(error) if named => {
                    warn!("{error}");
                    (None, Some(error.to_string()))
                }
                Err(error) => {
                    debug!("passed over: {error}");
                    continue;
                }
            };
            attach = true;
            let new = Watched {
                name: link.name.clone(),
                index: link.index,
                named,
                here: true,
                flags: link.flags,
                mirror: interface.as_ref().is_some_and(|interface| watch.attach.mirrors(interface)),
                interface,
                sides: [None, None],
                problem,
            };
            let replaces = |known: &Watched| known.name == link.name || known.index == link.index;
            match watched.iter_mut().find(|known| !known.here && replaces(known)) {
                Some(known) => *known = new,
                None => watched.push(new),
            }
        }
        while watched.iter().filter(|known| !known.here && !known.named).count() > GONE_SHOWN {
            let Some(oldest) = watched.iter().position(|known| !known.here && !known.named) else { break };
            watched.remove(oldest);
        }
        let mut failures = Vec::new();
        if attach {
            let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            for known in watched.iter_mut().filter(|known| known.here) {
                if let Some(error) = known.complete(&mut loaded, watch.attach) {
                    failures.push((known.named, error));
                }
            }
        }
        failures
    }

    /// Holds every hook against its interface's counters.
    fn judge(&mut self, list: &[LinkInfo]) {
        let Self { watched, state, loaded, .. } = self;
        for known in watched.iter_mut().filter(|known| known.here) {
            let Some(link) = list.iter().find(|link| link.index == known.index) else { continue };
            for (direction, interface) in [(Hook::Ingress, link.received), (Hook::Egress, link.sent)] {
                let Some(side) = known.side(direction) else { continue };
                let hook = state.interface_counters(side.hook.interface).hook(direction).seen;
                known.judge(direction, Totals { interface, hook }, loaded);
            }
        }
    }

    /// Tells the API.
    fn publish(&self, list: &[LinkInfo]) {
        let mut interfaces: Vec<WatchedInterface> = self.watched.iter().map(Watched::status).collect();
        for pattern in self.watch.missing(list) {
            let name = pattern.to_string();
            if !interfaces.iter().any(|interface| interface.name == name) {
                interfaces.push(WatchedInterface {
                    problems: vec![format!("{name} is not there; it is attached when it appears")],
                    name,
                    index: None,
                    state: InterfaceState::Waiting,
                    mirror: self.watch.attach == AttachMode::Mirror,
                    ingress: None,
                    egress: None,
                });
            }
        }
        self.state.set_interfaces(interfaces);
    }
}

/// The running thread.
pub(super) struct WatchThread {
    thread: JoinHandle<()>,
    stop: Waker,
}

impl WatchThread {
    /// Ends the thread and with it every attachment: from here on no packet is counted.
    pub(super) fn stop(self) {
        if let Err(error) = self.stop.wake() {
            error!("cannot wake the watch thread: {error}; end the sensor with kill -9 if it does not end by itself");
            return;
        }
        if self.thread.join().is_err() {
            error!("the watch thread ended with a panic; please report this with the lines above");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::{
        IngressHook, Options,
        testing::{in_namespace, ip},
    };

    /// Name, state, whether something is attached, and number of problems of all interfaces.
    fn shown(state: &SensorState) -> Vec<(String, InterfaceState, bool, usize)> {
        let interfaces = state.interfaces().into_iter();
        interfaces.map(|shown| (shown.name, shown.state, shown.ingress.is_some(), shown.problems.len())).collect()
    }

    #[test]
    fn hooks_follow_interfaces_that_are_renamed_replaced_and_switched() {
        use InterfaceState::{Attached, Down, Gone, Waiting};
        in_namespace(|| {
            let options = Options { max_flows: 1024, ring_bytes: 1 << 20, ..Options::default() };
            let mut loaded = Loaded::load(&options).unwrap();
            let state = Arc::new(SensorState::new(&options, loaded.memory_bytes(), loaded.counters().unwrap()));
            let patterns = ["a0", "x*"].map(|text| text.parse().unwrap());
            let watch = Watch { interfaces: patterns.to_vec(), attach: AttachMode::Host, wait: false };
            let loaded = Arc::new(Mutex::new(loaded));
            let mut watcher = Watcher::begin(&watch, Links::open().unwrap(), loaded, Arc::clone(&state)).unwrap();
            let a0 = "a0".to_owned();
            assert_eq!(shown(&state), [(a0.clone(), Attached, true, 0)]);
            assert_eq!(state.interfaces()[0].ingress, Some(IngressHook::NativeXdp));
            let first = state.interfaces()[0].index.unwrap();

            let mut after = |commands: &[&str]| {
                commands.iter().for_each(|arguments| ip(arguments));
                watcher.refresh(false, true);
                shown(&state)
            };
            assert_eq!(after(&["link set a0 down"]), [(a0.clone(), Down, true, 1)]);
            // Under a name that a pattern covers it is watched on, but the name that was given is missed.
            let renamed = after(&["link set a0 name x9", "link set x9 up"]);
            assert_eq!(renamed[0].0, "x9");
            assert_eq!((renamed[0].2, renamed[0].3, renamed[1].1), (true, 0, Waiting), "{renamed:?}");
            let left = after(&["link set x9 down", "link set x9 name y0"]);
            assert_eq!(left, [("x9".to_owned(), Gone, false, 0), (a0.clone(), Waiting, false, 1)]);
            let back = after(&["link set y0 name a0", "link set a0 up"]);
            assert_eq!((back.len(), back[0].0.as_str(), back[0].2), (1, "a0", true), "{back:?}");
            // Replaced between two looks: only the index tells.
            let again = after(&["link del a0", "link add a0 type veth peer name b0"]);
            assert_eq!(again, [(a0.clone(), Down, true, 1)]);
            let second = state.interfaces()[0].index.unwrap();
            assert_ne!(first, second);
            assert_eq!(after(&["link del a0"]), [(a0, Gone, false, 1)]);
            // Records of both are still on their way.
            assert_eq!(
                [first, second].map(|index| state.interface_name(index)),
                [Some("a0"), Some("a0")].map(|name| name.map(str::to_owned))
            );
        });
    }
}
