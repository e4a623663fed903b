//! Bodies of `/predict`: JSON in all its shapes, and lines of it. What is taken has finite numbers only, and within the limit.

use ml_ids::api::{TimeUnit, rows_of_json, rows_of_lines};

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "predict",
    about: "bodies of /predict, as JSON and as lines",
    run,
    longest: 8192,
    words: &[
        b"\"Flow Duration\"",
        b"\"flow_duration\"",
        b"\"Fwd Header Length\"",
        b"\"features\":",
        b"\"flows\":[",
        b"\"columns\":[",
        b"\"data\":[",
        b"\"src_ip\":\"1\"",
        b"1e308",
        b"-1e-400",
        b"NaN",
        b"null",
        b"\\ud800",
        b"[[[[[[[[",
        b"{\"a\":{\"a\":",
        b"\xef\xbb\xbf",
        b"9007199254740993",
    ],
    seeds: &[],
};

/// Rows that a body may hold.
const ROWS: usize = 16;

fn run(data: &[u8]) {
    for unit in [TimeUnit::Auto, TimeUnit::S, TimeUnit::Us] {
        match rows_of_json(data, ROWS, unit) {
            Ok(rows) => {
                assert!(rows.len() <= ROWS, "{} rows passed a limit of {ROWS}", rows.len());
                assert!(rows.iter().flatten().all(|value| value.is_finite()), "a number that is none was taken");
            }
            Err(told) => assert!(told.starts_with('{') && told.len() > 2, "the client is told nothing: {told:?}"),
        }
    }
    let lines = rows_of_lines(data, TimeUnit::Auto);
    let expected = data.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).count();
    assert_eq!(lines.len(), expected, "a line has no answer, or one too many");
    for row in lines.into_iter().flatten() {
        assert!(row.iter().all(|value| value.is_finite()), "a number that is none was taken");
    }
}
