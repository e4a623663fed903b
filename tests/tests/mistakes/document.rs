//! `docs/TROUBLESHOOTING.md`: an introduction, a list of contents, and a section for each mistake.

use std::{collections::HashMap, fmt::Write as _, fs, path::PathBuf};

use anyhow::{Context as _, Result};
use ml_ids_tests::root;

use super::{Ends, Mistake};

const INTRODUCTION: &str = "\
# Troubleshooting

Mistakes that people make, and what the program says. Every output below is real: `tests/tests/mistakes` makes each mistake
and fails when this page says something else; `cargo xtask docs troubleshooting` writes the page anew. Times, process numbers
and paths of the machine are replaced, and what is logged for information (`INFO`) is left out.

Errors go to standard error, and the exit code says of which kind they are: 1 failed at run time, 2 wrong usage, 3 input (or
a model) unreadable or malformed. A sensor that runs says in `GET /health` what is wrong with it, under `reasons`.
";

/// Mistakes of one kind.
pub(crate) struct Chapter {
    pub(crate) title: &'static str,
    pub(crate) mistakes: &'static [Mistake],
}

/// The document, or what it should be.
pub(crate) struct Document {
    text: String,
}

impl Document {
    /// As it is; empty if it is not there.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn read() -> Result<Self> {
        let path = path();
        let text = if path.exists() { fs::read_to_string(&path)? } else { String::new() };
        Ok(Self { text })
    }

    /// As it should be. A mistake that cannot be made here stays as it is.
    ///
    /// # Errors
    /// When a mistake does not lead where it should.
    pub(crate) fn with(
        &self,
        chapters: &[Chapter],
        mut make: impl FnMut(&Mistake) -> Result<Option<String>>,
    ) -> Result<Self> {
        let old = self.sections();
        let (mut contents, mut body) = (String::new(), String::new());
        for Chapter { title, mistakes } in chapters {
            writeln!(contents, "\n**{title}**\n")?;
            writeln!(body, "\n## {title}")?;
            for mistake in *mistakes {
                let made = make(mistake).with_context(|| format!("mistake {:?}", mistake.title))?;
                let section = match made {
                    Some(output) => section(mistake, &output),
                    None => old.get(mistake.title).map(ToString::to_string).unwrap_or_default(),
                };
                writeln!(contents, "- [{}](#{})", mistake.title, anchor(mistake.title))?;
                write!(body, "\n### {}\n{section}", mistake.title)?;
            }
        }
        Ok(Self { text: format!("{INTRODUCTION}{contents}{body}") })
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&self) -> Result<()> {
        Ok(fs::write(path(), &self.text)?)
    }

    /// What is another in `made`; empty if nothing is.
    pub(crate) fn differences(&self, made: &Self) -> String {
        let (old, new) = (self.sections(), made.sections());
        let mut text = String::new();
        for (title, section) in &new {
            if old.get(title) != Some(section) {
                let before = old.get(title).copied().unwrap_or("(not there)");
                text += &format!("--- {title}, in the document\n{before}\n+++ {title}, now\n{section}\n");
            }
        }
        if text.is_empty() && self.text != made.text {
            text += "introduction, contents or order";
        }
        text
    }

    /// What stands below each title of a mistake, up to the next heading.
    fn sections(&self) -> HashMap<&str, &str> {
        let pieces = self.text.split("\n### ").skip(1);
        pieces
            .filter_map(|piece| piece.split_once('\n'))
            .map(|(title, section)| (title, section.split("\n## ").next().unwrap_or(section)))
            .collect()
    }
}

fn section(mistake: &Mistake, output: &str) -> String {
    let Mistake { did, command, ends, means, .. } = mistake;
    let code = match ends {
        // It is curl's, not ours.
        Ends::With(_) if command.starts_with("curl") => String::new(),
        Ends::With(code) => format!("Exit code {code}. "),
        Ends::Never(_) => "It runs on. ".to_owned(),
    };
    format!("\n{did}\n\n```console\n$ {command}\n{output}```\n\n{code}{means}\n")
}

/// How GitHub names the place of a heading.
fn anchor(title: &str) -> String {
    let kept = title.to_lowercase().replace(|c: char| !c.is_alphanumeric() && c != ' ' && c != '-' && c != '_', "");
    kept.replace(' ', "-")
}

fn path() -> PathBuf {
    root().join("docs/TROUBLESHOOTING.md")
}
