//! Captures: pcap and pcapng of any link type, to their end or their fault, through replay with balanced books.

use std::convert::Infallible;

use ml_ids::offline::{Capture, Replay, replay};
use ml_ids_common::{Decap, FlowRecord, Profile};

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "pcap",
    about: "captures through reader and replay",
    run,
    longest: 16384,
    words: &[
        b"\xd4\xc3\xb2\xa1",
        b"\xa1\xb2\xc3\xd4",
        b"\x4d\x3c\xb2\xa1",
        b"\x0a\x0d\x0d\x0a",
        b"\x4d\x3c\x2b\x1a",
        b"\x1a\x2b\x3c\x4d",
        b"\x06\x00\x00\x00",
        b"\x03\x00\x00\x00",
        b"\x71\x00\x00\x00",
        b"\x14\x01\x00\x00",
    ],
    seeds: &["tests/data/handmade/fin.pcap", "tests/data/handmade/odd.pcap", "tests/data/handmade/pad.pcap"],
};

/// Flows that replay holds, so that a full table is met.
const MAX_FLOWS: usize = 64;

fn run(data: &[u8]) {
    let Ok(mut capture) = Capture::new(data) else { return };
    let mut table = Replay::new(Profile::Fixed).with_decap(Decap::ALL).with_max_flows(MAX_FLOWS);
    let mut records = 0_u64;
    let emit = |_: FlowRecord| -> Result<(), Infallible> {
        records += 1;
        Ok(())
    };
    // The damage of a capture is no fault of its reader.
    let Ok(_) = replay(&mut capture, &mut table, emit);
    let counters = table.counters();
    assert!(counters.ingress.balanced(), "the packet books do not balance: {:?}", counters.ingress);
    let flows = counters.flows;
    assert_eq!(flows.opened, flows.emitted + flows.discarded, "the flow books do not balance: {flows:?}");
    assert_eq!(flows.emitted, records, "flows were emitted that nobody got: {flows:?}");
}
