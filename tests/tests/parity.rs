//! The features equal those of the reference: the executable specification and the datasets' published rows.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use ml_ids::features::{Dialect, FEATURES, find};
use ml_ids_common::Profile;
use ml_ids_tests::{
    data, fixture,
    flows::{Row, differences, extract, same},
};
use time::{PrimitiveDateTime, macros::format_description};

/// Both sides compute in f64 from the same integers.
const TOLERANCE: f64 = 1e-9;
/// Published rows are rounded to ten digits.
const ROUNDED: f64 = 1e-8;

fn assert_same(expected: &[Row], computed: &[Row], what: &str) {
    let differences = differences(expected, computed, TOLERANCE);
    assert!(differences.is_empty(), "{what}:\n{}", differences.join("\n"));
}

/// The reference does not read IPv6.
fn extract_ipv4(path: &Path, profile: Profile) -> Result<Vec<Row>> {
    let mut rows = extract(path, profile)?;
    rows.retain(|row| row.id.source.is_ipv4());
    Ok(rows)
}

#[test]
fn handmade_captures_give_the_reference_rows_in_every_profile() -> Result<()> {
    let folder = fixture("handmade");
    let mut compared = 0;
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "pcap") {
            continue;
        }
        for profile in Profile::ALL {
            let csv = path.with_extension(format!("{}.csv", profile.name()));
            let mut reader = csv::Reader::from_path(&csv)?;
            let expected: Vec<Row> =
                reader.records().map(|record| Row::from_reference(record?.iter())).collect::<Result<_>>()?;
            assert_same(&expected, &extract_ipv4(&path, profile)?, &csv.display().to_string());
            compared += expected.len();
        }
    }
    assert!(compared > 1500, "only {compared} rows");
    Ok(())
}

#[test]
fn spot_values_of_the_specification_are_met() -> Result<()> {
    let tcp = extract(&fixture("handmade/tcp_basic.pcap"), Profile::Fixed)?;
    let [tcp] = &tcp[..] else { bail!("one flow expected") };
    let idle = extract(&fixture("handmade/active_idle.pcap"), Profile::Fixed)?;
    let [idle] = &idle[..] else { bail!("one flow expected") };
    for (row, name, expected) in [
        (tcp, "Total Fwd Packets", 12.0),
        (tcp, "Total Backward Packets", 10.0),
        (tcp, "Flow Duration", 4987.0),
        (tcp, "Fwd Header Length", 320.0),
        (tcp, "Bwd Header Length", 208.0),
        (tcp, "Fwd Packet Length Std", 100.047_678_027_967_65),
        (tcp, "Flow IAT Std", 271.511_071_422_072_8),
        (tcp, "Fwd Avg Bytes/Bulk", 1017.0),
        (tcp, "Fwd Avg Packets/Bulk", 6.0),
        (tcp, "Fwd Avg Bulk Rate", 963_981.042_654_028_5),
        (tcp, "Bwd Avg Bytes/Bulk", 6015.0),
        (tcp, "Bwd Avg Packets/Bulk", 6.0),
        (tcp, "Bwd Avg Bulk Rate", 8_781_021.897_810_219),
        (tcp, "Init_Win_bytes_forward", 64_240.0),
        (tcp, "Init_Win_bytes_backward", 65_160.0),
        (tcp, "act_data_pkt_fwd", 7.0),
        (tcp, "Subflow Fwd Packets", 0.0),
        (idle, "Active Mean", 5_650_000.0),
        (idle, "Active Std", 6_293_250.352_560_273),
        (idle, "Active Max", 10_100_000.0),
        (idle, "Active Min", 1_200_000.0),
        (idle, "Idle Mean", 5_500_000.5),
        (idle, "Idle Std", 707_106.074_079_766_3),
        (idle, "Idle Max", 6_000_000.0),
        (idle, "Idle Min", 5_000_001.0),
        (idle, "Subflow Fwd Packets", 3.25),
        (idle, "Subflow Fwd Bytes", 59.25),
        (idle, "Subflow Bwd Packets", 1.0),
        (idle, "Subflow Bwd Bytes", 20.0),
    ] {
        let value = column(row, name)?;
        assert!(same(value, expected, TOLERANCE), "{name} is {value}, expected {expected}");
    }
    Ok(())
}

fn column(row: &Row, name: &str) -> Result<f64> {
    let (index, _) = find(name).with_context(|| format!("no feature is called {name}"))?;
    row.values.get(index).copied().context("no such column")
}

