//! Scoring: how many flows a CPU second the agent scores on each instruction set, beside onnxruntime and scikit-learn on
//! the same models and rows, one thread each.
//!
//! The models are trained once, from the shared flows if they are there and from made-up rows if not, and kept in the cache.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

use super::{figure::Figure, figures_of};
use crate::{process, setup, workspace};

const NAME: &str = "score";
/// As `score.py` calls them.
const MODELS: [&str; 4] = ["forest-depth-16", "forest-unlimited", "stacking", "boosted"];
const BATCHES: [u32; 4] = [1, 16, 256, 4096];
/// The Python side.
const SCRIPT: &str = include_str!("score.py");
const OTHERS: [&str; 2] = ["onnxruntime", "scikit-learn or LightGBM"];

/// Measures, training the models first if they are not there.
pub(crate) fn run() -> anyhow::Result<Vec<Figure>> {
    let folder = provide()?;
    let mut figures = Vec::new();
    for model in MODELS {
        let mut agent = Command::new(workspace::agent("release"));
        agent.args(["bench", NAME, "--json", "--model"]).arg(folder.join(format!("{model}.onnx")));
        agent.arg("--rows").arg(folder.join("rows.f64")).arg("--classes").arg(folder.join(format!("{model}.agent")));
        let mut found = figures_of(agent)?;
        let mut others = python(&folder)?;
        others.args(["measure".as_ref(), folder.as_os_str(), model.as_ref()]);
        found.extend(figures_of(others)?);
        found.extend(ratios(&found));
        figures.extend(found.into_iter().map(|found| Figure { figure: format!("{model}: {}", found.figure), ..found }));
    }
    Ok(figures)
}

/// How many times faster than each of the others the agent is, on the instruction set that it would choose: the first.
fn ratios(figures: &[Figure]) -> Vec<Figure> {
    let Some((widest, _)) = figures.first().and_then(|first| first.figure.split_once(", batch")) else {
        return Vec::new();
    };
    let value = |figure: &str| figures.iter().find(|found| found.figure == figure).map(|found| found.value);
    let ratio = |batch: u32, other: &str| {
        let (ours, theirs) = (value(&format!("{widest}, batch {batch}"))?, value(&format!("{other}, batch {batch}"))?);
        let figure = format!("{widest} over {other}, batch {batch}");
        Some(Figure::new(NAME, &figure, ours / theirs, "times"))
    };
    OTHERS.iter().flat_map(|other| BATCHES.iter().filter_map(|&batch| ratio(batch, other))).collect()
}

/// The folder with the models, trained by this very script.
fn provide() -> anyhow::Result<PathBuf> {
    let folder = workspace::cache()?.join("bench/score");
    let stamp = folder.join("score.py");
    if fs::read_to_string(&stamp).is_ok_and(|trained_by| trained_by == SCRIPT) {
        return Ok(folder);
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // The script goes last: a folder that is left half made is made anew.
    let _ = fs::remove_file(&stamp);
    let mut training = python(&folder)?;
    training.arg("train").arg(&folder);
    match flows() {
        Some(flows) => {
            training.arg(flows);
        }
        None => eprintln!("the shared flows are not there (ML_IDS_DATA), so the models learn from made-up rows"),
    }
    process::visible(&mut training)?;
    fs::write(&stamp, SCRIPT).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(folder)
}

/// The Python of the training environment with the script to run.
fn python(folder: &Path) -> anyhow::Result<Command> {
    let python = setup::training_python()?;
    anyhow::ensure!(python.exists(), "{} is not there; `cargo xtask setup --tests` makes it", python.display());
    let mut command = Command::new(python);
    command.arg(workspace::root().join("xtask/src/bench/score.py"));
    command.env("PYTHONPATH", workspace::root().join("training")).current_dir(folder);
    Ok(command)
}

/// The flows that the tests use, too.
fn flows() -> Option<PathBuf> {
    let data = env::var_os("ML_IDS_DATA").map_or_else(|| workspace::root().join("../shared/data"), PathBuf::from);
    Some(data.join("cicids2017-corrected")).filter(|flows| flows.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_of_the_instruction_set_that_comes_first() {
        let figure = |name: &str, value| Figure::new(NAME, name, value, "flows/CPU s");
        let figures = [
            figure("avx512, batch 1", 60.0),
            figure("plain, batch 1", 30.0),
            figure("onnxruntime, batch 1", 20.0),
            figure("scikit-learn or LightGBM, batch 1", 0.5),
        ];
        let found: Vec<_> = ratios(&figures).into_iter().map(|ratio| (ratio.figure, ratio.value)).collect();
        let wanted =
            [("avx512 over onnxruntime, batch 1", 3.0), ("avx512 over scikit-learn or LightGBM, batch 1", 120.0)];
        assert_eq!(found, wanted.map(|(figure, value)| (figure.to_owned(), value)));
    }
}
