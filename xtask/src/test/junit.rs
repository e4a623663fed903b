//! The outcome of the steps in the form that CI servers read: a suite a step, a case a test where the step names its tests,
//! else one case for the step.

use std::{collections::HashMap, fmt::Write as _, fs, path::Path, time::Duration};

use anyhow::Context as _;

use super::{Outcome, tally::Counts};

/// Lines of a failed step's log that go into the report.
const TAIL: usize = 200;

/// A step that has been run.
pub(super) struct Suite<'a> {
    pub(super) name: &'a str,
    pub(super) counts: Counts,
    pub(super) outcome: &'a Outcome,
    pub(super) time: Duration,
    /// What it printed.
    pub(super) log: &'a str,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed(String),
    Skipped(String),
}

#[derive(Debug, PartialEq, Eq)]
struct Case {
    class: String,
    name: String,
    verdict: Verdict,
}

/// Writes the report, its folder included.
pub(super) fn write(file: &Path, suites: &[Suite<'_>]) -> anyhow::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    fs::write(file, report(suites)).with_context(|| format!("cannot write {}", file.display()))
}

fn report(suites: &[Suite<'_>]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"ml-ids\">\n");
    for suite in suites {
        let cases = cases(suite);
        let count = |of: fn(&Verdict) -> bool| cases.iter().filter(|case| of(&case.verdict)).count();
        let _ = writeln!(
            xml,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\" errors=\"0\" time=\"{:.3}\">",
            escaped(suite.name),
            cases.len(),
            count(|verdict| matches!(verdict, Verdict::Failed(_))),
            count(|verdict| matches!(verdict, Verdict::Skipped(_))),
            suite.time.as_secs_f64(),
        );
        for case in &cases {
            let head = format!("    <testcase classname=\"{}\" name=\"{}\"", escaped(&case.class), escaped(&case.name));
            let _ = match &case.verdict {
                Verdict::Passed => writeln!(xml, "{head}/>"),
                Verdict::Skipped(why) => {
                    writeln!(xml, "{head}><skipped message=\"{}\"/></testcase>", escaped(why))
                }
                Verdict::Failed(log) => {
                    writeln!(xml, "{head}><failure message=\"failed\">{}</failure></testcase>", escaped(log))
                }
            };
        }
        xml += "  </testsuite>\n";
    }
    xml + "</testsuites>\n"
}

fn cases(suite: &Suite<'_>) -> Vec<Case> {
    let mut cases = match suite.counts {
        Counts::Libtest => libtest(suite.log),
        Counts::Itself | Counts::Pytest => Vec::new(),
    };
    let told = cases.iter().any(|case| matches!(case.verdict, Verdict::Failed(_)));
    // A step of one check, or one that failed beside its tests: it did not compile, for example.
    if cases.is_empty() || (*suite.outcome == Outcome::Failed && !told) {
        let verdict = match suite.outcome {
            Outcome::Passed => Verdict::Passed,
            Outcome::Failed => Verdict::Failed(tail(suite.log)),
            Outcome::Skipped(reason) => Verdict::Skipped(reason.clone()),
        };
        cases.push(Case { class: "step".to_owned(), name: suite.name.to_owned(), verdict });
    }
    cases
}

/// `test NAME ... ok|FAILED|ignored` below `Running PROGRAM`; what each printed stands under `---- NAME stdout ----`.
fn libtest(log: &str) -> Vec<Case> {
    let (mut cases, mut printed) = (Vec::new(), HashMap::<(String, String), String>::new());
    let (mut class, mut section, mut open) = (String::new(), None, None::<String>);
    for line in log.lines() {
        if let Some(program) = program(line) {
            (class, section) = (program, None);
        } else if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            section = Some(name.to_owned());
        } else if line.starts_with("test result: ") {
            (section, open) = (None, None);
        } else if let Some(name) = &section {
            let text = printed.entry((class.clone(), name.clone())).or_default();
            *text += line;
            text.push('\n');
        } else if let Some((name, rest)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... ")) {
            match verdict(rest) {
                Some(verdict) => cases.push(Case { class: class.clone(), name: name.to_owned(), verdict }),
                // A child process has printed into the line; the verdict comes in one of its own.
                None => open = Some(name.to_owned()),
            }
        } else if let (Some(name), Some(verdict)) = (&open, verdict(line)) {
            cases.push(Case { class: class.clone(), name: name.clone(), verdict });
            open = None;
        }
    }
    for case in &mut cases {
        let text = printed.remove(&(case.class.clone(), case.name.clone())).unwrap_or_default();
        match &mut case.verdict {
            Verdict::Failed(log) => *log = tail(&text),
            verdict @ Verdict::Passed => {
                if let Some((_, reason)) = text.lines().find_map(|line| line.split_once("SKIPPED: ")) {
                    *verdict = Verdict::Skipped(reason.to_owned());
                }
            }
            Verdict::Skipped(_) => {}
        }
    }
    cases
}

/// `     Running unittests src/lib.rs (target/debug/deps/ml_ids-0123)`, `   Doc-tests ml_ids`.
fn program(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(doc) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{doc}.doc"));
    }
    let (_, path) = line.strip_prefix("Running ")?.rsplit_once('(')?;
    let file = path.trim_end_matches(')').rsplit('/').next()?;
    Some(file.rsplit_once('-').map_or(file, |(name, _)| name).to_owned())
}

