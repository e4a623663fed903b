//! What `run` and `serve` share: the sensor behind `/health`, and how both end.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use log::{info, warn};
use ml_ids_common::{Counters, Hook, HookCounters, Skip};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::{
    alert::{Board, Severity, store::StoreHealth},
    api::{
        Attach, BlockHealth, Egress, Flags, FlowBooks, FlowSource, HookPackets, Ingress, InterfaceHealth,
        InterfaceState, Measures, ModelWatch, OpenFlow, OpenFlows, OpenedAlerts, PacketBooks, SensorHealth,
        SensorSnapshot, TableFill, Totals, VerdictCounts,
    },
    detect::{
        Stats, StatsSnapshot,
        drift::{DriftReport, DriftWatch},
    },
    histogram::Shape,
    kubernetes::{Pods, PodsState},
    respond::{BlockState, Responder},
    sensor::{self, EgressHook, IngressHook, LiveFlow, LiveFlows, LiveTop, SensorState, WatchedInterface},
    sink::{Hub, protocol_name},
};

/// Share of the flow table above which the sensor calls itself degraded.
const TABLE_NEARLY_FULL: f64 = 0.9;

impl ModelWatch for DriftWatch {
    fn report(&self) -> DriftReport {
        Self::report(self)
    }
}

/// What is in front of the scoring thread: the kernel's programs, or a replay.
pub(super) trait Front: Send + Sync {
    /// The books.
    fn counters(&self) -> Counters;

    /// The books when this agent came.
    fn counters_at_start(&self) -> Counters {
        Counters::default()
    }

    /// Where packets come from.
    fn interfaces(&self) -> Vec<InterfaceHealth>;

    /// The flow table.
    fn table(&self) -> TableFill;

    /// Records that could not be read, and sweeps that failed.
    fn faults(&self) -> Faults {
        Faults::default()
    }

    /// How long it takes to hand over a batch of finished flows.
    fn drain_times(&self) -> Shape {
        Shape::default()
    }

    /// What whoever looks should know, in words.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What must not happen.
#[derive(Default)]
pub(super) struct Faults {
    pub(super) malformed_records: u64,
    pub(super) sweep_failures: u64,
}

impl Front for SensorState {
    fn counters(&self) -> Counters {
        Self::counters(self)
    }

    fn counters_at_start(&self) -> Counters {
        *Self::counters_at_start(self)
    }

    fn interfaces(&self) -> Vec<InterfaceHealth> {
        Self::interfaces(self).into_iter().map(interface).collect()
    }

    fn table(&self) -> TableFill {
        let (capacity, used) = (u64::from(self.max_flows()), u64::from(self.entries()));
        let ((pressed, presses), fill) = (self.pressure(), used as f64 / capacity.max(1) as f64);
        TableFill { capacity, used, fill, memory_bytes: self.memory_bytes(), pressed, presses }
    }

    fn faults(&self) -> Faults {
        Faults { malformed_records: self.malformed_records(), sweep_failures: self.sweep_failures() }
    }

