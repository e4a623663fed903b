//! One watched interface: what is attached to it, whether it can be trusted, and what is said of it.

use std::sync::{Mutex, PoisonError};

use log::{info, warn};
use ml_ids_common::Hook;

use super::{
    InterfaceState, SensorError, WatchedInterface,
    attach::{AttachMode, attach},
    hook::{AttachedHook, Place},
    interface::Interface,
    links::LinkInfo,
    load::Loaded,
    trust::{Decision, Totals, Trust},
};

/// A hook and whether it can be trusted.
pub(super) struct Side {
    pub(super) hook: AttachedHook,
    trust: Trust,
}

/// One interface that is meant.
pub(super) struct Watched {
    pub(super) name: String,
    pub(super) index: u32,
    /// By its name, not by a pattern: it is missed when it is gone or down.
    pub(super) named: bool,
    pub(super) here: bool,
    pub(super) flags: u32,
    pub(super) mirror: bool,
    /// Unless its packets cannot be read.
    pub(super) interface: Option<Interface>,
    pub(super) sides: [Option<Side>; 2],
    /// Why something is not attached.
    pub(super) problem: Option<String>,
}

impl Watched {
    pub(super) fn update(&mut self, link: &LinkInfo) {
        if self.name != link.name {
            info!("{} is now called {}", self.name, link.name);
            self.name.clone_from(&link.name);
            if let Some(interface) = &mut self.interface {
                interface.name.clone_from(&link.name);
            }
        }
        let (before, now) = (down(self.flags), down(link.flags));
        if before != now {
            info!("{} {}", self.name, now.unwrap_or("is up"));
        }
        self.flags = link.flags;
    }

    pub(super) fn leave(&mut self) {
        self.here = false;
        for side in self.sides.iter_mut().filter_map(Option::take) {
            side.hook.detach();
        }
        self.problem = None;
    }

    /// Attaches what is not attached yet. Returns what went wrong.
    pub(super) fn complete(&mut self, loaded: &mut Loaded, mode: AttachMode) -> Option<SensorError> {
        let interface = self.interface.as_ref()?;
        let directions = mode.directions(interface);
        let missing = |direction: &Hook| self.sides.get(*direction as usize).is_some_and(Option::is_none);
        let missing: Vec<Hook> = directions.iter().copied().filter(missing).collect();
        if missing.is_empty() {
            return None;
        }
        for direction in missing {
            match attach(loaded, interface, direction, 0) {
                Ok((hook, at)) => {
                    let trust = Trust::new(Place::chain(interface, direction), at);
                    if let Some(side) = self.sides.get_mut(direction as usize) {
                        *side = Some(Side { hook, trust });
                    }
                }
                Err(error) => {
                    let problem = describe(&error);
                    if self.problem.as_ref() != Some(&problem) {
                        warn!("{}: {problem}", self.name);
                    }
                    self.problem = Some(problem);
                    return Some(error);
                }
            }
        }
        self.problem = None;
        let name = |direction: Hook| self.side(direction).map(|side| side.hook.name());
        info!(
            "attached to {} (index {}): ingress {}, egress {}",
            self.name,
            self.index,
            name(Hook::Ingress).unwrap_or("not watched"),
            name(Hook::Egress).unwrap_or(if interface.loopback {
                "not watched (loopback receives what it sends)"
            } else {
                "not watched (mirror mode)"
            })
        );
        None
    }

    pub(super) fn side(&self, direction: Hook) -> Option<&Side> {
        self.sides.get(direction as usize)?.as_ref()
    }

    pub(super) fn judge(&mut self, direction: Hook, totals: Totals, loaded: &Mutex<Loaded>) {
        let (Some(interface), Some(slot)) = (&self.interface, self.sides.get_mut(direction as usize)) else { return };
        let Some(mut side) = slot.take() else { return };
        let (name, hook) = (&self.name, side.hook.name());
        match side.trust.observe(totals) {
            Decision::Stay => {}
            Decision::Recovered => info!("{hook} on {name} sees packets again"),
            Decision::GiveUp => warn!(
                "{hook} on {name} still sees none of the packets that the interface counts, and there is nothing else \
                 to try; it stays attached"
            ),
            Decision::Move(place) => {
                let (chain, old) = (Place::chain(interface, direction), side.trust.at());
                let next = chain.get(place).map_or("nothing", |place| place.name(direction));
                warn!(
                    "{hook} on {name} is attached but sees none of the packets that the interface counts; trying \
                     {next}{}",
                    if next == hook { " before the programs of others" } else { "" }
                );
                let Side { hook, mut trust } = side;
                // First, because native and generic XDP exclude each other, and two hooks would count twice.
                hook.detach();
                let mut loaded = loaded.lock().unwrap_or_else(PoisonError::into_inner);
                let moved = attach(&mut loaded, interface, direction, place).or_else(|_| {
                    trust.exhaust();
                    attach(&mut loaded, interface, direction, old)
                });
                match moved {
                    Ok((hook, at)) => {
                        info!("{} on {name}", hook.name());
                        trust.moved(at);
                        // The next window begins here, not at the next tick.
                        trust.observe(totals);
                        *slot = Some(Side { hook, trust });
                    }
                    Err(error) => {
                        let problem = describe(&error);
                        warn!("{name}: {problem}");
                        self.problem = Some(problem);
                    }
                }
                return;
            }
        }
        *slot = Some(side);
    }

    pub(super) fn status(&self) -> WatchedInterface {
        let name = &self.name;
        let mut problems = Vec::new();
        let state = if !self.here {
            if self.named {
                problems.push(format!("{name} is gone; it is attached again when it appears"));
            }
            InterfaceState::Gone
        } else if let Some(problem) = &self.problem {
            problems.push(format!("{name}: {problem}"));
            InterfaceState::Failed
        } else if let Some(down) = down(self.flags) {
            if self.named {
                problems.push(format!("{name} {down}"));
            }
            InterfaceState::Down
        } else {
            InterfaceState::Attached
        };
        let blind = Hook::ALL.into_iter().filter_map(|direction| self.side(direction)).filter(|s| s.trust.is_blind());
        problems.extend(blind.map(|Side { hook, .. }| {
            format!("{} on {name} sees none of the packets that the interface counts", hook.name())
        }));
        WatchedInterface {
            name: name.clone(),
            index: Some(self.index),
            state,
            mirror: self.mirror,
            ingress: self.side(Hook::Ingress).map(|side| side.hook.ingress()),
            egress: self.side(Hook::Egress).map(|side| side.hook.egress()),
            problems,
        }
    }
}

/// Why an interface carries nothing.
const fn down(flags: u32) -> Option<&'static str> {
    if flags & libc::IFF_UP as u32 == 0 {
        Some("is down")
    } else if flags & libc::IFF_RUNNING as u32 == 0 {
        Some("has no carrier")
    } else {
        None
    }
}

/// An error with its causes, in one line.
fn describe(error: &SensorError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
