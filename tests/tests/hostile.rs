//! Whatever the `ml-ids` binary is given, it ends in time with an exit code and a message, and never by a panic or a
//! signal. What clients of its server send is in `hostile_clients.rs`.

use std::{
    fs::{self, File},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use ml_ids::features::FEATURES;
use ml_ids_tests::{
    agent::{Ended, LIMIT, Scratch, ml_ids, run},
    binary, default_model, fixture,
};
use serde_json::Value;

/// Requires that a command was refused as bad input, in one of the ways to say so.
fn refused(what: &str, ended: Result<Ended>) -> Result<Ended> {
    let ended = ended.and_then(|ended| ended.expect(3)).with_context(|| what.to_owned())?;
    ensure!(!ended.stderr.trim().is_empty(), "{what}: refused without a message");
    Ok(ended)
}

/// Packed as gzip does it.
fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    Ok(run(Command::new("gzip").arg("-c"), bytes, LIMIT)?.expect(0)?.stdout)
}

/// Files that are neither captures nor models nor CSVs.
fn foreign_files(scratch: &Scratch) -> Result<Vec<String>> {
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x04\0\0\0\x04\0\x08\x06\0\0\0".repeat(20);
    let noise: Vec<u8> = (0..100_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let cut_gzip = gzip(&noise)?;
    let cut_gzip = cut_gzip.get(..cut_gzip.len() / 2).context("gzip made nothing")?;
    Ok(vec![
        scratch.file("empty", "")?,
        scratch.file("one_byte", "\0")?,
        scratch.file("garbage", &noise)?,
        scratch.file("image.png", png)?,
        scratch.file("cut.gz", cut_gzip)?,
        scratch.file("cut.zst", b"\x28\xb5\x2f\xfd\xff\xff\xff")?,
        scratch.file("gzip_magic_only", b"\x1f\x8b")?,
        scratch.file("zeros", vec![0; 1 << 20])?,
        scratch.file("pcap_magic_only", b"\xd4\xc3\xb2\xa1")?,
        scratch.file("text", "This is not what it is taken for.\n".repeat(1000))?,
        binary()?.to_string_lossy().into_owned(),
        scratch.path("missing"),
        "/".to_owned(),
    ])
}

#[test]
fn foreign_files_are_refused_as_capture_rows_and_model() -> Result<()> {
    let scratch = Scratch::new("foreign")?;
    let capture = fixture("handmade/tcp_basic.pcap");
    let capture = capture.to_string_lossy();
    for path in foreign_files(&scratch)? {
        refused(&format!("extract {path}"), ml_ids(&["extract", &path], b""))?;
        refused(&format!("score {path}"), ml_ids(&["score", &path], b""))?;
        refused(&format!("model inspect {path}"), ml_ids(&["model", "inspect", &path], b""))?;
        refused(&format!("score --model {path}"), ml_ids(&["score", "--model", &path, &capture], b""))?;
    }
    let model = default_model();
    refused("extract a model", ml_ids(&["extract", &model.to_string_lossy()], b""))?;
    refused("a capture as a model", ml_ids(&["model", "inspect", &capture], b""))?;
    refused("a device as a model", ml_ids(&["model", "inspect", "/dev/zero"], b""))?;
    refused("standard input that is empty", ml_ids(&["extract", "-"], b""))?;
    let mut serve = Command::new(binary()?);
    serve.args(["serve", "--listen", "127.0.0.1:0", "--model", &scratch.path("garbage")]);
    refused("serve with garbage", run(&mut serve, b"", LIMIT))?;
    Ok(())
}

/// 256 MiB of zeros in a quarter of a MiB, behind what makes them a capture, rows, or nothing: read in bounded memory.
#[test]
fn packed_bombs_are_read_in_bounded_memory() -> Result<()> {
    let scratch = Scratch::new("bombs")?;
    let zeros = vec![0; 64 << 20];
    let packed = gzip(&zeros)?;
    ensure!(packed.len() < zeros.len() / 900, "{} bytes are no bomb", packed.len());
    let nothing = scratch.file("zeros.gz", packed.repeat(4))?;
    let mut capture = gzip(&fs::read(fixture("handmade/tcp_basic.pcap"))?)?;
    capture.extend_from_slice(&packed.repeat(4));
    let capture = scratch.file("capture.pcap.gz", capture)?;
    let mut rows = gzip(row_csv(&["1"; 78]).as_bytes())?;
    rows.extend_from_slice(&packed.repeat(4));
    let rows = scratch.file("rows.csv.gz", rows)?;
    for arguments in [["extract", &nothing], ["score", &nothing], ["score", &rows], ["extract", &capture]] {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -v 786432; exec \"$@\"", "sh"]).arg(binary()?).args(arguments);
        let ended = run(&mut command, b"", 3 * LIMIT).with_context(|| format!("{arguments:?}"))?;
        ended.in_order()?;
        // Zeros behind a capture are millions of empty packets; everywhere else they are no input.
        let codes: &[i32] = if arguments[1] == capture { &[0, 3] } else { &[3] };
        ensure!(ended.code.is_some_and(|code| codes.contains(&code)), "{arguments:?}: {ended:?}");
        ensure!(!ended.stderr.is_empty(), "{arguments:?}: no message");
    }
    Ok(())
}

