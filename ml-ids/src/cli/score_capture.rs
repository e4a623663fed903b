//! `ml-ids score` of a capture: replay, features and verdicts, a row a flow with everything in it.

use std::io::{Read, Write};

use ml_ids_common::{Decap, FlowRecord};

use super::tally::Tally;
use crate::{
    detect::{Judge, Judged, drift::Counts},
    offline::{
        Capture, CaptureError, Replay,
        pipeline::{self, Options},
        rows::{Format, RowFormat, Value},
    },
    sink::eve::shortest,
};

/// Flows scored together.
pub(super) const BATCH: usize = 256;
/// Columns after the features and the label.
const COLUMNS: [&str; 5] = ["Class", "Probability", "Alert", "Reason", "Out Of Distribution"];

/// What was scored, and what was wrong with the capture.
pub(super) struct Scored {
    pub(super) tally: Tally,
    /// How the flows compare with the training data.
    pub(super) counts: Counts,
    pub(super) packets: u64,
    pub(super) damage: Option<CaptureError>,
}

/// Scores every TCP and UDP flow of a capture, in the order in which they end.
///
/// # Errors
/// If the output cannot be written or the model fails.
pub(super) fn score_capture<R: Read + Send>(
    capture: Capture<R>,
    judge: &Judge,
    decap: Decap,
    options: &Options<'_>,
    mut output: impl Write,
    format: Format,
) -> anyhow::Result<Scored> {
    let mut replay = Replay::new(judge.model().contract().profile).with_decap(decap);
    let format = RowFormat::new(format, &COLUMNS);
    output.write_all(format.header().as_bytes())?;
    let (mut tally, mut counts) = (Tally::default(), Counts::default());
    let damage = pipeline::replay(
        capture,
        &mut replay,
        options,
        |records| rows(records, judge, &format),
        |rows| {
            let (bytes, part, counted) = rows?;
            tally.add(&part);
            counts.merge(&counted);
            output.write_all(&bytes)?;
            anyhow::Ok(())
        },
    )?;
    output.flush()?;
    Ok(Scored { tally, counts, packets: replay.counters().ingress.seen, damage })
}

fn rows(mut records: Vec<FlowRecord>, judge: &Judge, format: &RowFormat) -> anyhow::Result<(Vec<u8>, Tally, Counts)> {
    records.retain(FlowRecord::is_tcp_or_udp);
    let (mut bytes, mut tally, mut counts) = (Vec::new(), Tally::default(), Counts::default());
    let Judged { model, verdicts } = judge.judge(records)?;
    let contract = model.contract();
    for verdict in verdicts {
        tally.count(verdict.alert, verdict.out_of_distribution && !verdict.untrained);
        counts.add_verdict(contract, &verdict);
        let label = contract.classes.get(verdict.score.class).map_or("", String::as_str);
        let extra = [
            Value::Number(verdict.score.class as f64),
            Value::Number(shortest(verdict.score.probability)),
            Value::Flag(verdict.alert),
            Value::Text(verdict.record.reason().name()),
            Value::Flag(verdict.out_of_distribution),
        ];
        format.row(&mut bytes, &verdict.record, &verdict.features, label, &extra);
    }
    Ok((bytes, tally, counts))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, num::NonZeroUsize, path::Path, sync::Arc};

    use super::*;
    use crate::model::Model;

    #[test]
    fn any_number_of_threads_gives_the_same_verdicts_in_the_same_order() {
        let judge = Judge::new(Arc::new(Model::embedded().unwrap().into()));
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/handmade/random.pcap");
        let score = |jobs| {
            let options = Options { jobs: NonZeroUsize::new(jobs).unwrap(), read_at: None, batch: BATCH };
            let capture = Capture::new(File::open(&path).unwrap()).unwrap();
            let mut output = Vec::new();
            let scored = score_capture(capture, &judge, Decap::NONE, &options, &mut output, Format::Csv).unwrap();
            (output, scored.tally, scored.packets)
        };
        let expected = score(1);
        assert!(expected.1.scored > BATCH as u64, "{:?}", expected.1);
        for jobs in [2, 5] {
            let (output, tally, packets) = score(jobs);
            assert!(output == expected.0, "{jobs} threads");
            assert_eq!((tally, packets), (expected.1, expected.2));
        }
    }
}
