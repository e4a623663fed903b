//! That the page has words for everything that the sensor may say: names of hooks, states, reasons and sinks.

use serde::Serialize;

use crate::{
    alert::Ending,
    api::{Egress, Ingress, InterfaceState},
    sink::{EventKind, Kinds, LogFiles, Rotation, SinkOptions, log_files, open_sinks},
};

const WORDS: &str = include_str!("script/words.js");
/// Where reasons of `/health` are put into words.
const REASONS: [&str; 7] = [
    include_str!("../api/access.rs"),
    include_str!("../api/health.rs"),
    include_str!("../api/privileges.rs"),
    include_str!("../cli/wiring.rs"),
    include_str!("../model/keeper/mod.rs"),
    include_str!("../sensor/watch.rs"),
    include_str!("../sensor/watched.rs"),
];

/// All variants of a type: the match does not compile if one is missing.
macro_rules! all {
    ($type:ident: $($variant:ident),+) => {{
        let _ = |one: $type| match one {
            $($type::$variant => {})+
        };
        [$($type::$variant),+]
    }};
}

/// The lines of a table in `words.js`.
fn table(name: &str, close: &str) -> &'static str {
    let (_, rest) = WORDS.split_once(&format!("\nconst {name} = ")).unwrap_or_else(|| panic!("there is no {name}"));
    rest.split_once(close).unwrap().0
}

/// Requires that a table has words for a name.
fn is_worded(name: &str, of: &str) {
    let table = table(name, "\n};");
    let keys = [format!(" {of}: "), format!(" \"{of}\": ")];
    assert!(keys.iter().any(|key| table.contains(key)), "{name} has no words for {of}: {table}");
}

fn are_worded(name: &str, values: impl IntoIterator<Item = impl Serialize>) {
    for value in values {
        is_worded(name, serde_json::to_value(value).unwrap().as_str().unwrap());
    }
}

#[test]
fn hooks_and_states_and_endings_and_skipped_packets_have_words() {
    are_worded("HOOKS", all!(Ingress: XdpNative, XdpGeneric, TcxIngress, ClsactIngress, Replay));
    are_worded("HOOKS", all!(Egress: Tcx, Clsact));
    are_worded("INTERFACES", all!(InterfaceState: Attached, Down, Gone, Waiting, Failed));
    are_worded("ENDINGS", all!(Ending: Quiet, Age, Room, Merged, Stopped, Lost));
    are_worded("SKIPPED", ml_ids_common::Skip::ALL.map(ml_ids_common::Skip::name));
}

#[test]
fn sinks_have_words() {
    let folder = tempfile::tempdir().unwrap();
    let eve = Kinds::of(&[EventKind::Stats]);
    let files = LogFiles { negative: true, block: true, eve, rotation: Rotation::default() };
    let files = log_files(folder.path(), &files).unwrap();
    let addresses = ["stdout", "syslog+udp://a", "webhook+https://a/b", "unix:///a", "nats://a/b"];
    let addresses = addresses.map(|text| text.parse().unwrap()).into();
    let others = open_sinks(addresses, &SinkOptions::default()).unwrap();
    assert_eq!(others.len(), 5);
    for (port, _) in files.iter().chain(&others) {
        is_worded("SINKS", port.name);
    }
}

/// The texts of a source, without its comments and tests.
fn code(source: &str) -> impl Iterator<Item = &str> {
    let (code, _) = source.split_once("#[cfg(test)]\nmod tests {").unwrap_or((source, ""));
    code.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| line.split('"').skip(1).step_by(2))
}

#[test]
fn what_advice_is_given_on_is_what_the_sensor_says() {
    let advice = table("ADVICE", "\n];");
    let named = table("NOT_ATTACHED", ";").trim_matches('"');
    let quoted = advice.lines().filter_map(|row| row.trim_start().strip_prefix("[\"")?.split('"').next());
    let parts: Vec<&str> = quoted.chain([named]).collect();
    assert_eq!(parts.len(), advice.lines().filter(|row| row.trim_start().starts_with('[') && row.len() > 1).count());
    assert!(advice.contains("[NOT_ATTACHED, "));
    for part in parts {
        let said = REASONS.iter().flat_map(|source| code(source)).any(|text| text.to_lowercase().contains(part));
        assert!(said, "no reason says {part:?}");
    }
}