#[test]
fn cut_captures_yield_what_can_be_read() -> Result<()> {
    let scratch = Scratch::new("cut")?;
    let whole = fs::read(fixture("handmade/random.pcap"))?;
    let expected = ml_ids(&["extract", "-"], &whole)?.expect(0)?;
    let expected = expected.text()?.lines().count();
    let mut most = 0;
    for cut in [1, 4, 23, 24, 25, 39, 40, 41, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
        let path = scratch.file("cut.pcap", &whole[..cut])?;
        for command in ["extract", "score"] {
            let ended = ml_ids(&[command, &path], b"")?;
            ended.in_order().with_context(|| format!("{command}, {cut} bytes"))?;
            // A cut between packets cannot be seen.
            let clean = cut == 24;
            ensure!(ended.code == Some(if clean { 0 } else { 3 }), "{command}, {cut} bytes: {ended:?}");
            ensure!(!ended.stderr.is_empty(), "{command}, {cut} bytes: no message");
            most = most.max(ended.text()?.lines().count());
        }
    }
    ensure!(most > expected / 2, "{most} lines of a capture that lacks one byte, {expected} of the whole");
    Ok(())
}

/// Loads a model in every way that takes one. It is refused with a message, or it loads.
fn load(what: &str, path: &str) -> Result<bool> {
    let begun = Instant::now();
    let ended = ml_ids(&["model", "inspect", path], b"")?;
    ended.in_order().with_context(|| what.to_owned())?;
    ensure!(begun.elapsed() < LIMIT, "{what}: {:?}", begun.elapsed());
    match ended.code {
        Some(0) => Ok(true),
        Some(3) if ended.stderr.contains("is refused: ") => Ok(false),
        _ => anyhow::bail!("{what}: {ended:?}"),
    }
}

#[test]
fn cut_models_are_refused() -> Result<()> {
    let scratch = Scratch::new("cut-models")?;
    let whole = fs::read(default_model())?;
    let step = whole.len() / 40;
    let cuts = (0..64).chain((1..40).map(|part| part * step)).chain(whole.len() - 16..whole.len());
    for cut in cuts {
        let path = scratch.file("cut.onnx", &whole[..cut])?;
        ensure!(!load(&format!("{cut} bytes"), &path)?, "{cut} of {} bytes are loaded", whole.len());
    }
    Ok(())
}

/// A flipped bit in a threshold or a weight makes another model, elsewhere it makes a broken file. Neither may harm:
/// what loads must also score.
#[test]
fn models_with_a_flipped_bit_are_refused_or_work() -> Result<()> {
    let scratch = Scratch::new("flipped")?;
    let capture = fixture("handmade/random.pcap");
    let capture = capture.to_string_lossy();
    let whole = fs::read(default_model())?;
    let ends = (0..60).chain(whole.len() - 60..whole.len());
    let spread = (0..240_usize).map(|number| number.wrapping_mul(2_654_435_761) % whole.len());
    let (mut loaded, mut broken) = (0, 0);
    for (number, at) in ends.chain(spread).enumerate() {
        let mut model = whole.clone();
        model[at] ^= 1 << (number % 8);
        let path = scratch.file("flipped.onnx", &model)?;
        let what = format!("bit {} of byte {at}", number % 8);
        if !load(&what, &path)? {
            broken += 1;
            continue;
        }
        loaded += 1;
        let ended = ml_ids(&["score", "--model", &path, &capture], b"").and_then(|ended| ended.expect(0));
        let ended = ended.with_context(|| what.clone())?;
        for line in ended.text()?.lines() {
            let flow: Value = serde_json::from_str(line).with_context(|| format!("{what}: {line}"))?;
            let probability = flow["Probability"].as_f64();
            ensure!(probability.is_some_and(|value| (0.0..=1.001).contains(&value)), "{what}: {line}");
        }
    }
    println!("{loaded} flipped models load, {broken} are refused");
    ensure!(loaded > 0 && broken > 0, "{loaded} load, {broken} are refused: one kind is not tested");
    Ok(())
}

