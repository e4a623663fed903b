//! The kernel side: where it is attached, the books of packets and flows, the table, and what is blocked.

use super::{Scrape, page::Page};
use crate::api::{
    health::{FlowBooks, Measures, TableFill},
    interface::InterfaceState,
};

/// How it may stand with an interface.
const STATES: [(InterfaceState, &str); 5] = [
    (InterfaceState::Attached, "attached"),
    (InterfaceState::Down, "down"),
    (InterfaceState::Gone, "gone"),
    (InterfaceState::Waiting, "waiting"),
    (InterfaceState::Failed, "failed"),
];

pub(super) fn interfaces(Scrape { sensor, .. }: &Scrape<'_>, page: &mut Page<'_>) {
    let Some(sensor) = sensor else { return };
    let count = |state| sensor.interfaces.iter().filter(|interface| interface.state == state).count();
    page.gauges(
        "interfaces",
        "Interfaces that are watched, by how it stands with them",
        STATES.map(|(state, name)| ([("state", name)], count(state) as f64)),
    );
}

/// The books of the hooks: what came by, what is in a flow, and what is not, by reason.
pub(super) fn packets(Scrape { sensor, .. }: &Scrape<'_>, page: &mut Page<'_>) {
    let Some(sensor) = sensor else { return };
    let hooks = [("ingress", &sensor.packets.ingress), ("egress", &sensor.packets.egress)];
    let seen = hooks.map(|(hook, books)| ([("hook", hook)], books.seen));
    page.counters("packets", "Packets that came by a hook: in a flow or skipped", seen);
    let bytes = hooks.map(|(hook, books)| ([("hook", hook)], books.seen_bytes));
    page.counters("packet_bytes", "Bytes of these packets, frames and all", bytes);
    let in_flow = hooks.map(|(hook, books)| ([("hook", hook)], books.in_flow));
    page.counters("packets_in_flow", "Packets counted in a flow", in_flow);
    let skipped = hooks.iter().flat_map(|(hook, books)| {
        books.skipped.iter().map(|(reason, count)| ([("hook", *hook), ("reason", *reason)], *count))
    });
    page.counters("packets_skipped", "Packets not counted in a flow, by reason", skipped);
}

/// What became of flows in the kernel, and the room that they have.
pub(super) fn flows(Scrape { sensor, .. }: &Scrape<'_>, page: &mut Page<'_>) {
    let Some(sensor) = sensor else { return };
    let FlowBooks { live, opened, emitted, discarded, lost_ring_full, evicted } = sensor.flows;
    let Measures { ended, lost_packets, evicted_packets, malformed_records, sweep_failures, .. } = &sensor.measures;
    page.gauge("flows_live", "Flows that are open", live as f64);
    page.counter("flows_opened", "Flows that began", opened);
    page.counter("flows_emitted", "Flows that ended and were handed to the agent", emitted);
    page.counter("flows_discarded", "Flows that ended and are too short for the profile", discarded);
    page.counters(
        "flows_lost",
        "Flows without a verdict because there was no room, by where",
        [("ring_full", lost_ring_full), ("table_full", evicted)].map(|(reason, lost)| ([("reason", reason)], lost)),
    );
    page.counters(
        "flow_packets_lost",
        "Packets of these flows",
        [("ring_full", *lost_packets), ("table_full", *evicted_packets)]
            .map(|(reason, lost)| ([("reason", reason)], lost)),
    );
    page.counters(
        "flows_ended",
        "Finished flows that reached the agent, by why they ended",
        ended.iter().map(|(reason, count)| ([("reason", *reason)], *count)),
    );
    page.counter(
        "unreadable_records",
        "Records of the kernel that could not be read: a fault of the build",
        *malformed_records,
    );
    page.counter("sweep_failures", "Looks for flows that are over which the kernel refused", *sweep_failures);
    let TableFill { capacity, used, fill, memory_bytes, pressed, presses } = sensor.table;
    for (name, help, value) in [
        ("flow_table_capacity", "Flows that the table holds", capacity as f64),
        ("flow_table_used", "Slots of the table in use, those of ended flows included", used as f64),
        ("flow_table_fill_ratio", "Share of the table in use", fill),
        (
            "flow_table_memory_bytes",
            "Kernel memory of the table, the ring buffer and the counters",
            memory_bytes as f64,
        ),
        ("flow_table_pressed", "Whether the table is so full that flows end early", f64::from(u8::from(pressed))),
    ] {
        page.gauge(name, help, value);
    }
    page.counter("flow_table_presses", "How often the table has become so full", presses);
}

/// What blocking does. Nothing of it where nothing is ever blocked.
pub(super) fn blocking(Scrape { sensor, .. }: &Scrape<'_>, page: &mut Page<'_>) {
    let Some(block) = sensor.as_ref().map(|sensor| &sensor.block).filter(|block| block.enabled) else { return };
    page.gauge("block_entries", "Blocks now", block.entries as f64);
    page.gauge("block_entries_limit", "Most blocks at a time", block.max_entries as f64);
    for (name, help, count) in [
        ("block_dropped_packets", "Packets of blocked sources that were dropped", block.dropped),
        ("block_dry_run_packets", "Packets that would have been dropped but for the dry run", block.would_block),
        ("block_spared_packets", "Packets that a block matched and a protected prefix saved", block.spared),
        ("blocks_made", "Blocks made, by verdicts and by hand", block.blocked),
        ("blocks_removed", "Blocks removed before their time was over", block.unblocked),
        ("blocks_expired", "Blocks whose time was over", block.expired),
    ] {
        page.counter(name, help, count);
    }
    page.counters(
        "blocks_refused",
        "Blocks that were refused, by reason",
        block.refused.iter().map(|(reason, count)| ([("reason", *reason)], *count)),
    );
}