fn verdict(text: &str) -> Option<Verdict> {
    match text.trim() {
        "ok" => Some(Verdict::Passed),
        "FAILED" => Some(Verdict::Failed(String::new())),
        ignored if ignored.starts_with("ignored") => Some(Verdict::Skipped(ignored.to_owned())),
        _ => None,
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}

/// Text as XML may hold it: no markup, and none of the characters that XML 1.0 cannot write at all.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\n' | '\t' => safe.push(letter),
            letter if (letter as u32) < 0x20 || matches!(letter as u32, 0xfffe | 0xffff) => safe.push('?'),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "     Running tests/live.rs (target/debug/deps/live-0123)\n\nrunning 4 tests\n\
        test a::counts ... ok\ntest a::fails ... FAILED\ntest a::needs_root ... SKIPPED: not root\nok\n\
        test a::slow ... ignored, takes an hour\n\nsuccesses:\n\n---- a::needs_root stdout ----\nSKIPPED: not root\n\n\
        failures:\n\n---- a::fails stdout ----\nexpected <1> & got \"2\"\x1b[0m\n\n\
        test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured\n   Doc-tests ml_ids\ntest src/lib.rs - f (line 3) ... ok\n";

    fn suite<'a>(counts: Counts, outcome: &'a Outcome, log: &'a str) -> Suite<'a> {
        Suite { name: "step", counts, outcome, time: Duration::from_millis(1500), log }
    }

    #[test]
    fn each_test_is_a_case_with_what_became_of_it() {
        let cases = libtest(LOG);
        let found: Vec<(&str, &str, &Verdict)> =
            cases.iter().map(|case| (&*case.class, &*case.name, &case.verdict)).collect();
        assert_eq!(found.len(), 5);
        assert_eq!(found[0], ("live", "a::counts", &Verdict::Passed));
        assert!(
            matches!(found[1], ("live", "a::fails", Verdict::Failed(log)) if log.contains("got \"2\"")),
            "{:?}",
            found[1]
        );
        assert_eq!(found[2], ("live", "a::needs_root", &Verdict::Skipped("not root".to_owned())));
        assert_eq!(found[3], ("live", "a::slow", &Verdict::Skipped("ignored, takes an hour".to_owned())));
        assert_eq!(found[4], ("ml_ids.doc", "src/lib.rs - f (line 3)", &Verdict::Passed));
    }

    #[test]
    fn the_report_escapes_what_xml_cannot_hold() {
        let xml = report(&[suite(Counts::Libtest, &Outcome::Failed, LOG)]);
        assert!(xml.contains("tests=\"5\" failures=\"1\" skipped=\"2\" errors=\"0\" time=\"1.500\""), "{xml}");
        assert!(xml.contains("expected &lt;1&gt; &amp; got &quot;2&quot;?[0m"), "{xml}");
        assert!(!xml.contains('\u{1b}'));
    }

    #[test]
    fn a_step_that_fails_beside_its_tests_is_a_failure_of_its_own() {
        let log = "test a ... ok\nerror: could not compile\n";
        let cases = cases(&suite(Counts::Libtest, &Outcome::Failed, log));
        assert_eq!(cases.len(), 2);
        assert!(matches!(&cases[1].verdict, Verdict::Failed(log) if log.contains("could not compile")));
    }

    #[test]
    fn a_step_of_one_check_is_one_case() {
        let skipped = Outcome::Skipped("no data".to_owned());
        let xml = report(&[suite(Counts::Itself, &skipped, "")]);
        assert!(xml.contains("<testcase classname=\"step\" name=\"step\"><skipped message=\"no data\"/>"), "{xml}");
    }
}