/// A CSV of all features with one row.
fn row_csv(values: &[&str]) -> String {
    let header: Vec<&str> = FEATURES.iter().map(|feature| feature.name).collect();
    format!("{}\n{}\n", header.join(","), values.join(","))
}

#[test]
fn csv_of_other_tools_is_scored() -> Result<()> {
    let plain = row_csv(&["1"; 78]);
    let expected = ml_ids(&["score", "-"], plain.as_bytes())?.expect(0)?;
    ensure!(expected.text()?.lines().count() == 1, "{expected:?}");
    for (what, csv) in [
        ("byte order mark", format!("\u{feff}{plain}")),
        ("CRLF", plain.replace('\n', "\r\n")),
        ("byte order mark and CRLF", format!("\u{feff}{}", plain.replace('\n', "\r\n"))),
        ("no line feed at the end", plain.trim_end().to_owned()),
        ("blanks before the names", plain.replace(',', ", ")),
        ("quotes", plain.replace("Flow Duration", "\"Flow Duration\"")),
    ] {
        let scored = ml_ids(&["score", "-"], csv.as_bytes())?.expect(0).context(what)?;
        ensure!(scored.text()? == expected.text()?, "{what}: {}", scored.text()?);
    }
    let infinite: Vec<&str> = (0..78).map(|column| ["NaN", "Infinity", "-Infinity", "1"][column % 4]).collect();
    let scored = ml_ids(&["score", "-"], row_csv(&infinite).as_bytes())?.expect(0)?;
    let verdict: Value = serde_json::from_str(scored.text()?)?;
    ensure!(verdict["probability"].is_number(), "{verdict}");
    Ok(())
}

#[test]
fn broken_csv_is_reported_and_what_can_be_scored_is() -> Result<()> {
    let good = row_csv(&["1"; 78]);
    let row = good.lines().nth(1).context("a row")?;
    let long = "9".repeat(2 << 20);
    for (what, csv, verdicts) in [
        ("too few columns", format!("{good}1,2,3\n{row}\n"), 2),
        ("too many columns", format!("{good}{row},1\n{row}\n"), 2),
        ("text for a number", format!("{good}{}\n{row}\n", row.replacen('1', "eleven", 1)), 2),
        ("an empty field", format!("{good}{}\n{row}\n", row.replacen('1', "", 1)), 2),
        ("bytes that are no text", format!("{good}{}\n{row}\n", row.replacen('1', "\0\u{7f}", 1)), 2),
        ("a line of 2 MiB", format!("{good}{long}\n"), 1),
        ("an open quote", format!("{good}\"{}", format!("{row}\n").repeat(20_000)), 1),
        ("a header of 2 MiB", long.clone(), 0),
        ("features missing", "Flow Duration,Total Fwd Packets\n1,2\n".to_owned(), 0),
        ("one feature missing", good.replace("Flow Duration", "Flow Endurance"), 0),
        ("a feature twice", good.replace("Flow IAT Mean", "Flow Duration"), 0),
        ("no header", format!("{row}\n"), 0),
        ("no column known", "a,b\n1,2\n".to_owned(), 0),
    ] {
        let ended = refused(what, ml_ids(&["score", "-"], csv.as_bytes()))?;
        let lines = ended.text()?.lines().count();
        ensure!(lines == verdicts, "{what}: {lines} verdicts instead of {verdicts}: {}", ended.stderr);
        ensure!(ended.stderr.len() < 10_000, "{what}: a message of {} bytes", ended.stderr.len());
    }
    Ok(())
}

#[test]
fn output_that_cannot_be_written_is_a_failure_that_is_named() -> Result<()> {
    let scratch = Scratch::new("output")?;
    let capture = fixture("handmade/random.pcap");
    let capture = capture.to_string_lossy();
    let csv = scratch.file("rows.csv", row_csv(&["1"; 78]))?;
    for input in [&*capture, &csv] {
        let commands: &[&str] = if input == csv { &["score"] } else { &["extract", "score"] };
        for command in commands {
            for output in ["/dev/full", "/nonexistent/rows.csv", "/"] {
                let ended = ml_ids(&[command, input, "-o", output], b"")?.expect(1);
                let ended = ended.with_context(|| format!("{command} {input} -o {output}"))?;
                ensure!(ended.stderr.starts_with("error: "), "{command} {input} -o {output}: {}", ended.stderr);
            }
            let full = File::options().write(true).open("/dev/full")?;
            let ended = Command::new(binary()?).args([command, input]).stdout(full).output()?;
            ensure!(
                ended.status.code() == Some(1) && !ended.stderr.is_empty(),
                "{command} to a full device: {ended:?}"
            );
        }
    }
    let full = File::options().write(true).open("/dev/full")?;
    let ended = Command::new(binary()?).args(["model", "inspect", "embedded"]).stdout(full).output()?;
    ensure!(ended.status.code() == Some(1) && !ended.stderr.is_empty(), "model inspect: {ended:?}");
    Ok(())
}

