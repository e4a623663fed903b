//! The agent's own log on standard error: lines for people, or JSON lines for machines.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
};

use env_logger::{Builder, Env, Target, WriteStyle};
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::progress::BesideBar;

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum LogFormat {
    /// Lines for people
    #[default]
    Text,
    /// JSON lines with timestamp, level, target and message
    Json,
}

/// Starts the log; `RUST_LOG` chooses what is in it, else `filter`.
pub(super) fn start(format: LogFormat, filter: &str) {
    let mut builder = Builder::from_env(Env::default().default_filter_or(filter));
    builder.target(Target::Pipe(Box::new(BesideBar)));
    // What is behind the pipe is not asked by the logger itself.
    let is_set = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    if !is_set("RUST_LOG_STYLE") {
        let plain = is_set("NO_COLOR") || env::var_os("TERM").is_some_and(|term| term == "dumb");
        let styled = io::stderr().is_terminal() && !plain;
        builder.write_style(if styled { WriteStyle::Always } else { WriteStyle::Never });
    }
    if format == LogFormat::Json {
        builder.format(|buffer, record| {
            let message = record.args().to_string();
            writeln!(buffer, "{}", line(OffsetDateTime::now_utc(), record.level(), record.target(), &message))
        });
    }
    builder.init();
}

fn line(now: OffsetDateTime, level: log::Level, target: &str, message: &str) -> String {
    // Finer than that is noise.
    let now = now.replace_nanosecond(now.microsecond() * 1000).unwrap_or(now);
    json!({
        "timestamp": now.format(&Rfc3339).unwrap_or_default(),
        "level": level.as_str().to_ascii_lowercase(),
        "target": target,
        "message": message,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn whatever_is_logged_is_one_line_of_json() {
        let now = time::macros::datetime!(2026-11-27 08:00:00.5 UTC);
        let text = line(now, log::Level::Warn, "ml_ids::sink", "two\nlines and a \"quote\"");
        assert!(!text.contains('\n'), "{text}");
        let expected = json!({
            "timestamp": "2026-11-27T08:00:00.5Z",
            "level": "warn",
            "target": "ml_ids::sink",
            "message": "two\nlines and a \"quote\"",
        });
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
    }
}
