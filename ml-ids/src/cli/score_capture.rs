//! `ml-ids score` of a capture: replay, features and verdicts, a row a flow with everything in it.

use std::io::{Read, Write};

use ml_ids_common::{Decap, FlowRecord};

use super::{summary::Classes, tally::Tally};
use crate::{
    detect::{Judge, Judged, drift::Counts},
    offline::{
        Capture, CaptureError, Replay,
        columns::{Kind, Spec},
        pipeline::{self, Options},
        rows::Value,
        table::{FlowTable, Format, Rows},
    },
    sink::eve::shortest,
};

/// Flows scored together.
pub(super) const BATCH: usize = 256;
/// Columns after the features and the label.
const COLUMNS: [Spec; 5] = [
    Spec::required("Class", Kind::Whole),
    Spec::required("Probability", Kind::Real),
    Spec::required("Alert", Kind::Flag),
    Spec::required("Reason", Kind::Text),
    Spec::required("Out Of Distribution", Kind::Flag),
];

/// What was scored, and what was wrong with the capture.
pub(super) struct Scored {
    pub(super) tally: Tally,
    pub(super) classes: Classes,
    /// How the flows compare with the training data.
    pub(super) counts: Counts,
    pub(super) packets: u64,
    pub(super) damage: Option<CaptureError>,
}

/// Scores every TCP and UDP flow of a capture, in the order in which they end. `done` hears of each batch. Returns what is
/// written to, too.
///
/// # Errors
/// If the output cannot be written or the model fails.
pub(super) fn score_capture<R: Read + Send, W: Write + Send>(
    capture: Capture<R>,
    judge: &Judge,
    decap: Decap,
    options: &Options<'_>,
    output: W,
    format: Format,
    done: impl Fn(u64),
) -> anyhow::Result<(Scored, W)> {
    let model = judge.model();
    let mut replay = Replay::new(model.contract().profile).with_decap(decap);
    let table = FlowTable::new(format, &COLUMNS);
    let mut writer = table.writer(output)?;
    let (mut tally, mut counts, mut classes) = (Tally::default(), Counts::default(), Classes::of(&model));
    let damage = pipeline::replay(
        capture,
        &mut replay,
        options,
        |records| judged_rows(records, judge, &table),
        |batch| {
            let Batch { rows, judged, tally: part, counts: counted } = batch?;
            tally.add(&part);
            counts.merge(&counted);
            classes.count_verdicts(&judged);
            done(part.scored);
            writer.write(rows)?;
            anyhow::Ok(())
        },
    )?;
    let packets = replay.counters().ingress.seen;
    Ok((Scored { tally, classes, counts, packets, damage }, writer.finish()?))
}

/// Verdicts on flows that ended together.
struct Batch {
    rows: Rows,
    judged: Judged,
    tally: Tally,
    counts: Counts,
}

fn judged_rows(mut records: Vec<FlowRecord>, judge: &Judge, table: &FlowTable) -> anyhow::Result<Batch> {
    let (mut tally, mut counts) = (Tally::default(), Counts::default());
    tally.retain_judged(&mut records);
    let mut rows = table.rows(0);
    let judged = judge.judge(records)?;
    let contract = judged.model.contract();
    for verdict in &judged.verdicts {
        tally.count_verdict(verdict);
        counts.add_verdict(contract, verdict);
        let label = contract.classes.get(verdict.score.class).map_or("", String::as_str);
        let extra = [
            Value::Number(verdict.score.class as f64),
            Value::Number(shortest(verdict.score.probability)),
            Value::Flag(verdict.alert),
            Value::Text(verdict.record.reason().name()),
            Value::Flag(verdict.out_of_distribution),
        ];
        table.row(&mut rows, &verdict.record, &verdict.features, label, &extra);
    }
    Ok(Batch { rows, judged, tally, counts })
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
            let (scored, output) =
                score_capture(capture, &judge, Decap::NONE, &options, Vec::new(), Format::Csv, |_| ()).unwrap();
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