#[test]
fn input_is_never_overwritten_by_its_own_output() -> Result<()> {
    let scratch = Scratch::new("same-file")?;
    let bytes = fs::read(fixture("handmade/tcp_basic.pcap"))?;
    let capture = scratch.file("capture.pcap", &bytes)?;
    let alias = scratch.path("alias.pcap");
    std::os::unix::fs::symlink(&capture, &alias)?;
    for command in ["extract", "score"] {
        for output in [&capture, &alias] {
            let ended = ml_ids(&[command, &capture, "-o", output], b"")?.expect(1)?;
            ensure!(ended.stderr.contains("same file"), "{}", ended.stderr);
            ensure!(fs::read(&capture)? == bytes, "{command} has changed its input");
        }
    }
    Ok(())
}

#[test]
fn reader_that_has_seen_enough_is_no_failure() -> Result<()> {
    let capture = fixture("handmade/random.pcap");
    let capture = capture.to_string_lossy();
    for arguments in [["extract", &capture], ["score", &capture], ["model", "inspect"]] {
        let mut command = Command::new(binary()?);
        command.args(arguments);
        if arguments[0] == "model" {
            command.arg("embedded");
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        drop(child.stdout.take());
        let ended = child.wait_with_output()?;
        ensure!(ended.status.code() == Some(0), "{arguments:?}: {ended:?}");
    }
    Ok(())
}

#[test]
fn wrong_usage_is_told_apart_from_bad_input() -> Result<()> {
    for arguments in [
        &["serve", "--listen", "0.0.0.0:0"][..],
        &["serve", "--listen", "[::]:0"],
        &["serve", "--listen", "127.0.0.1"],
        &["serve", "--listen", "127.0.0.1:99999"],
        &["serve", "--unknown"],
        &["run", "-i", "no-such-interface", "--listen", "127.0.0.1:0"],
        &["run", "--max-flows", "0"],
        &["run", "--linger", "NaN"],
        &["extract"],
        &["extract", "--profile", "other", "x.pcap"],
        &["score", "--format", "xml", "x.pcap"],
        &["score", "--model", "", "x.pcap"],
        &["score", "--model", "mlflow:ids@", "x.pcap"],
        &["serve", "--model", "s3://bucket"],
        &["model", "inspect", "https://"],
        &["model", "inspect"],
        &["unknown"],
        &[],
    ] {
        let ended =
            ml_ids(arguments, b"").and_then(|ended| ended.expect(2)).with_context(|| format!("{arguments:?}"))?;
        ensure!(!ended.stderr.trim().is_empty(), "{arguments:?}: no message");
        if arguments.iter().any(|argument| argument.contains(":/") || argument.contains("mlflow:")) {
            ensure!(ended.stderr.contains("write "), "{arguments:?}: {}", ended.stderr);
        }
        if arguments.iter().any(|argument| argument.ends_with(":0") && !argument.starts_with("127")) {
            ensure!(ended.stderr.contains("--insecure-listen"), "{arguments:?}: {}", ended.stderr);
        }
    }
    Ok(())
}

/// Compose files and unit files leave variables empty that nobody has set.
#[test]
fn empty_variables_count_as_not_set() -> Result<()> {
    let mut command = Command::new(binary()?);
    command.args(["run", "-i", "no-such-interface", "--listen", "127.0.0.1:0"]);
    for name in ["CIC_INTERFACE", "LOG_DIR", "LOG_NEGATIVE_PREDICTIONS", "ML_IDS_LISTEN", "ML_IDS_MODEL"] {
        command.env(name, "");
    }
    let ended = run(&mut command, b"", LIMIT)?.expect(2)?;
    ensure!(ended.stderr.contains("no-such-interface"), "{}", ended.stderr);
    for value in ["1", "0", "true", "True", "no"] {
        let ended = run(command.env("LOG_NEGATIVE_PREDICTIONS", value), b"", LIMIT)?.expect(2)?;
        ensure!(ended.stderr.contains("no-such-interface"), "{value}: {}", ended.stderr);
    }
    Ok(())
}
