//! `ml-ids extract` as a user meets it: streams, exit codes, messages.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/handmade").join(name)
}

fn extract() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ml-ids"));
    command.arg("extract");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Exit code and standard error.
fn outcome(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), text(&output.stderr))
}

fn with_input(command: &mut Command, input: &[u8]) -> Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    // Beside the reading of the output, which may be more than a pipe holds.
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A command that has seen enough of its input is right to leave the rest.
            let _ = stdin.write_all(input);
        });
        Ok(child.wait_with_output()?)
    })
}

#[test]
fn packed_captures_from_standard_input_give_the_rows_of_the_plain_file() -> Result<()> {
    let path = fixture("tcp_basic.pcap");
    let plain = extract().arg(&path).output()?;
    assert_eq!(outcome(&plain), (Some(0), "22 packets, 1 flows, 1 rows, 0 packets skipped\n".to_owned()));
    let csv = text(&plain.stdout);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("Flow ID,Src IP,Src Port,Dst IP,Dst Port,Protocol,Timestamp,Destination Port,Flow D"));
    assert!(lines[0].contains(",Avg Bwd Segment Size,Fwd Header Length.1,Fwd Avg Bytes/Bulk,"));
    assert!(lines[0].ends_with(",Idle Max,Idle Min,Label"));
    assert!(lines[1].starts_with(
        "10.0.0.1-10.0.0.2-1111-80-6,10.0.0.1,1111,10.0.0.2,80,6,2023-11-14T22:13:20.000000Z,80,4987,12,10,1117,6015,"
    ));
    assert_eq!(lines[1].split(',').count(), 7 + 78 + 1);
    let capture = fs::read(&path)?;
    for input in [capture.clone(), zstd::encode_all(&capture[..], 1)?] {
        let output = with_input(extract().arg("-"), &input)?;
        assert_eq!(text(&output.stdout), csv);
    }
    Ok(())
}

#[test]
fn json_lines_hold_the_same_values_and_words_for_what_json_cannot_say() -> Result<()> {
    let output =
        extract().args(["--format", "jsonl", "--profile", "cns2022"]).arg(fixture("zero_dur.pcap")).output()?;
    assert_eq!(output.status.code(), Some(0));
    let rows: Vec<serde_json::Value> =
        text(&output.stdout).lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert!(!rows.is_empty());
    for row in &rows {
        assert_eq!(row.as_object().map(serde_json::Map::len), Some(7 + 78 + 1), "{row}");
        assert_eq!(row["Flow Packets/s"], "Infinity", "{row}");
        assert!(row["Flow Duration"].is_u64() && row["Src Port"].is_u64(), "{row}");
    }
    Ok(())
}