/// A published row: its fields by column name.
type Published = BTreeMap<String, String>;

fn published(path: &Path) -> Result<Vec<Published>> {
    let mut reader = csv::Reader::from_path(path)?;
    Ok(reader.deserialize().collect::<Result<_, _>>()?)
}

fn number(row: &Published, name: &str) -> Result<f64> {
    let text = row.get(name).with_context(|| format!("no column {name}"))?;
    text.parse().with_context(|| format!("{name}: {text}"))
}

/// Compares every column that is a feature. Returns how many there were.
fn assert_columns(row: &Row, published: &Published, dialect: Dialect, tolerance: f64) -> Result<usize> {
    let mut compared = 0;
    for (feature, value) in FEATURES.iter().zip(row.values) {
        let Some(name) = feature.name_in(dialect).filter(|name| published.contains_key(*name)) else { continue };
        let expected = number(published, name)?;
        assert!(same(value, expected, tolerance), "{row}: {name} is {value}, published {expected}");
        compared += 1;
    }
    Ok(compared)
}

/// The published row of a flow of the improved dataset or of the tool behind it.
fn named_alike(row: &Row, published: &Published) -> Result<bool> {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:6]");
    let start = PrimitiveDateTime::parse(&published["Timestamp"], format)?.assume_utc();
    let start_us = u64::try_from(start.unix_timestamp_nanos() / 1000)?;
    Ok(published["Flow ID"] == row.id.to_string() && start_us == row.start_us)
}

#[test]
fn published_improved_rows_are_reproduced() -> Result<()> {
    let Some(golden) = data("golden") else { return Ok(()) };
    let rows = extract(&golden.join("WebattackSQLinj.pcap"), Profile::Cns2022)?;
    let mut matched = 0;
    for published in published(&golden.join("WebattackSQLinj.cns2022_improved_rows.csv"))? {
        for row in &rows {
            if named_alike(row, &published)? {
                assert_eq!(assert_columns(row, &published, Dialect::CicFlowMeter4, TOLERANCE)?, 77);
                matched += 1;
            }
        }
    }
    assert_eq!(matched, 9, "rows of these packets");
    Ok(())
}

#[test]
fn published_original_rows_are_reproduced() -> Result<()> {
    let Some(golden) = data("golden") else { return Ok(()) };
    let rows = extract(&golden.join("WebattackSQLinj.pcap"), Profile::Cic2017)?;
    let mut matched = 0;
    for published in published(&golden.join("WebattackSQLinj.original_2017_rows.csv"))? {
        // Addresses and times are coded numbers in this file.
        let ports = (number(&published, "Source Port")?, number(&published, "Destination Port")?);
        let duration = number(&published, "Flow Duration")?;
        for row in &rows {
            let own_ports = (f64::from(row.id.source_port), f64::from(row.id.destination_port));
            if own_ports == ports && column(row, "Flow Duration")? == duration {
                assert_eq!(assert_columns(row, &published, Dialect::MachineLearningCve, ROUNDED)?, 77);
                matched += 1;
            }
        }
    }
    assert_eq!(matched, 16, "rows of these packets");
    Ok(())
}

#[test]
fn rows_of_the_reference_tool_are_reproduced() -> Result<()> {
    let Some(golden) = data("golden") else { return Ok(()) };
    for (capture, flows) in [("nmap-ss", 4), ("ping", 0)] {
        let rows = extract(&golden.join(capture).join("dump.pcap"), Profile::Fixed)?;
        assert_eq!(rows.len(), flows, "{capture}");
        let mut matched = 0;
        for published in published(&golden.join(capture).join("cicflowmeter.csv"))? {
            for row in &rows {
                if named_alike(row, &published)? {
                    assert_eq!(assert_columns(row, &published, Dialect::CicFlowMeter4, TOLERANCE)?, 77);
                    matched += 1;
                }
            }
        }
        assert_eq!(matched, flows, "{capture}: ICMP rows have no counterpart");
    }
    Ok(())
}

