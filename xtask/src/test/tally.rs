//! How many tests passed, failed and were skipped, read off what the test programs print.

use std::collections::HashSet;

use super::Outcome;

/// How a step's tests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counts {
    /// The step is one check. A `SHORT: ` line of its says that it did less than it was asked to.
    Itself,
    /// The result lines of libtest, run with `--show-output`.
    Libtest,
    /// The closing line of pytest, run with `-rs`.
    Pytest,
}

/// Numbers of tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
    /// Why tests were skipped, and what was cut short.
    pub(crate) reasons: Vec<String>,
}

impl Tally {
    /// Counts a step's tests. A step that failed without saying which test did is one failure.
    pub(crate) fn of(counts: Counts, outcome: &Outcome, log: &str) -> Self {
        if let Outcome::Skipped(reason) = outcome {
            return Self { skipped: 1, reasons: vec![reason.clone()], ..Self::default() };
        }
        let mut tally = match counts {
            Counts::Itself => Self {
                passed: u64::from(*outcome == Outcome::Passed),
                reasons: log.lines().filter_map(|line| line.strip_prefix("SHORT: ")).map(str::to_owned).collect(),
                ..Self::default()
            },
            Counts::Libtest => Self::libtest(log),
            Counts::Pytest => Self::pytest(log),
        };
        if *outcome == Outcome::Failed && tally.failed == 0 {
            tally.failed = 1;
        }
        tally
    }

    pub(crate) fn add(&mut self, other: &Self) {
        let Self { passed, failed, skipped, reasons } = other;
        self.passed += passed;
        self.failed += failed;
        self.skipped += skipped;
        self.reasons.extend(reasons.iter().cloned());
    }

    /// `test result: ok. 12 passed; 0 failed; 1 ignored; …`, and `SKIPPED: reason` lines of tests that found their data
    /// or their rights missing. libtest has counted those as passed.
    fn libtest(log: &str) -> Self {
        let mut tally = Self::default();
        let mut skipping = HashSet::new();
        // `---- name stdout ----` stands above what a test printed.
        let mut test = None;
        for line in log.lines() {
            if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
                test = Some(name);
            } else if let Some(results) = line.strip_prefix("test result: ") {
                test = None;
                let results = results.split_once(". ").map_or(results, |(_, results)| results);
                let number = |name: &str| {
                    let part = results.split("; ").find_map(|part| part.strip_suffix(name));
                    part.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0)
                };
                tally.passed += number("passed");
                tally.failed += number("failed");
                tally.skipped += number("ignored");
            } else if let Some((_, reason)) = line.split_once("SKIPPED: ") {
                // What a child process printed has no test's name above it: then every line counts.
                if test.is_none_or(|test| skipping.insert(test)) {
                    tally.skipped += 1;
                    tally.reasons.push(test.map_or_else(|| reason.to_owned(), |test| format!("{test}: {reason}")));
                }
            }
        }
        // Taken off at the end: the numbers of a test program come after what its tests printed.
        tally.passed = tally.passed.saturating_sub(tally.reasons.len() as u64);
        tally
    }

    /// `12 passed, 1 skipped in 3.20s`, with or without a frame of `=`, and `SKIPPED [1] file:line: reason` lines.
    fn pytest(log: &str) -> Self {
        let mut tally = Self::default();
        let closing = log.lines().rev().map(|line| line.trim_matches(['=', ' '])).find(|line| {
            line.contains(" in ") && line.starts_with(|letter: char| letter.is_ascii_digit()) && line.contains('s')
        });
        let counts = closing.and_then(|line| line.split_once(" in ")).map_or("", |(counts, _)| counts);
        for count in counts.split(", ") {
            let Some((number, what)) = count.split_once(' ') else { continue };
            let number = number.parse().unwrap_or(0);
            match what {
                "passed" | "xpassed" => tally.passed += number,
                "failed" | "error" | "errors" => tally.failed += number,
                "skipped" | "xfailed" => tally.skipped += number,
                _ => {}
            }
        }
        let reasons = log.lines().filter_map(|line| line.strip_prefix("SKIPPED ["));
        tally.reasons.extend(reasons.filter_map(|rest| rest.split_once("] ")).map(|(_, reason)| reason.to_owned()));
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libtests_numbers_are_summed_over_all_programs() {
        let log = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
                   test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n";
        let tally = Tally::of(Counts::Libtest, &Outcome::Failed, log);
        assert_eq!((tally.passed, tally.failed, tally.skipped), (15, 2, 1));
    }

    #[test]
    fn a_test_that_skips_is_not_counted_as_passed_and_counts_once() {
        let log = "---- capture::live stdout ----\nSKIPPED: not root\nSKIPPED: no data either\n\n\
                   ---- other stdout ----\nfine\n\nsuccesses:\n    other\n\n\
                   test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
        let tally = Tally::of(Counts::Libtest, &Outcome::Passed, log);
        assert_eq!((tally.passed, tally.failed, tally.skipped), (4, 0, 1));
        assert_eq!(tally.reasons, ["capture::live: not root"]);
    }

    #[test]
    fn a_skip_in_the_middle_of_a_result_line_is_seen() {
        let log = "test capture::live ... SKIPPED: not root\nok\n\
                   test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
        let tally = Tally::of(Counts::Libtest, &Outcome::Passed, log);
        assert_eq!((tally.passed, tally.skipped), (0, 1));
    }

    #[test]
    fn a_step_that_fails_without_a_failed_test_is_a_failure() {
        let tally = Tally::of(Counts::Libtest, &Outcome::Failed, "error: could not compile\n");
        assert_eq!((tally.passed, tally.failed), (0, 1));
    }

    #[test]
    fn pytests_closing_line_is_read_in_both_shapes() {
        let framed = "SKIPPED [1] tests/test_a.py:3: no data\n===== 1 failed, 20 passed, 1 skipped in 3.20s =====\n";
        let tally = Tally::of(Counts::Pytest, &Outcome::Failed, framed);
        assert_eq!((tally.passed, tally.failed, tally.skipped), (20, 1, 1));
        assert_eq!(tally.reasons, ["tests/test_a.py:3: no data"]);
        let quiet = Tally::of(Counts::Pytest, &Outcome::Passed, "....\n4 passed in 0.50s\n");
        assert_eq!((quiet.passed, quiet.failed, quiet.skipped), (4, 0, 0));
    }

    #[test]
    fn a_check_that_was_cut_short_passes_and_says_so() {
        let tally = Tally::of(Counts::Itself, &Outcome::Passed, "SHORT: 7 of 10 executions\n");
        assert_eq!((tally.passed, tally.skipped), (1, 0));
        assert_eq!(tally.reasons, ["7 of 10 executions"]);
    }

    #[test]
    fn a_skipped_step_is_one_skip_with_its_reason() {
        let tally = Tally::of(Counts::Itself, &Outcome::Skipped("because".into()), "");
        assert_eq!((tally.passed, tally.failed, tally.skipped), (0, 0, 1));
        assert_eq!(tally.reasons, ["because"]);
    }
}
