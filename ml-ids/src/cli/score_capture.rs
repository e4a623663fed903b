//! `ml-ids score` of a capture: replay, features and verdicts, a row a flow with everything in it.

use std::io::{Read, Write};

use ml_ids_common::{Decap, FlowRecord};

use super::score::Tally;
use crate::{
    detect::Judge,
    offline::{
        self, Capture, CaptureError, Replay,
        rows::{Format, RowWriter, Value},
    },
};

/// Flows scored together.
const BATCH: usize = 256;
/// Columns after the features and the label.
const COLUMNS: [&str; 4] = ["Class", "Probability", "Alert", "Reason"];

/// What was scored, and what was wrong with the capture.
pub(super) struct Scored {
    pub(super) tally: Tally,
    pub(super) packets: u64,
    pub(super) damage: Option<CaptureError>,
}

/// Scores every TCP and UDP flow of a capture, in the order in which they end.
///
/// # Errors
/// If the output cannot be written or the model fails.
pub(super) fn score_capture<R: Read>(
    capture: &mut Capture<R>,
    judge: &Judge,
    decap: Decap,
    output: impl Write,
    format: Format,
) -> anyhow::Result<Scored> {
    let mut replay = Replay::new(judge.model().contract().profile).with_decap(decap);
    let mut writer = RowWriter::new(output, format, &COLUMNS)?;
    let mut tally = Tally::default();
    let mut batch: Vec<FlowRecord> = Vec::with_capacity(BATCH);
    let damage = offline::replay(capture, &mut replay, |record| {
        if record.is_tcp_or_udp() {
            batch.push(record);
        }
        if batch.len() < BATCH {
            return Ok(());
        }
        write_batch(std::mem::take(&mut batch), judge, &mut writer, &mut tally)
    })?;
    write_batch(batch, judge, &mut writer, &mut tally)?;
    writer.flush()?;
    Ok(Scored { tally, packets: replay.counters().ingress.seen, damage })
}

fn write_batch(
    records: Vec<FlowRecord>,
    judge: &Judge,
    writer: &mut RowWriter<impl Write>,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let classes = &judge.model().contract().classes;
    for verdict in judge.judge(records)? {
        tally.scored += 1;
        tally.alerts += u64::from(verdict.alert);
        let label = classes.get(verdict.score.class).map_or("", String::as_str);
        let extra = [
            Value::Number(verdict.score.class as f64),
            Value::Number(shortest(verdict.score.probability)),
            Value::Flag(verdict.alert),
            Value::Text(verdict.record.reason().name()),
        ];
        writer.row(&verdict.record, &verdict.features, label, &extra)?;
    }
    Ok(())
}

/// The float64 that prints as the float32 does: 0.1, not 0.10000000149011612.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| f64::from(value))
}