#[test]
fn other_protocols_are_written_on_demand() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // An ICMP packet in a raw IP capture.
    let mut capture = [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 101, 0, 0, 0].to_vec();
    capture.extend([1, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 20, 0, 0, 0]);
    capture.extend([0x45, 0, 0, 20, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    let path = folder.path().join("icmp.pcap");
    fs::write(&path, capture)?;
    let output = extract().arg(&path).output()?;
    assert_eq!(outcome(&output), (Some(0), "1 packets, 1 flows, 0 rows, 0 packets skipped\n".to_owned()));
    let output = extract().arg("--all").arg(&path).output()?;
    assert!(
        text(&output.stdout).contains("\n10.0.0.1-10.0.0.2-0-0-0,10.0.0.1,0,10.0.0.2,0,0,1970-01-01T00:00:01.000000Z,")
    );
    Ok(())
}

#[test]
fn tunnels_are_looked_into_on_demand() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // UDP in IPv4 in IPv4, in a raw IP capture.
    let mut capture = [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 101, 0, 0, 0].to_vec();
    capture.extend([1, 0, 0, 0, 0, 0, 0, 0, 50, 0, 0, 0, 50, 0, 0, 0]);
    capture.extend([0x45, 0, 0, 50, 0, 0, 0, 0, 64, 4, 0, 0, 10, 1, 0, 1, 10, 1, 0, 2]);
    capture.extend([0x45, 0, 0, 30, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    capture.extend([0, 7, 0, 53, 0, 10, 0, 0, b'h', b'i']);
    let path = folder.path().join("ipip.pcap");
    fs::write(&path, capture)?;
    for decap in ["vxlan,ipip", "all"] {
        let output = extract().args(["--decap", decap]).arg(&path).output()?;
        assert_eq!(outcome(&output), (Some(0), "1 packets, 1 flows, 1 rows, 0 packets skipped\n".to_owned()));
        assert!(text(&output.stdout).contains("\n10.0.0.1-10.0.0.2-7-53-17,"), "{decap}");
    }
    for decap in [&[][..], &["--decap", "vxlan,gre"]] {
        let output = extract().args(decap).arg("--all").arg(&path).output()?;
        assert!(text(&output.stdout).contains("\n10.1.0.1-10.1.0.2-0-0-0,"), "{decap:?}");
    }
    let output = extract().args(["--decap", "l2tp"]).arg(&path).output()?;
    assert_eq!(output.status.code(), Some(2));
    Ok(())
}

#[test]
fn a_cut_capture_is_processed_as_far_as_it_goes_and_reported() -> Result<()> {
    let mut capture = fs::read(fixture("tcp_basic.pcap"))?;
    capture.truncate(capture.len() - 1);
    let output = with_input(extract().arg("-"), &capture)?;
    let (code, errors) = outcome(&output);
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("21 packets, 1 flows, 1 rows"), "{errors}");
    assert!(errors.contains("error: standard input: the capture ends inside a packet"), "{errors}");
    assert_eq!(text(&output.stdout).lines().count(), 2);
    Ok(())
}

#[test]
fn unreadable_input_is_3_and_leaves_an_existing_output_alone() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (input, output) = (folder.path().join("no.pcap"), folder.path().join("out.csv"));
    fs::write(&output, "precious")?;
    let missing = extract().arg(&input).arg("-o").arg(&output).output()?;
    assert_eq!(missing.status.code(), Some(3));
    fs::write(&input, "no capture")?;
    let foreign = extract().arg(&input).arg("-o").arg(&output).output()?;
    let (code, errors) = outcome(&foreign);
    assert_eq!(code, Some(3));
    assert!(errors.contains("not a capture"), "{errors}");
    assert_eq!(fs::read_to_string(&output)?, "precious");
    Ok(())
}

#[test]
fn output_over_the_input_is_refused_by_any_name() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (input, other_name) = (folder.path().join("in.pcap"), folder.path().join("link.pcap"));
    let capture = fs::read(fixture("rst.pcap"))?;
    fs::write(&input, &capture)?;
    fs::hard_link(&input, &other_name)?;
    let by_link = extract().arg(&input).arg("-o").arg(&other_name).output()?;
    let appending = fs::OpenOptions::new().append(true).open(&input)?;
    let by_shell = extract().arg(&input).stdout(appending).output()?;
    for output in [by_link, by_shell] {
        let (code, errors) = outcome(&output);
        assert_eq!(code, Some(1), "{errors}");
        assert!(errors.contains("same file"), "{errors}");
    }
    assert_eq!(fs::read(&input)?, capture);
    Ok(())
}

#[test]
fn output_that_cannot_be_written_is_1_and_wrong_usage_is_2() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let output = extract().arg(fixture("rst.pcap")).arg("-o").arg(folder.path()).output()?;
    assert_eq!(output.status.code(), Some(1));
    let full = fs::OpenOptions::new().write(true).open("/dev/full")?;
    let (code, errors) = outcome(&extract().arg(fixture("rst.pcap")).stdout(full).output()?);
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("cannot write to standard output"), "{errors}");
    let output = extract().args(["--profile", "2017"]).arg(fixture("rst.pcap")).output()?;
    assert_eq!(output.status.code(), Some(2));
    Ok(())
}

#[test]
fn a_reader_that_leaves_early_is_no_error() -> Result<()> {
    let mut child = extract().arg(fixture("random.pcap")).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    drop(child.stdout.take());
    let output = child.wait_with_output()?;
    assert_eq!(outcome(&output), (Some(0), String::new()));
    Ok(())
}

/// The frames of a little-endian pcap again and again, each time an hour later.
fn repeated(capture: &[u8], times: u32) -> Vec<u8> {
    let (header, frames) = capture.split_at(24);
    let mut file = header.to_vec();
    for hours in 0..times {
        let mut rest = frames;
        while let Some((frame, data)) = rest.split_first_chunk::<16>() {
            let seconds = u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]) + 3600 * hours;
            let length = u32::from_le_bytes([frame[8], frame[9], frame[10], frame[11]]) as usize;
            file.extend(seconds.to_le_bytes());
            file.extend(&frame[4..]);
            file.extend(&data[..length]);
            rest = &data[length..];
        }
    }
    file
}