    fn drain_times(&self) -> Shape {
        Self::drain_times(self)
    }
}

/// The sensor as `/health` asks for it.
pub(super) struct SensorView {
    pub(super) front: Arc<dyn Front>,
    pub(super) stats: Arc<Stats>,
    pub(super) responder: Arc<Responder>,
    pub(super) hub: Arc<Hub>,
    pub(super) board: Arc<Board>,
    pub(super) pods: Option<Arc<Pods>>,
}

impl SensorHealth for SensorView {
    fn snapshot(&self) -> SensorSnapshot {
        let Counters { ingress, egress, flows } = self.front.counters();
        let table = self.front.table();
        let Faults { malformed_records, sweep_failures } = self.front.faults();
        let verdicts = self.stats.snapshot();
        let interfaces = self.front.interfaces();
        let mut degraded: Vec<String> =
            interfaces.iter().flat_map(|interface| interface.problems.iter().cloned()).collect();
        if table.fill > TABLE_NEARLY_FULL {
            degraded.push(format!("the flow table is {:.0} % full; raise --max-flows", table.fill * 100.0));
        }
        // What was lost before this agent came was said when it came.
        let before = self.front.counters_at_start();
        for (hook, books) in [(Hook::Ingress, &ingress), (Hook::Egress, &egress)] {
            let full = |books: &HookCounters| books.skipped.get(Skip::TableFull as usize).copied().unwrap_or(0);
            let lost = full(books).saturating_sub(full(before.hook(hook)));
            if lost > 0 {
                degraded.push(format!("{lost} {} packets found the flow table full; raise --max-flows", hook.name()));
            }
        }
        if table.pressed {
            degraded.push("the flow table is nearly full: unanswered and quiet flows end early".to_owned());
        }
        let lost = flows.lost_ring_full.saturating_sub(before.flows.lost_ring_full);
        if lost > 0 {
            degraded
                .push(format!("{lost} finished flows were lost because the ring buffer was full; raise --ring-bytes"));
        }
        if sweep_failures > 0 {
            degraded.push(format!("the kernel refused {sweep_failures} sweeps; flows end late"));
        }
        if verdicts.failed > 0 {
            degraded.push(format!("the model failed on {} flows", verdicts.failed));
        }
        let pods = self.pods.as_ref().map(|pods| pods.state());
        let mut notes = self.front.notes();
        // No reason to be degraded: flows are counted, judged and told of all the same.
        notes.extend(pods.iter().flat_map(PodsState::notes));
        let sinks = self.hub.states();
        for sink in &sinks {
            if let Some(failure) = &sink.failure {
                degraded.push(format!("{} does not take events: {failure}", sink.name));
            }
            if sink.dropped > 0 {
                degraded.push(format!("{} events for {} found its queue full", sink.dropped, sink.name));
            }
        }
        if let Some(StoreHealth { failing, waiting, unreadable, .. }) = self.board.store() {
            if let Some(failure) = failing {
                degraded.push(format!("alerts are not stored: {failure}; {waiting} wait"));
            }
            if unreadable > 0 {
                degraded.push(format!(
                    "{unreadable} rows of the alert store are no alerts and are left out; the log names them"
                ));
            }
        }
        SensorSnapshot {
            interfaces,
            packets: PacketBooks { ingress: books(&ingress), egress: books(&egress) },
            flows: FlowBooks {
                live: flows.opened.saturating_sub(flows.ended()),
                opened: flows.opened,
                emitted: flows.emitted,
                discarded: flows.discarded,
                lost_ring_full: flows.lost_ring_full,
                evicted: flows.evicted,
            },
            table,
            verdicts: VerdictCounts {
                scored: verdicts.scored,
                alerts: verdicts.alerts,
                allowed: verdicts.allowed,
                dropped: verdicts.failed,
            },
            block: self.responder.state().map_or_else(BlockHealth::default, |state| block(state, &ingress)),
            sinks,
            degraded,
            notes,
            measures: Measures {
                ended: self.stats.ended().map(|(reason, count)| (reason.name(), count)).collect(),
                other_protocol: verdicts.other_protocol,
                untrained: verdicts.untrained,
                alert_classes: self.stats.alert_classes(),
                alerts: self.board.counts().opened.into_iter().map(opened).collect(),
                lost_packets: flows.lost_packets,
                evicted_packets: flows.evicted_packets,
                malformed_records,
                sweep_failures,
                pods,
                drain: self.front.drain_times(),
                timing: self.stats.timing().shapes(),
            },
        }
    }

