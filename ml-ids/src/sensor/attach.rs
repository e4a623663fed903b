//! Attaching the hooks of one interface: native XDP before generic XDP, TCX before clsact.

use aya::programs::{
    LinkOrder, ProgramError, TcAttachType, XdpMode,
    tc::{NlOptions, TcAttachOptions, qdisc_add_clsact},
};
use log::{info, warn};

use super::{
    interface::Interface,
    load::{Loaded, SensorError, denied, os_error},
    status::AttachedInterface,
};

/// Which directions of an interface are watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum AttachMode {
    /// `mirror` on a bridge port, on loopback and on a promiscuous interface without addresses, otherwise `host`.
    #[default]
    Auto,
    /// Received and sent packets: the interface of a host.
    Host,
    /// Received packets only: the far end of a mirror (SPAN) port.
    Mirror,
}

/// How received packets are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IngressHook {
    /// In the driver, before a socket buffer exists.
    NativeXdp,
    /// In the stack, on the socket buffer: slower, works on every driver.
    GenericXdp,
}

/// How sent packets are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EgressHook {
    /// TCX link (Linux 6.6 and later).
    Tcx,
    /// Filter on a clsact qdisc.
    Clsact,
}

impl IngressHook {
    /// The name used in logs and `/health`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NativeXdp => "xdp-native",
            Self::GenericXdp => "xdp-generic",
        }
    }
}

impl EgressHook {
    /// The name used in logs and `/health`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

/// Attaches to one interface.
pub(super) fn attach(
    loaded: &mut Loaded,
    interface: &Interface,
    mode: AttachMode,
) -> Result<AttachedInterface, SensorError> {
    let mirror = match mode {
        AttachMode::Mirror => true,
        AttachMode::Host => false,
        // On loopback every packet that is sent is also received; both hooks would count it twice.
        AttachMode::Auto => interface.mirror || interface.loopback,
    };
    let ingress = attach_ingress(loaded, interface)?;
    let egress = if mirror { None } else { Some(attach_egress(loaded, interface)?) };
    info!(
        "attached to {} (index {}): ingress {}, egress {}",
        interface.name,
        interface.index,
        ingress.name(),
        egress.map_or("not watched (mirror mode)", EgressHook::name)
    );
    Ok(AttachedInterface { name: interface.name.clone(), index: interface.index, ingress, egress })
}

fn attach_ingress(loaded: &mut Loaded, interface: &Interface) -> Result<IngressHook, SensorError> {
    let program = loaded.xdp("ingress")?;
    let native = program.attach_to_if_index(interface.index, XdpMode::Driver);
    let error = match native {
        Ok(_) => return Ok(IngressHook::NativeXdp),
        Err(error) => error,
    };
    if is_busy(&error) {
        return Err(SensorError::Busy { interface: interface.name.clone() });
    }
    info!("no native XDP on {} ({}), using generic XDP", interface.name, root_cause(&error));
    match program.attach_to_if_index(interface.index, XdpMode::Skb) {
        Ok(_) => Ok(IngressHook::GenericXdp),
        Err(error) if is_busy(&error) => Err(SensorError::Busy { interface: interface.name.clone() }),
        Err(error) => Err(failed("XDP", interface)(error)),
    }
}

fn attach_egress(loaded: &mut Loaded, interface: &Interface) -> Result<EgressHook, SensorError> {
    let program = loaded.classifier()?;
    let tcx = TcAttachOptions::TcxOrder(LinkOrder::default());
    let Err(error) = program.attach_with_options(&interface.name, TcAttachType::Egress, tcx) else {
        return Ok(EgressHook::Tcx);
    };
    warn!("no TCX on {} ({}), using a clsact filter", interface.name, root_cause(&error));
    // An existing qdisc is as good as a new one; a real problem shows at the attachment.
    let _ = qdisc_add_clsact(&interface.name);
    let clsact = TcAttachOptions::Netlink(NlOptions::default());
    program
        .attach_with_options(&interface.name, TcAttachType::Egress, clsact)
        .map(|_| EgressHook::Clsact)
        .map_err(failed("the egress filter", interface))
}

fn failed(hook: &'static str, interface: &Interface) -> impl Fn(ProgramError) -> SensorError {
    let interface = interface.name.clone();
    denied("attach eBPF programs", move |source| SensorError::Attach {
        hook,
        interface: interface.clone(),
        source: Box::new(source),
    })
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
