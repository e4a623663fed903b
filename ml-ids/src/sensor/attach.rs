//! Attaching programs: which directions of an interface, and the first place of each direction's chain that the kernel
//! takes, native XDP before generic XDP before TCX before clsact.

use std::{io, path::PathBuf};

use aya::{
    programs::{
        LinkOrder, ProgramError, TcAttachType, XdpMode,
        links::FdLink,
        tc::{NlOptions, SchedClassifierLink, TcAttachOptions, qdisc_add_clsact},
        xdp::XdpLink,
    },
    util::KernelVersion,
};
use log::{info, warn};
use ml_ids_common::Hook;

use super::{
    hook::{AttachedHook, HookLink, Order, Place, program},
    interface::Interface,
    load::{Loaded, SensorError},
    pin::{PinError, PinnedLink, link_error, remove},
    refusal::{denied, os_error},
};

/// Which directions of an interface are watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum AttachMode {
    /// Received only on a bridge port and on a promiscuous interface without addresses, otherwise both directions
    #[default]
    Auto,
    /// Received and sent packets: the interface of a host
    Host,
    /// Received packets only: the far end of a mirror (SPAN) port
    Mirror,
}

impl AttachMode {
    /// Whether all packets of interest are received ones.
    pub(super) const fn mirrors(self, interface: &Interface) -> bool {
        match self {
            Self::Mirror => true,
            Self::Host => false,
            Self::Auto => interface.mirror,
        }
    }

    /// The directions to watch. On loopback every packet that is sent is also received: both would count it twice.
    pub(super) const fn directions(self, interface: &Interface) -> &'static [Hook] {
        if self.mirrors(interface) || interface.loopback { &[Hook::Ingress] } else { &Hook::ALL }
    }
}

/// Priority of a clsact filter before all others; the kernel gives those without one 49152.
const FIRST_PRIORITY: u16 = 1;

