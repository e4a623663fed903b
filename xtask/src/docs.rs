//! `cargo xtask docs`: the parts of documents that a program prints, printed anew.

mod demo;
mod pictures;
mod tour;

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, bail, ensure};

use crate::{process, setup, workspace};

/// What to make anew.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// One document
    #[arg(value_enum)]
    document: Document,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Document {
    /// docs/ALERTS.md: the alerts of ten minutes of a scan, brute forces and a flood over benign traffic
    Alerts,
    /// deploy/ml-ids.toml: a configuration file with every option as a comment
    Config,
    /// target/man: a man page of each command, for packages
    Man,
    /// ml-ids/assets/demo.pcap.zst: those ten minutes, for `ml-ids demo`
    Demo,
    /// docs/images/page-*.png: the page on a telephone and on a screen, light and dark, with an alert open and without
    Page,
    /// docs/tour.md: the demonstration in a terminal and on the page, and its alerts
    Tour,
    /// docs/TROUBLESHOOTING.md: mistakes that people make, and what the program says
    Troubleshooting,
}

/// Builds the agent and makes a document's printed parts anew.
pub(crate) fn main(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match arguments.document {
        Document::Alerts => alerts()?,
        Document::Config => config()?,
        Document::Man => man()?,
        Document::Demo => demo::main()?,
        Document::Page => page()?,
        Document::Tour => tour::main()?,
        Document::Troubleshooting => troubleshooting()?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the agent.
fn agent() -> anyhow::Result<Command> {
    setup::build_tools()?;
    process::visible(&mut process::cargo(["build", "--package", "ml-ids"]))?;
    Ok(Command::new(workspace::agent("debug")))
}

fn config() -> anyhow::Result<()> {
    let output = agent()?.args(["config", "example"]).output().context("cannot start the agent")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let path = workspace::root().join("deploy/ml-ids.toml");
    fs::write(&path, output.stdout).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{} is made anew", path.display());
    Ok(())
}

fn man() -> anyhow::Result<()> {
    process::visible(agent()?.arg("man").arg(workspace::target().join("man")))
}

fn alerts() -> anyhow::Result<()> {
    let mut command = agent()?;
    let capture = demo::make()?;
    let output = command.arg("score").arg(&capture).arg("--alerts").output().context("cannot start the agent")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::remove_file(&capture).with_context(|| format!("cannot remove {}", capture.display()))?;
    replace(&workspace::root().join("docs/ALERTS.md"), "story", &String::from_utf8(output.stdout)?)
}

/// Of two states of the page in two widths, light and dark.
fn page() -> anyhow::Result<()> {
    let mut names = Vec::new();
    for state in ["overview", "alert"] {
        for width in ["1440", "360"] {
            names.extend(["light", "dark"].map(|scheme| format!("page-{state}-{width}-{scheme}.png")));
        }
    }
    pictures::take("page", "pictures_for_the_documents", &names)
}

/// The test that compares the document writes it. Without root, or what `cargo xtask setup --tests` installs, it says what
/// it has left as it was.
fn troubleshooting() -> anyhow::Result<()> {
    setup::build_tools()?;
    process::visible(&mut process::cargo(["build", "--package", "ml-ids"]))?;
    let mut test = process::cargo(["test", "--package", "ml-ids-tests", "--test", "mistakes", "--", "--nocapture"]);
    process::visible(test.env("UPDATE_DOCS", "1"))
}

/// Puts `text` into the block of a document that stands after `<!-- NAME -->`.
fn replace(document: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let before = fs::read_to_string(document).with_context(|| format!("cannot read {}", document.display()))?;
    let after = replaced(&before, name, text).with_context(|| document.display().to_string())?;
    if after == before {
        println!("{} is up to date", document.display());
        return Ok(());
    }
    fs::write(document, after).with_context(|| format!("cannot write {}", document.display()))?;
    println!("{} is made anew", document.display());
    Ok(())
}

fn replaced(document: &str, name: &str, text: &str) -> anyhow::Result<String> {
    let mark = format!("<!-- {name} -->\n```\n");
    let Some((before, rest)) = document.split_once(&mark) else { bail!("there is no block after <!-- {name} -->") };
    let (_, after) = rest.split_once("```").context("the block does not end")?;
    Ok(format!("{before}{mark}{text}```{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_marked_block_is_replaced() {
        let document = "a\n```\nb\n```\n<!-- x -->\n```\nold\nold\n```\nrest\n```\nc\n```\n";
        let expected = "a\n```\nb\n```\n<!-- x -->\n```\nnew\n```\nrest\n```\nc\n```\n";
        assert_eq!(replaced(document, "x", "new\n").unwrap(), expected);
        assert!(replaced(document, "y", "").is_err());
    }
}