    fn totals(&self) -> Totals {
        let Counters { ingress, egress, flows } = self.front.counters();
        let StatsSnapshot { scored, alerts, allowed, .. } = self.stats.snapshot();
        let hooks = [&ingress, &egress];
        let skipped = hooks.iter().flat_map(|hook| &hook.skipped).fold(0u64, |sum, count| sum.saturating_add(*count));
        Totals {
            packets: hooks.map(|hook| hook.seen).iter().sum(),
            bytes: hooks.map(|hook| hook.seen_bytes).iter().sum(),
            skipped,
            flows: scored,
            open_flows: flows.opened.saturating_sub(flows.ended()),
            alerts: self.board.counts().opened_total(),
            benign: scored.saturating_sub(alerts).saturating_sub(allowed),
            classes: self.stats.alert_classes(),
        }
    }
}

/// The kernel's flow table as `/flows` asks for it.
pub(super) struct FlowView {
    pub(super) table: Mutex<LiveFlows>,
    pub(super) state: Arc<SensorState>,
}

/// Open flows as the API shows them.
pub(super) fn open_flows(top: LiveTop, name: impl Fn(u32) -> Option<String>) -> OpenFlows {
    let LiveTop { open, by_packets, by_bytes, by_age } = top;
    let [by_packets, by_bytes, by_age] =
        [by_packets, by_bytes, by_age].map(|flows| flows.into_iter().map(|flow| open_flow(flow, &name)).collect());
    OpenFlows { open, by_packets, by_bytes, by_age }
}

impl FlowSource for FlowView {
    fn look(&self, most: usize) -> Result<OpenFlows, String> {
        let looked = self.table.lock().unwrap_or_else(PoisonError::into_inner).look(most);
        Ok(open_flows(looked.map_err(|error| error.to_string())?, |index| self.state.interface_name(index)))
    }
}

fn open_flow(flow: LiveFlow, name: impl Fn(u32) -> Option<String>) -> OpenFlow {
    let LiveFlow { source, destination, protocol, interface, start_us, age_us, quiet_us, packets, bytes, flags } = flow;
    let [fin, syn, rst, psh, ack, urg, ece, cwr] = flags;
    OpenFlow {
        src_ip: source.0,
        src_port: source.1,
        dest_ip: destination.0,
        dest_port: destination.1,
        proto: protocol_name(protocol),
        in_iface: name(interface),
        pkts_toserver: packets[0],
        pkts_toclient: packets[1],
        bytes_toserver: bytes[0],
        bytes_toclient: bytes[1],
        start: UNIX_EPOCH + Duration::from_micros(start_us),
        age: Duration::from_micros(age_us).as_secs_f64(),
        quiet: Duration::from_micros(quiet_us).as_secs_f64(),
        flags: Flags { fin, syn, rst, psh, ack, urg, ece, cwr },
    }
}

fn opened(((class, severity), opened): ((String, Severity), u64)) -> OpenedAlerts {
    OpenedAlerts { class, severity: severity.name(), opened }
}

fn interface(interface: WatchedInterface) -> InterfaceHealth {
    let WatchedInterface { name, index, state, mirror, ingress, egress, problems } = interface;
    InterfaceHealth {
        name,
        index,
        state: match state {
            sensor::InterfaceState::Attached => InterfaceState::Attached,
            sensor::InterfaceState::Down => InterfaceState::Down,
            sensor::InterfaceState::Gone => InterfaceState::Gone,
            sensor::InterfaceState::Waiting => InterfaceState::Waiting,
            sensor::InterfaceState::Failed => InterfaceState::Failed,
        },
        attach: if mirror { Attach::Mirror } else { Attach::Host },
        ingress: ingress.map(|hook| match hook {
            IngressHook::NativeXdp => Ingress::XdpNative,
            IngressHook::GenericXdp => Ingress::XdpGeneric,
            IngressHook::Tcx => Ingress::TcxIngress,
            IngressHook::Clsact => Ingress::ClsactIngress,
        }),
        egress: egress.map(|hook| match hook {
            EgressHook::Tcx => Egress::Tcx,
            EgressHook::Clsact => Egress::Clsact,
        }),
        problems,
    }
}

fn block(state: BlockState, ingress: &HookCounters) -> BlockHealth {
    let BlockState { options, counts, filtered } = state;
    BlockHealth {
        enabled: true,
        dry_run: options.dry_run,
        // Written as it was given, not as the nearest float32.
        threshold: options.threshold.to_string().parse().unwrap_or_default(),
        ttl_seconds: options.ttl.as_secs_f64(),
        entries: counts.entries,
        max_entries: options.max.into(),
        dropped: ingress.skipped.get(Skip::Blocked as usize).copied().unwrap_or(0),
        would_block: filtered.would_block,
        spared: filtered.spared,
        blocked: counts.blocked,
        unblocked: counts.unblocked,
        expired: counts.expired,
        refused: counts.refused,
    }
}

fn books(counters: &HookCounters) -> HookPackets {
    let skipped: BTreeMap<&'static str, u64> =
        Skip::ALL.iter().zip(counters.skipped).map(|(reason, count)| (reason.name(), count)).collect();
    HookPackets { seen: counters.seen, seen_bytes: counters.seen_bytes, in_flow: counters.in_flow, skipped }
}

/// Turns true at the first SIGINT or SIGTERM. A second one ends the process at once.
pub(super) fn shutdown_signal() -> Result<watch::Receiver<bool>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        let mut signals = 0;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            signals += 1;
            if signals > 1 {
                warn!("second signal, leaving at once");
                std::process::exit(130);
            }
            info!("shutting down");
            // Without receivers everything has ended already.
            let _ = sender.send(true);
        }
    });
    Ok(receiver)
}