/// A frame of `length` bytes that says nothing, with a header that claims `claimed`.
fn frame(length: usize, claimed: u32) -> Vec<u8> {
    let mut frame = vec![0; 16 + length];
    frame[8..12].copy_from_slice(&claimed.to_le_bytes());
    frame
}

/// A pcapng with the frames of a pcap and, after every 50th, a block that contradicts itself.
fn as_pcapng(capture: &[u8]) -> Vec<u8> {
    let block = |kind: u32, body: &[u8]| {
        let length = (12 + body.len().next_multiple_of(4)) as u32;
        let mut block = [kind.to_le_bytes(), length.to_le_bytes()].concat();
        block.extend(body);
        block.resize(length as usize - 4, 0);
        block.extend(length.to_le_bytes());
        block
    };
    let mut file = block(0x0a0d_0d0a, &[0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
    file.extend(block(1, &[1, 0, 0, 0, 0, 0, 0, 0]));
    let (mut rest, mut count) = (&capture[24..], 0);
    while let Some((frame, data)) = rest.split_first_chunk::<16>() {
        let word = |at: usize| u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
        let time = u64::from(word(0)) * 1_000_000 + u64::from(word(4));
        let head = [0, (time >> 32) as u32, time as u32, word(8), word(12)].map(u32::to_le_bytes).concat();
        file.extend(block(6, &[&head, &data[..word(8) as usize]].concat()));
        rest = &data[word(8) as usize..];
        count += 1;
        if count % 50 == 0 {
            file.extend(block(6, &[9; 20]));
        }
    }
    file
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

#[test]
fn any_number_of_jobs_writes_the_same_bytes() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let random = fs::read(fixture("random.pcap"))?;
    let long = repeated(&random, 4);
    let cut = long[..long.len() - 1].to_vec();
    let huge_frame = [&random[..], &frame(3 << 20, 3 << 20), &random[24..]].concat();
    let oversized = [&long[..], &frame(0, u32::MAX), &random[24..]].concat();
    let zstd = zstd::encode_all(&long[..], 1)?;
    let mut broken_zstd = zstd.clone();
    broken_zstd[zstd.len() / 2] ^= 0xff;
    let mut cut_gzip = gzip(&long)?;
    cut_gzip.truncate(cut_gzip.len() / 2);
    let captures = [
        ("random", random.clone()),
        ("timeout", fs::read(fixture("timeout.pcap"))?),
        ("nothing", random[..24].to_vec()),
        ("cut", cut),
        ("huge frame", huge_frame),
        ("oversized", oversized),
        ("pcapng", as_pcapng(&long)),
        ("gzip", gzip(&long)?),
        ("cut gzip", cut_gzip),
        ("zstd", zstd),
        ("broken zstd", broken_zstd),
    ];
    for (name, capture) in captures {
        let path = folder.path().join(name);
        fs::write(&path, &capture)?;
        for arguments in [&["--profile", "fixed"][..], &["--profile", "cns2022", "--all"], &["--profile", "cic2017"]] {
            let run = |jobs: &str, from_pipe: bool| {
                let mut command = extract();
                command.args(arguments).args(["--jobs", jobs]);
                let output = match from_pipe {
                    true => with_input(command.arg("-"), &capture)?,
                    false => command.arg(&path).output()?,
                };
                let errors = text(&output.stderr).replace(&path.display().to_string(), "standard input");
                anyhow::Ok((output.status.code(), errors, output.stdout))
            };
            let expected = run("1", false)?;
            for (jobs, from_pipe) in [("2", false), ("7", false), ("0", false), ("1", true), ("2", true)] {
                let (code, errors, rows) = run(jobs, from_pipe)?;
                let what = format!("{name} {arguments:?} --jobs {jobs}, from a pipe: {from_pipe}");
                assert_eq!((code, &errors), (expected.0, &expected.1), "{what}");
                assert!(rows == expected.2, "{what}: other rows");
            }
        }
    }
    Ok(())
}

#[test]
fn a_number_of_jobs_that_is_none_is_wrong_usage() -> Result<()> {
    for jobs in ["-1", "many", "257"] {
        let output = extract().args([&format!("--jobs={jobs}")]).arg(fixture("rst.pcap")).output()?;
        assert_eq!(output.status.code(), Some(2), "{jobs}");
    }
    Ok(())
}
