//! Alerts as people and programs read them.

use std::io::{self, Write};

use clap::ValueEnum;
use serde_json::Value;

use crate::{
    alert::{
        Alert, Counted,
        class::techniques,
        store::{Ack, Stored},
    },
    sink::timestamp,
};

/// How alerts are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum AlertFormat {
    /// A line each, for people
    Table,
    /// An array
    Json,
    /// A line of JSON each
    Jsonl,
    /// A header and a line each
    Csv,
}

/// Columns of CSV.
const COLUMNS: [&str; 20] = [
    "id",
    "state",
    "severity",
    "label",
    "first_seen",
    "last_seen",
    "count",
    "src_ip",
    "sources",
    "dest_ip",
    "targets",
    "ports",
    "packets",
    "bytes",
    "score",
    "mitre",
    "held_back",
    "acked_by",
    "acked_at",
    "note",
];

/// Writes alerts one after the other.
pub(super) enum Printer<W: Write> {
    Table { out: W, any: bool },
    Json { out: W, any: bool },
    Jsonl(W),
    Csv(Box<csv::Writer<W>>),
}

impl<W: Write> Printer<W> {
    pub(super) fn new(out: W, format: AlertFormat) -> io::Result<Self> {
        Ok(match format {
            AlertFormat::Table => Self::Table { out, any: false },
            AlertFormat::Json => Self::Json { out, any: false },
            AlertFormat::Jsonl => Self::Jsonl(out),
            AlertFormat::Csv => {
                let mut writer = csv::Writer::from_writer(out);
                writer.write_record(COLUMNS)?;
                Self::Csv(Box::new(writer))
            }
        })
    }

    pub(super) fn print(&mut self, stored: &Stored) -> io::Result<()> {
        match self {
            Self::Table { out, any } => {
                if !std::mem::replace(any, true) {
                    writeln!(
                        out,
                        "{:<16}  {:<20}  {:<20}  {:<8}  {:<6}  {:>7}  what",
                        "id", "first seen", "last seen", "severity", "state", "flows"
                    )?;
                }
                line(out, stored)
            }
            Self::Json { out, any } => {
                out.write_all(if std::mem::replace(any, true) { b",\n" } else { b"[\n" })?;
                Ok(serde_json::to_writer(out, &stored.json())?)
            }
            Self::Jsonl(out) => {
                serde_json::to_writer(&mut *out, &stored.json())?;
                out.write_all(b"\n")
            }
            Self::Csv(writer) => Ok(writer.write_record(fields(stored))?),
        }
    }

    pub(super) fn finish(self) -> io::Result<()> {
        match self {
            Self::Json { mut out, any } => {
                out.write_all(if any { b"\n]\n" } else { b"[]\n" })?;
                out.flush()
            }
            Self::Table { mut out, .. } | Self::Jsonl(mut out) => out.flush(),
            Self::Csv(mut writer) => writer.flush(),
        }
    }
}

fn line(out: &mut impl Write, Stored { alert, ack }: &Stored) -> io::Result<()> {
    let (first, last) = (second(alert.first_seen_us), second(alert.last_seen_us));
    write!(
        out,
        "{:<16}  {first:<20}  {last:<20}  {:<8}  {:<6}  {:>7}  {}",
        alert.id,
        alert.severity,
        alert.state.name(),
        alert.count,
        alert.title(),
    )?;
    let mitre: Vec<&str> = techniques(&alert.label).iter().map(|technique| technique.id).collect();
    if !mitre.is_empty() {
        write!(out, " ({})", mitre.join(", "))?;
    }
    if alert.held_back {
        write!(out, " [held back]")?;
    }
    if let Some(Ack { by, .. }) = ack {
        write!(out, " [seen by {}]", plain(by))?;
    }
    writeln!(out)
}

fn fields(Stored { alert, ack }: &Stored) -> [String; COLUMNS.len()] {
    let only = |seen: &Counted<std::net::IpAddr>| match seen.sample.first() {
        Some(address) if seen.count == 1 => address.to_string(),
        _ => String::new(),
    };
    let mitre: Vec<&str> = techniques(&alert.label).iter().map(|technique| technique.id).collect();
    let time = |us| timestamp(us).unwrap_or_default();
    let (by, at, note) =
        ack.as_ref().map_or_else(Default::default, |ack| (ack.by.clone(), time(ack.at_us), ack.note.clone()));
    [
        alert.id.to_string(),
        alert.state.name().to_owned(),
        alert.severity.number().to_string(),
        alert.label.clone(),
        time(alert.first_seen_us),
        time(alert.last_seen_us),
        alert.count.to_string(),
        only(&alert.sources),
        alert.sources.count.to_string(),
        only(&alert.targets),
        alert.targets.count.to_string(),
        alert.ports.count.to_string(),
        alert.packets.to_string(),
        alert.bytes.to_string(),
        alert.score.to_string(),
        mitre.join(" "),
        alert.held_back.to_string(),
        by,
        at,
        note,
    ]
}

/// Everything about one alert, for people.
pub(super) fn print_in_full(out: &mut impl Write, Stored { alert, ack }: &Stored) -> io::Result<()> {
    let Alert { id, state, ending, merged_into, severity, count, .. } = alert;
    writeln!(out, "{}\n", alert.title())?;
    let mut row = |name: &str, value: String| writeln!(out, "{name:<12}  {value}");
    row("id", id.to_string())?;
    let why = match (ending, merged_into) {
        (_, Some(into)) => format!(" (now part of {into})"),
        (Some(ending), None) => format!(" ({})", ending.name()),
        (None, None) => String::new(),
    };
    row("state", format!("{}{why}", state.name()))?;
    row("severity", format!("{} ({severity})", severity.number()))?;
    for technique in techniques(&alert.label) {
        row("att&ck", format!("{} {}, {}", technique.id, technique.name, technique.tactic))?;
    }
    row("first seen", timestamp(alert.first_seen_us).unwrap_or_default())?;
    row("last seen", timestamp(alert.last_seen_us).unwrap_or_default())?;
    row("flows", count.to_string())?;
    row("volume", format!("{} packets, {} payload bytes", alert.packets, alert.bytes))?;
    row("score", format!("{} at most", alert.score))?;
    row("sources", named(&alert.sources))?;
    row("targets", named(&alert.targets))?;
    row("ports", named(&alert.ports))?;
    if let Some(held) = &alert.held {
        for (class, count) in &held.classes {
            row("held back", format!("{count} {}", plain(class)))?;
        }
    }
    for reason in alert.evidence.pointer("/ml/top").and_then(Value::as_array).into_iter().flatten() {
        let words = reason["text"].as_str().map_or_else(|| reason.to_string(), plain);
        row("because", words)?;
    }
    if let Some(Ack { at_us, by, note }) = ack {
        row("seen by", format!("{} at {}", plain(by), timestamp(*at_us).unwrap_or_default()))?;
        if !note.is_empty() {
            row("note", plain(note))?;
        }
    }
    Ok(())
}

fn named<T: ToString>(seen: &Counted<T>) -> String {
    let names: Vec<String> = seen.sample.iter().map(ToString::to_string).collect();
    let least = if seen.exact { "" } else { "at least " };
    let more = if names.len() < seen.count as usize { ", …" } else { "" };
    format!("{least}{}: {}{more}", seen.count, names.join(", "))
}

/// To the second, as a table needs no more.
fn second(us: u64) -> String {
    timestamp(us / 1_000_000 * 1_000_000).unwrap_or_default()
}

/// Without what a terminal would obey.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}
