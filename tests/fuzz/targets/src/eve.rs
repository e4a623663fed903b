//! Events: every flow that any frames can make becomes one line of JSON that is as the schema says.

use std::sync::{Arc, LazyLock};

use jsonschema::Validator;
use ml_ids::{
    detect::Judge,
    model::{Live, Model, ModelHandle, Origin},
    offline::{LinkType, Replay, parse_frame},
    sink::eve::{self, Place},
};
use ml_ids_common::FlowRecord;
use ml_ids_fuzz::sequence::Sequence;
use serde_json::Value;

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "eve",
    about: "flows of frames through model and event writer, held against the schema",
    run,
    longest: 4096,
    words: &[b"\x08\x00\x45", b"\x86\xdd\x60", b"\x81\x00"],
    seeds: &[],
};

/// Bytes at the start that name the host; frames follow as in `frames`.
const HOST: usize = 4;

static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
    let text = include_str!("../../../../docs/schema/eve.schema.json");
    let schema: Value = serde_json::from_str(text).expect("the schema is JSON");
    jsonschema::draft202012::new(&schema).expect("the schema is one")
});

static JUDGE: LazyLock<Judge> = LazyLock::new(|| {
    let model = Arc::new(Model::embedded().expect("the embedded model loads"));
    Judge::new(Arc::new(ModelHandle::new(Live { model, origin: Origin::default() })))
});

fn run(data: &[u8]) {
    let Some((host, frames)) = data.split_at_checked(HOST) else { return };
    let Some(frames) = Sequence::new(frames) else { return };
    let host = String::from_utf8_lossy(host);
    let place = Place {
        host: &host,
        interface: Some(&host),
        community_id_seed: u16::from(data[0]),
        severities: None,
        pods: None,
    };
    for record in records(frames) {
        fits(&eve::flow(&record, &place));
        let judged = JUDGE.judge(vec![record]).expect("the embedded model answers every flow");
        for verdict in &judged.verdicts {
            fits(&eve::verdict(verdict, &judged.model, &place));
            fits(&eve::judged_flow(verdict, &judged.model, &place));
        }
    }
}

fn records(frames: Sequence<'_>) -> Vec<FlowRecord> {
    let mut replay = Replay::new(frames.profile).with_decap(frames.decap);
    let mut records = Vec::new();
    let mut emit = |record: FlowRecord| -> Result<(), std::convert::Infallible> {
        records.push(record);
        Ok(())
    };
    for (now_us, frame) in frames {
        let parsed = parse_frame(LinkType::ETHERNET, frame, frames.profile, frames.decap);
        let Ok(()) = replay.frame(parsed, frame.len(), now_us, &mut emit);
    }
    let Ok(()) = replay.end(&mut emit);
    records
}

fn fits(event: &Value) {
    let line = event.to_string();
    assert!(!line.contains(['\n', '\r']), "an event of more than one line: {line}");
    let again: Value = serde_json::from_str(&line).expect("an event is JSON");
    assert_eq!(&again, event, "an event reads otherwise than it was written");
    if let Some(error) = SCHEMA.iter_errors(event).next() {
        panic!("{}: {error}\n{line}", error.instance_path());
    }
}
