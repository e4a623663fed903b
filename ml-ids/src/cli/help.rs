//! How help is laid out: under which heading an option stands, and which ones only the long help names.
//!
//! Options are defined where they are used, several of them for more than one command; what a reader sees together is decided
//! here.

use clap::{Arg, Command};

/// Options by heading.
const HEADINGS: [(&str, &[&str]); 8] = [
    (
        "Capture",
        &["interface", "wait-for-interface", "attach", "decap", "max-flows", "ring-bytes", "linger", "sweep-interval"],
    ),
    ("Restarts", &["pin", "pin-dir"]),
    (
        "Log files",
        &["log-dir", "log-negative-predictions", "eve", "log-rotate-size", "log-rotate-age", "log-keep", "log-gzip"],
    ),
    ("Response", &["ignore", "allow", "block", "block-dry-run", "block-threshold", "block-ttl", "block-max", "bpffs"]),
    ("API", &["listen", "insecure-listen", "token-file", "tls-cert", "tls-key", "client-time-unit"]),
    ("Model", &["model"]),
    ("General", &["dry-run", "log-format", "config"]),
    ("Input and output", &["output", "format", "jobs", "quiet", "all", "profile"]),
];

/// Options that few need to change.
const RARE: &[&str] = &[
    "alert-db",
    "alert-keep-days",
    "alert-keep-rows",
    "alert-rate",
    "alert-window",
    "aws-access-key-id",
    "aws-region",
    "aws-secret-access-key",
    "aws-session-token",
    "block-max",
    "bpffs",
    "client-time-unit",
    "community-id-seed",
    "eve",
    "linger",
    "log-format",
    "log-gzip",
    "log-keep",
    "log-rotate-age",
    "log-rotate-size",
    "mlflow-model-name",
    "mlflow-password",
    "mlflow-token",
    "mlflow-username",
    "model-cache",
    "model-insecure-http",
    "model-max-bytes",
    "model-sha256",
    "no-alert-db",
    "no-model-cache",
    "node-name",
    "pin-dir",
    "ring-bytes",
    "s3-endpoint",
    "sink-queue",
    "stats-interval",
    "sweep-interval",
    "webhook-authorization-file",
    "webhook-template",
];

/// Lays out an option of any command.
pub(super) fn lay_out(arg: Arg) -> Arg {
    let Some(long) = arg.get_long().map(str::to_owned) else { return arg };
    let heading = HEADINGS.iter().find(|(_, options)| options.contains(&long.as_str())).map(|(heading, _)| *heading);
    let arg = if RARE.contains(&long.as_str()) { arg.hide_short_help(true) } else { arg };
    match heading {
        Some(heading) => arg.help_heading(heading),
        None => arg,
    }
}

/// Commands with few options keep these under one heading.
pub(super) fn is_laid_out(command: &Command) -> bool {
    matches!(command.get_name(), "ml-ids" | "demo" | "run" | "serve" | "extract" | "score")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parse::program;

    /// Widest line that help prints where its output is no terminal, less the indent that wrapping would add.
    const WIDTH: usize = 95;

    fn each(command: &Command, path: &str, look: &mut impl FnMut(&Command, &str)) {
        look(command, path);
        for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
            each(inner, &format!("{path} {}", inner.get_name()), look);
        }
    }

    #[test]
    fn every_command_has_examples_that_fit_on_a_line() {
        each(&program(), "ml-ids", &mut |command, path| {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(text.starts_with("Examples:\n  "), "{path} has no examples");
            for line in text.lines() {
                let wide = line.starts_with("  ") && line.chars().count() > WIDTH;
                assert!(!wide, "{path}: longer than {WIDTH}: {line}");
            }
        });
    }

    #[test]
    fn the_tables_name_options_that_exist_and_run_has_none_without_a_heading() {
        let mut known = Vec::new();
        each(&program(), "ml-ids", &mut |command, _| {
            known.extend(command.get_arguments().filter_map(|arg| arg.get_long().map(str::to_owned)));
        });
        for long in HEADINGS.iter().flat_map(|(_, options)| *options).chain(RARE) {
            assert!(known.iter().any(|known| known == long), "there is no --{long}");
        }
        let program = program();
        let run = program.find_subcommand("run").unwrap();
        let bare = run.get_arguments().filter(|arg| arg.get_help_heading().is_none()).filter_map(Arg::get_long);
        assert_eq!(bare.collect::<Vec<_>>(), [""; 0]);
    }

    #[test]
    fn every_option_says_what_it_is_for() {
        each(&program(), "ml-ids", &mut |command, path| {
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{path}: {}", arg.get_id());
            }
            assert!(command.get_about().is_some(), "{path}");
        });
    }
}