/// Attaches to a direction of an interface at the first place of its chain, from `first` on, that the kernel takes.
/// Returns the place's number, too.
///
/// # Errors
/// When none is taken, what the last one's refusal was.
pub(super) fn attach(
    loaded: &mut Loaded,
    interface: &Interface,
    direction: Hook,
    first: usize,
) -> Result<(AttachedHook, usize), SensorError> {
    if first == 0
        && let Some(taken) = take_over(loaded, interface, direction)
    {
        return Ok(taken);
    }
    let mut refused: Option<(&'static str, ProgramError)> = None;
    for (at, place) in Place::chain(interface, direction).iter().copied().enumerate().skip(first) {
        let name = place.name(direction);
        // Another order at a hook that is not to be had is of no use.
        if refused.as_ref().is_some_and(|(hook, _)| *hook == name) {
            continue;
        }
        if loaded.pins.is_some() {
            can_be_pinned(interface, direction, place)?;
        }
        match link(loaded, interface, direction, place)? {
            Ok(link) => {
                let link = pin(loaded, interface, direction, place, link)?;
                return Ok((AttachedHook { interface: interface.index, direction, place, link }, at));
            }
            // Somebody's XDP program may take packets away before any later hook sees them.
            Err(error) if first == 0 && place.is_xdp() && is_busy(&error) => {
                return Err(SensorError::Busy { interface: interface.name.clone() });
            }
            Err(error) => {
                info!("no {name} on {} ({})", interface.name, root_cause(&error));
                refused = Some((name, error));
            }
        }
    }
    let Some((hook, error)) = refused else { return Err(SensorError::Missing("place to attach to")) };
    let interface = interface.name.clone();
    Err(denied("attach eBPF programs", move |source| SensorError::Attach {
        hook,
        interface: interface.clone(),
        source: Box::new(source),
    })(error))
}

/// Gives the link that an earlier agent left here this agent's program, in place: no packet goes by uncounted. Where that
/// cannot be done, the link is removed.
fn take_over(loaded: &mut Loaded, interface: &Interface, direction: Hook) -> Option<(AttachedHook, usize)> {
    let (path, place) = loaded.pins.as_mut()?.claim(interface.index, direction)?;
    let swapped = match Place::chain(interface, direction).iter().position(|other| *other == place) {
        Some(at) => replace(loaded, interface, direction, place, path.clone()).map(|link| (link, at)),
        None => Err("it is no longer where this direction is watched".to_owned()),
    };
    match swapped {
        Ok((link, at)) => {
            Some((AttachedHook { interface: interface.index, direction, place, link: HookLink::Pinned(link) }, at))
        }
        Err(error) => {
            warn!("the pinned {} on {} is replaced by a new one: {error}", place.name(direction), interface.name);
            remove(&path);
            None
        }
    }
}

fn replace(
    loaded: &mut Loaded,
    interface: &Interface,
    direction: Hook,
    place: Place,
    path: PathBuf,
) -> Result<PinnedLink, String> {
    let name = program(place, direction, interface.layer);
    let swapped = if place.is_xdp() {
        let program = loaded.xdp(name).map_err(|error| error.to_string())?;
        PinnedLink::update(path, |link| {
            let id = program.attach_to_link(XdpLink::try_from(link).map_err(link_error)?)?;
            FdLink::try_from(program.take_link(id)?).map_err(link_error)
        })
    } else {
        let program = loaded.classifier(name).map_err(|error| error.to_string())?;
        PinnedLink::update(path, |link| {
            let id = program.attach_to_link(SchedClassifierLink::try_from(link).map_err(link_error)?)?;
            FdLink::try_from(program.take_link(id)?).map_err(link_error)
        })
    };
    swapped.map_err(|error| root_cause(&error))
}

/// Whether an attachment at this place is a link on this kernel.
fn can_be_pinned(interface: &Interface, direction: Hook, place: Place) -> Result<(), PinError> {
    let kernel = match place {
        Place::DriverXdp | Place::GenericXdp if kernel_before(5, 9) => "5.9",
        Place::Clsact(_) => "6.6",
        _ => return Ok(()),
    };
    Err(PinError::NoLink { hook: place.name(direction), interface: interface.name.clone(), kernel })
}

pub(super) fn kernel_before(major: u8, minor: u8) -> bool {
    KernelVersion::current().is_ok_and(|running| running < KernelVersion::new(major, minor, 0))
}

/// Pins a link if this agent's are to outlive it.
fn pin(
    loaded: &Loaded,
    interface: &Interface,
    direction: Hook,
    place: Place,
    link: HookLink,
) -> Result<HookLink, SensorError> {
    let Some(pins) = &loaded.pins else { return Ok(link) };
    let failed = |source| SensorError::Io { action: "pin a link", source };
    let link = match link {
        HookLink::Xdp(link) => FdLink::try_from(link),
        HookLink::Classifier(link) => FdLink::try_from(link),
        HookLink::Pinned(link) => return Ok(HookLink::Pinned(link)),
    };
    let link = link.map_err(|error| failed(io::Error::other(error)))?;
    pins.pin(link, interface.index, direction, place).map(HookLink::Pinned).map_err(failed)
}

/// Attaches at one place. What the kernel says to it is the inner result.
fn link(
    loaded: &mut Loaded,
    interface: &Interface,
    direction: Hook,
    place: Place,
) -> Result<Result<HookLink, ProgramError>, SensorError> {
    let name = program(place, direction, interface.layer);
    let options = match place {
        Place::DriverXdp => return xdp(loaded, name, interface, XdpMode::Driver),
        Place::GenericXdp => return xdp(loaded, name, interface, XdpMode::Skb),
        Place::Tcx(Order::First) => TcAttachOptions::TcxOrder(LinkOrder::first()),
        Place::Tcx(Order::Last) => TcAttachOptions::TcxOrder(LinkOrder::last()),
        Place::Clsact(order) => {
            // An existing qdisc is as good as a new one; a real problem shows at the attachment.
            let _ = qdisc_add_clsact(&interface.name);
            let priority = if order == Order::First { FIRST_PRIORITY } else { 0 };
            TcAttachOptions::Netlink(NlOptions { priority, ..NlOptions::default() })
        }
    };
    let side = match direction {
        Hook::Ingress => TcAttachType::Ingress,
        Hook::Egress => TcAttachType::Egress,
    };
    let program = loaded.classifier(name)?;
    let link = program.attach_with_options(&interface.name, side, options).and_then(|id| program.take_link(id));
    Ok(link.map(HookLink::Classifier))
}

fn xdp(
    loaded: &mut Loaded,
    name: &'static str,
    interface: &Interface,
    mode: XdpMode,
) -> Result<Result<HookLink, ProgramError>, SensorError> {
    let program = loaded.xdp(name)?;
    let link = program.attach_to_if_index(interface.index, mode).and_then(|id| program.take_link(id));
    Ok(link.map(HookLink::Xdp))
}

fn is_busy(error: &ProgramError) -> bool {
    matches!(os_error(error), Some(libc::EBUSY | libc::EEXIST))
}

fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        thread,
        time::Duration,
    };

    use super::*;
    use crate::sensor::{Options, SensorState, links::Links, testing::in_namespace};

    const FRAMES: u64 = 20;

    fn find(name: &str) -> Interface {
        let list = Links::open().unwrap().list().unwrap();
        Interface::of(list.iter().find(|link| link.name == name).unwrap()).unwrap()
    }

    /// Sends UDP packets in Ethernet frames out of an interface.
    fn send(interface: &Interface) {
        let mut frame = [0u8; 60];
        frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
        frame[14..34].copy_from_slice(&[0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame[34..42].copy_from_slice(&[0, 7, 0, 9, 0, 26, 0, 0]);
        // SAFETY: no pointers involved.
        let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) };
        assert!(socket >= 0, "{}", io::Error::last_os_error());
        // SAFETY: a descriptor that was just created and has no other owner; all bytes zero is a valid address.
        let (socket, mut address) = unsafe { (OwnedFd::from_raw_fd(socket), std::mem::zeroed::<libc::sockaddr_ll>()) };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = interface.index as i32;
        for _ in 0..FRAMES {
            let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            // SAFETY: a readable frame and a valid address of the given lengths.
            let sent = unsafe {
                libc::sendto(
                    socket.as_raw_fd(),
                    frame.as_ptr().cast(),
                    frame.len(),
                    0,
                    (&raw const address).cast(),
                    length,
                )
            };
            assert_eq!(sent, 60, "{}", io::Error::last_os_error());
        }
    }

    fn counted(state: &SensorState, direction: Hook) -> u64 {
        state.counters().hook(direction).in_flow
    }

    #[test]
    fn every_place_of_either_chain_counts_what_passes_until_it_is_dropped() {
        in_namespace(|| {
            let options = Options { max_flows: 1024, ring_bytes: 1 << 20, ..Options::default() };
            let mut loaded = Loaded::load(&options).unwrap();
            let state = SensorState::new(&options, loaded.memory_bytes(), loaded.counters().unwrap());
            let (a0, b0) = (find("a0"), find("b0"));
            for (direction, interface) in [(Hook::Ingress, &b0), (Hook::Egress, &a0)] {
                for place in Place::chain(interface, direction).iter().copied() {
                    let name = format!("{place:?} {}", direction.name());
                    let link = match link(&mut loaded, interface, direction, place).unwrap() {
                        Ok(link) => link,
                        Err(error) if matches!(place, Place::Tcx(_)) => {
                            eprintln!("SKIPPED: no {name}: {error}");
                            continue;
                        }
                        Err(error) => panic!("{name}: {error}"),
                    };
                    let before = counted(&state, direction);
                    send(&a0);
                    thread::sleep(Duration::from_millis(100));
                    let with = counted(&state, direction);
                    assert_eq!(with - before, FRAMES, "{name}");
                    drop(link);
                    send(&a0);
                    thread::sleep(Duration::from_millis(100));
                    assert_eq!(counted(&state, direction), with, "{name} counts although it was dropped");
                }
            }
        });
    }
}
