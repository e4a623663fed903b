//! `ml-ids score` of rows of features: a verdict a row, and what is wrong with those that cannot be read.

use std::io::Write;

use super::{
    rows::{RowError, RowSource},
    summary::Classes,
    tally::Tally,
    verdict_writer::VerdictWriter,
};
use crate::{detect::drift::Counts, features::FeatureVector, model::Model, offline::table::Format};

/// Rows scored together; beyond this tract gains nothing (docs/models.md).
const BATCH: usize = 256;
/// Bad rows that are reported one by one; of the rest only the number is.
const MAX_REPORTED: u64 = 20;
/// Which of [`super::rows::ID_COLUMNS`] says who began the flow.
const SOURCE: &str = "Src IP";

/// What was scored.
pub(super) struct ScoredRows<W> {
    pub(super) tally: Tally,
    pub(super) classes: Classes,
    /// How the rows compare with the training data.
    pub(super) counts: Counts,
    /// What was written to.
    pub(super) output: W,
}

/// Scores all rows of `rows` in batches, writes a verdict for each, and reports those that cannot be read. `done` hears
/// of each batch.
///
/// # Errors
///
/// If `output` or `report` cannot be written or the model fails on a batch.
pub(super) fn score_rows<W: Write + Send>(
    rows: &mut dyn RowSource,
    model: &Model,
    output: W,
    format: Format,
    mut report: impl Write,
    done: impl Fn(u64),
) -> anyhow::Result<ScoredRows<W>> {
    let names = rows.id_columns().to_vec();
    let source = names.iter().position(|name| *name == SOURCE);
    let mut writer = VerdictWriter::new(output, format, names, model.contract().classes.clone())?;
    let (mut tally, mut counts) = (Tally::default(), Counts::default());
    let mut classes = Classes::of(model);
    let (mut ids, mut features) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH));
    loop {
        let row = rows.next();
        let at_end = row.is_none();
        match row {
            Some(Ok(row)) => {
                ids.push(row.ids);
                features.push(row.features);
            }
            Some(Err(error)) => {
                tally.bad += 1;
                if tally.bad <= MAX_REPORTED || matches!(error, RowError::Unreadable { .. }) {
                    writeln!(report, "{error}")?;
                }
            }
            None => {}
        }
        if features.len() == BATCH || at_end {
            let counted = (&mut tally, &mut classes, &mut counts);
            score_batch(model, (&ids, source), &features, &mut writer, counted)?;
            done(ids.len() as u64);
            ids.clear();
            features.clear();
        }
        if at_end {
            break;
        }
    }
    if tally.bad > MAX_REPORTED {
        writeln!(report, "{} more rows are not readable", tally.bad - MAX_REPORTED)?;
    }
    Ok(ScoredRows { tally, classes, counts, output: writer.finish()? })
}

fn score_batch(
    model: &Model,
    (ids, source): (&[Vec<String>], Option<usize>),
    features: &[FeatureVector],
    writer: &mut VerdictWriter<impl Write + Send>,
    (tally, classes, counts): (&mut Tally, &mut Classes, &mut Counts),
) -> anyhow::Result<()> {
    for ((ids, row), score) in ids.iter().zip(features).zip(model.score(features)?) {
        let far = model.out_of_distribution(row);
        tally.count(score.alert, far);
        let source = source.and_then(|source| ids.get(source)?.parse().ok());
        classes.count(score.class, score.probability, score.alert, source);
        counts.add(model.contract(), row, &score, score.alert, far);
        writer.write(ids, &score, far)?;
    }
    writer.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::csv_rows::CsvRows, features::FEATURE_COUNT, model::expected_names};

    fn score(text: &str, format: Format) -> (Tally, String, String) {
        let model = Model::embedded().unwrap();
        let mut rows = CsvRows::new(text.as_bytes(), &[]).unwrap();
        let (mut output, mut report) = (Vec::new(), Vec::new());
        let tally = score_rows(&mut rows, &model, &mut output, format, &mut report, |_| ()).unwrap().tally;
        (tally, String::from_utf8(output).unwrap(), String::from_utf8(report).unwrap())
    }

    fn header() -> String {
        format!("Flow ID,Src Port,{}\n", expected_names().join(","))
    }

    fn line(id: usize, value: &str) -> String {
        format!("flow {id},{},{}\n", id % 65536, vec![value; FEATURE_COUNT].join(","))
    }

    #[test]
    fn every_row_gets_its_verdict_in_order_across_batches() {
        let count = 2 * BATCH + 7;
        let text = header() + &(0..count).map(|id| line(id, &(id % 50).to_string())).collect::<String>();
        let (tally, output, report) = score(&text, Format::Jsonl);
        assert_eq!((tally.scored, tally.bad, report.as_str()), (count as u64, 0, ""));
        let model = Model::embedded().unwrap();
        for (id, line) in output.lines().enumerate() {
            let object: serde_json::Value = serde_json::from_str(line).unwrap();
            let own = model.score(&[[(id % 50) as f64; FEATURE_COUNT]]).unwrap().remove(0);
            assert_eq!(object["Flow ID"], format!("flow {id}"));
            assert_eq!(object["Src Port"], id);
            assert_eq!(object["class"], own.class);
            assert_eq!(object["label"], model.contract().classes[own.class].as_str());
            assert_eq!(object["alert"], own.alert);
        }
    }

    #[test]
    fn csv_output_has_a_header_and_quotes_what_needs_it() {
        let text = header() + &line(1, "0").replace("flow 1", "\"flow, 1\"");
        let (_, output, _) = score(&text, Format::Csv);
        let mut lines = output.lines();
        assert_eq!(lines.next(), Some("Flow ID,Src Port,label,class,probability,alert,out_of_distribution"));
        assert!(lines.next().unwrap().starts_with("\"flow, 1\",1,"), "{output}");
        assert_eq!(lines.next(), None);
    }

    #[test]
    fn bad_rows_are_counted_and_only_the_first_are_named() {
        let bad: String = (0..50).map(|id| line(id, "x")).collect();
        let (tally, output, report) = score(&(header() + &line(0, "1") + &bad + &line(1, "1")), Format::Jsonl);
        assert_eq!((tally.scored, tally.bad), (2, 50));
        assert_eq!(output.lines().count(), 2);
        assert_eq!(report.lines().count(), 21);
        assert!(report.starts_with("line 3: column `"), "{report}");
        assert!(report.ends_with("30 more rows are not readable\n"), "{report}");
    }
}
