//! From own captures to a model that knows them: extracted, labelled by a file, trained on, and scored on another day, by
//! the commands that `training/README.md` gives.

use std::{collections::BTreeMap, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use ml_ids_tests::{
    agent::{Scratch, ml_ids, run},
    training::{CONVERSATIONS, SCANNER, Training, office_day},
};

/// Longest time that training on a hundred flows may take; most of it is Python's start.
const LIMIT: Duration = Duration::from_secs(300);

#[test]
fn a_model_that_was_trained_on_own_captures_gives_another_day_the_labels_of_the_labels_file() -> Result<()> {
    let Some(training) = Training::find()? else { return Ok(()) };
    let scratch = Scratch::new("own-captures")?;
    let folder = scratch.path("");
    let folder = Path::new(&folder);
    let command = training.office(folder, &["--no-track", "--name", "office"])?;
    let (program, arguments) = command.split_first().context("an empty command")?;
    let trained = run(Command::new(program).args(arguments), b"", LIMIT)?.expect(0)?;
    ensure!(!trained.stderr.contains("fits no flow"), "a rule is idle: {}", trained.stderr);

    let (model, other_day) = (scratch.path("office.onnx"), office_day(folder, 2)?);
    let scored = ml_ids(&["score", &other_day, "--model", &model, "--format", "csv"], b"")?.expect(0)?;
    let mut rows = csv::Reader::from_reader(scored.text()?.as_bytes());
    let header = rows.headers()?.clone();
    let column =
        |name: &str| header.iter().position(|other| other == name).with_context(|| format!("no column {name}"));
    let (source, label) = (column("Src IP")?, column("Label")?);
    let mut verdicts = BTreeMap::new();
    for row in rows.records() {
        let row = row?;
        *verdicts.entry((&row[source] == SCANNER, row[label].to_owned())).or_insert(0) += 1;
    }
    let expected = [((false, "BENIGN".to_owned()), CONVERSATIONS), ((true, "PortScan".to_owned()), CONVERSATIONS)];
    ensure!(verdicts == BTreeMap::from(expected), "{verdicts:?}");
    Ok(())
}
