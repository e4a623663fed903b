//! The mistakes that people make, made for real, and what the program says: `docs/TROUBLESHOOTING.md` is written from here.
//!
//! Each mistake is a row of a table: what to prepare, the command, its exit code, and what its output means. The command is
//! run by a shell in the laboratory just as it is shown. The test fails when the document does not say what was printed;
//! `cargo xtask docs troubleshooting` (which sets `UPDATE_DOCS`) writes it anew.

mod api;
mod document;
mod files;
mod models;
mod sensors;
mod world;

use anyhow::{Result, ensure};
use document::{Chapter, Document};
use world::World;

/// What a mistake needs besides the laboratory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    /// An MLflow server with a model `ids`, and an S3 service.
    Registry,
}

/// When the output is complete.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ends {
    /// The command ends by itself, with this exit code.
    With(i32),
    /// It runs on; when this has been printed, it is stopped. Only warnings and errors are shown.
    Never(&'static str),
}

/// A mistake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mistake {
    pub(crate) title: &'static str,
    /// What was done.
    pub(crate) did: &'static str,
    pub(crate) needs: Needs,
    /// Shell commands that prepare it.
    pub(crate) setup: &'static str,
    /// A command that runs meanwhile, on 127.0.0.1:8000, and is there before the mistake is made.
    pub(crate) beside: &'static str,
    /// What is done, as it is shown.
    pub(crate) command: &'static str,
    pub(crate) ends: Ends,
    /// What it means, and what to do.
    pub(crate) means: &'static str,
}

impl Mistake {
    /// What most of them have.
    pub(crate) const USUAL: Self = Self {
        title: "",
        did: "",
        needs: Needs::Nothing,
        setup: "",
        beside: "",
        command: "",
        ends: Ends::With(1),
        means: "",
    };
}

const CHAPTERS: [Chapter; 4] = [
    Chapter { title: "Starting a sensor", mistakes: sensors::MISTAKES },
    Chapter { title: "Models", mistakes: models::MISTAKES },
    Chapter { title: "Captures and tables", mistakes: files::MISTAKES },
    Chapter { title: "The API", mistakes: api::MISTAKES },
];

#[test]
fn the_document_says_what_each_mistake_leads_to() -> Result<()> {
    let Some(mut world) = World::build()? else { return Ok(()) };
    let document = Document::read()?;
    let made = document.with(&CHAPTERS, |mistake| world.make(mistake))?;
    if std::env::var_os("UPDATE_DOCS").is_some() {
        return made.write();
    }
    let differences = document.differences(&made);
    ensure!(
        differences.is_empty(),
        "docs/TROUBLESHOOTING.md is stale; look at what changed and run `cargo xtask docs troubleshooting`:\n{differences}"
    );
    Ok(())
}

#[test]
fn the_table_is_whole_and_every_title_is_there_once() {
    let all: Vec<&Mistake> = CHAPTERS.iter().flat_map(|chapter| chapter.mistakes).collect();
    assert!(all.len() >= 24, "only {}", all.len());
    for (index, mistake) in all.iter().enumerate() {
        let Mistake { title, did, command, means, .. } = mistake;
        assert!(![title, did, command, means].iter().any(|text| text.is_empty()), "{mistake:?}");
        assert!(all[..index].iter().all(|other| other.title != *title), "{title} twice");
    }
}