/// Captures whose flows differ from the reference, and why ours are right. Must be exact: an entry that no longer
/// differs fails too.
const KNOWN_DIFFERENCES: &[(&str, &str)] = &[
    (
        "attack/scottymace__cnc4.pcap",
        "cut off inside its last packet, which the reference counts with the bytes that are left",
    ),
    (
        "benign/ntop__fuzz-2006-06-26-2594.pcap",
        "seven packets have a broken IP version or header length, which the reference does not check",
    ),
    ("protocol/the-tcpdump-group__kday3.pcap", "a packet is IP version 6 under the EtherType of version 4"),
    (
        "protocol/the-tcpdump-group__isakmp4500.pcap",
        "starts at time 0, which the reference's bulk machine takes for unset",
    ),
    (
        "protocol/the-tcpdump-group__lmp-lmp_print_data_link_subobjs-oobr.pcap",
        "time goes back by 67 days; a gap is limited to 120 s, so that sums of squares fit 64 bits",
    ),
    (
        "protocol/zeek__rfc3030-bdat-nonascii.pcap",
        "starts at time 0, which the reference's bulk machine takes for unset",
    ),
];

/// Runs the reference over all captures: a line `F` with the path for each that it can read, then its rows.
const DRIVER: &str = r#"
import os, sys
folder, reference, profile = sys.argv[1:]
sys.path.insert(0, reference)
sys.dont_write_bytecode = True
import spec_model as spec
# It passes over frames of other link types.
LINK_TYPES = (1, 12, 101, 113, 228)
P = spec.Prof(profile)
dotted = lambda address: '.'.join(map(str, address))
out = []
for top, _, names in sorted(os.walk(folder)):
    for name in sorted(names):
        path = os.path.join(top, name)
        rows = []
        def emit(f):
            if f.proto: rows.append([dotted(f.src), f.sp, dotted(f.dst), f.dp, f.proto, f.start] + f.row())
        meter = spec.Meter(P, emit)
        with open(path, 'rb') as file: header = file.read(24)
        order = 'little' if header[:1] in (b'\xd4', b'\x4d') else 'big'
        if int.from_bytes(header[20:22 if order == 'little' else 24], order) & 0xffff not in LINK_TYPES: continue
        try:
            for packet in spec.packets(path, P): meter.packet(packet)
        except Exception:
            continue
        meter.end()
        out.append('F,' + os.path.relpath(path, folder))
        out.extend('R,' + ','.join(map(repr, row)).replace("'", '') for row in rows)
print('\n'.join(out))
"#;

/// Rows of the reference by path.
fn reference(captures: &Path, profile: Profile) -> Result<BTreeMap<String, Vec<Row>>> {
    let model = captures.join("../../reference");
    let mut python = Command::new("python3")
        .arg("-")
        .arg(captures)
        .arg(&model)
        .arg(profile.name())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start python3")?;
    python.stdin.take().context("no stdin")?.write_all(DRIVER.as_bytes())?;
    let output = python.wait_with_output()?;
    ensure!(output.status.success(), "the reference failed: {}", output.status);
    let mut files = BTreeMap::new();
    let mut rows = None;
    for line in str::from_utf8(&output.stdout)?.lines() {
        match line.split_once(',') {
            Some(("F", path)) => rows = Some(files.entry(path.to_owned()).or_insert_with(Vec::new)),
            Some(("R", columns)) => {
                rows.as_mut().context("a row before its file")?.push(Row::from_reference(columns.split(','))?);
            }
            _ => bail!("the reference printed {line}"),
        }
    }
    Ok(files)
}

#[test]
fn all_captures_give_the_rows_of_the_reference_in_every_profile() -> Result<()> {
    let (Some(captures), Some(_)) = (data("captures"), data("../reference/spec_model.py")) else { return Ok(()) };
    let mut report = Vec::new();
    let mut differing = BTreeSet::new();
    let mut flows = 0;
    for profile in Profile::ALL {
        let files = reference(&captures, profile)?;
        ensure!(files.len() > 1000, "the reference read only {} captures", files.len());
        for (path, expected) in &files {
            let computed = extract_ipv4(&captures.join(path), profile).with_context(|| path.clone())?;
            flows += expected.len();
            let found = differences(expected, &computed, TOLERANCE);
            if !found.is_empty() {
                differing.insert(path.clone());
                let text = format!("{} {path}:\n  {}", profile.name(), found.join("\n  "));
                report.push((path.clone(), text));
            }
        }
    }
    eprintln!("compared {flows} flows");
    for (path, why) in KNOWN_DIFFERENCES {
        assert!(differing.remove(*path), "{path} differs no longer; remove it from the table ({why})");
    }
    report.retain(|(path, _)| differing.contains(path));
    assert!(report.is_empty(), "{}", report.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("\n"));
    Ok(())
}
