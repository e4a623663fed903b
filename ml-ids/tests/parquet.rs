//! `--format parquet`: the same table as the CSV, with types, for every capture that the project makes by hand.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, ensure};
use parquet::{
    basic::{Compression, LogicalType, TimeUnit, Type},
    file::reader::{FileReader, SerializedFileReader},
    record::Field,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

fn handmade() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/handmade")
}

fn ml_ids(arguments: &[&str]) -> Result<Output> {
    let output = Command::new(env!("CARGO_BIN_EXE_ml-ids")).args(arguments).env("RUST_LOG", "error").output()?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output)
}

/// A value as the CSV writes it, and whether it is a number.
fn written(field: &Field) -> Result<(String, bool)> {
    Ok(match field {
        Field::Null => (String::new(), false),
        Field::Str(text) => (text.clone(), false),
        Field::Bool(flag) => (flag.to_string(), false),
        Field::Long(number) => (number.to_string(), true),
        Field::Double(number) => (number.to_string(), true),
        Field::TimestampMicros(time) => {
            let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(*time) * 1000)?;
            (time.format(&Rfc3339)?, false)
        }
        other => anyhow::bail!("unexpected {other:?}"),
    })
}

fn same(written: &(String, bool), csv: &str) -> bool {
    let (text, is_number) = written;
    if *is_number {
        let [own, other] = [text.as_str(), csv].map(str::parse::<f64>);
        return matches!((own, other), (Ok(a), Ok(b)) if a == b || a.is_nan() && b.is_nan());
    }
    text == csv || times_equal(text, csv)
}

fn times_equal(own: &str, csv: &str) -> bool {
    let [own, csv] = [own, csv].map(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    own.is_some() && own == csv
}

/// Compares a Parquet file with the text of a CSV. Returns the rows.
fn compare(file: &Path, csv: &[u8]) -> Result<usize> {
    let reader = SerializedFileReader::new(File::open(file)?)?;
    let mut records = csv::ReaderBuilder::new().from_reader(csv);
    let header: Vec<String> = records.headers()?.iter().map(str::to_owned).collect();
    let mut rows = 0;
    let mut typed = reader.get_row_iter(None)?;
    for record in records.records() {
        let record = record?;
        let row = typed.next().context("there are fewer rows")??;
        let columns: Vec<_> = row.get_column_iter().collect();
        let names: Vec<_> = columns.iter().map(|(name, _)| (*name).clone()).collect();
        ensure!(names == header, "the columns are {names:?}");
        for ((name, field), csv) in columns.iter().zip(&record) {
            let own = written(field)?;
            ensure!(same(&own, csv), "row {rows}, {name}: {} in Parquet, {csv} in the CSV", own.0);
            let is_whole = matches!(field, Field::Long(_));
            ensure!(!is_whole || !csv.contains(['.', 'N', 'I']), "row {rows}, {name}: {csv} as an integer");
        }
        rows += 1;
    }
    ensure!(typed.next().is_none(), "there are more rows");
    Ok(rows)
}

#[test]
fn every_handmade_capture_gives_the_csvs_values_in_every_profile() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("flows.parquet");
    let target = file.to_str().context("a path")?;
    let mut rows = 0;
    for entry in fs::read_dir(handmade())? {
        let path = entry?.path();
        if path.extension().is_none_or(|ending| ending != "pcap") {
            continue;
        }
        let capture = path.to_str().context("a path")?;
        for profile in ["fixed", "cns2022", "cic2017"] {
            let csv = ml_ids(&["extract", capture, "--all", "--profile", profile])?;
            ml_ids(&["extract", capture, "--all", "--profile", profile, "--output", target])?;
            rows += compare(&file, &csv.stdout).with_context(|| format!("{capture}, {profile}"))?;
        }
    }
    ensure!(rows > 1000, "{rows} rows prove little");
    Ok(())
}

#[test]
fn verdicts_on_captures_and_on_rows_are_the_csvs_too() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let capture = handmade().join("random.pcap").to_string_lossy().into_owned();
    let (flows, file) = (path("flows.csv"), path("verdicts.parquet"));
    ml_ids(&["extract", &capture, "-o", &flows])?;
    for input in [&capture, &flows] {
        let csv = ml_ids(&["score", input, "--format", "csv"])?;
        ml_ids(&["score", input, "-o", &file])?;
        ensure!(compare(Path::new(&file), &csv.stdout)? > 100, "{input}");
    }
    Ok(())
}

#[test]
fn columns_have_the_types_that_readers_expect() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("flows.parquet");
    let capture = handmade().join("tcp_basic.pcap").to_string_lossy().into_owned();
    ml_ids(&["extract", &capture, "-o", file.to_str().context("a path")?])?;
    let reader = SerializedFileReader::new(File::open(&file)?)?;
    let schema = reader.metadata().file_metadata().schema_descr();
    let column = |name: &str| schema.columns().iter().find(|column| column.name() == name).cloned().context("a column");
    let time = column("Timestamp")?;
    assert_eq!(time.logical_type_ref(), Some(&LogicalType::timestamp(true, TimeUnit::MICROS)));
    for (name, physical) in [
        ("Src Port", Type::INT64),
        ("Destination Port", Type::INT64),
        ("Flow Duration", Type::INT64),
        ("Flow Bytes/s", Type::DOUBLE),
        ("Flow IAT Max", Type::DOUBLE),
        ("Idle Min", Type::INT64),
    ] {
        assert_eq!(column(name)?.physical_type(), physical, "{name}");
    }
    let group = reader.metadata().row_group(0);
    assert!(group.columns().iter().all(|column| matches!(column.compression(), Compression::ZSTD(_))));
    Ok(())
}

#[test]
fn standard_output_takes_parquet_and_a_reader_that_leaves_early_is_no_error() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("flows.parquet");
    let capture = handmade().join("random.pcap").to_string_lossy().into_owned();
    let output = ml_ids(&["extract", &capture, "--format", "parquet"])?;
    fs::write(&file, &output.stdout)?;
    compare(&file, &ml_ids(&["extract", &capture])?.stdout)?;
    let mut child = Command::new(env!("CARGO_BIN_EXE_ml-ids"))
        .args(["extract", &capture, "--format", "parquet"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    drop(child.stdout.take());
    let ended = child.wait_with_output()?;
    assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()), (Some(0), ""));
    Ok(())
}

#[test]
fn a_capture_without_flows_and_a_cut_one_give_whole_files_and_one_that_is_none_leaves_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let [input, file] = ["in.pcap", "flows.parquet"].map(|name| folder.path().join(name));
    let extract =
        || Command::new(env!("CARGO_BIN_EXE_ml-ids")).arg("extract").arg(&input).arg("-o").arg(&file).output();
    let capture = fs::read(handmade().join("tcp_basic.pcap"))?;
    for (length, code, rows) in [(24, 0, 0), (capture.len() - 1, 3, 1)] {
        fs::write(&input, &capture[..length])?;
        assert_eq!(extract()?.status.code(), Some(code));
        assert_eq!(SerializedFileReader::new(File::open(&file)?)?.metadata().file_metadata().num_rows(), rows);
        fs::remove_file(&file)?;
    }
    fs::write(&input, "no capture")?;
    assert_eq!(extract()?.status.code(), Some(3));
    assert_eq!(fs::read_dir(folder.path())?.count(), 1);
    Ok(())
}
