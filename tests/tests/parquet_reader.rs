//! What `--format parquet` writes, read by the program that users read it with: pandas with pyarrow.

use std::{fs, process::Command};

use anyhow::{Result, ensure};
use ml_ids_tests::{
    agent::{LIMIT, Scratch, ml_ids, run},
    cached, fixture,
};

/// The CSV as pandas reads it, against the Parquet file: names, types and values.
const COMPARE: &str = r#"
import sys
import pandas as pd, pyarrow.parquet as pq
csv, parquet = sys.argv[1:]
a = pd.read_csv(csv, parse_dates=["Timestamp"])
b = pd.read_parquet(parquet)
assert list(a.columns) == list(b.columns), (list(a.columns), list(b.columns))
assert str(b["Timestamp"].dtype).startswith("datetime64") and str(b["Timestamp"].dt.tz) == "UTC", b["Timestamp"].dtype
for name in a.columns:
    x, y = a[name], b[name]
    if name == "Label":
        assert x.isna().all() and y.isna().all()
    elif name == "Timestamp":
        assert (x.astype("int64") == y.astype("int64")).all() or (x == y).all(), name
    elif y.dtype == "int64":
        assert x.dtype == "int64", (name, x.dtype)
        assert (x == y).all(), name
    elif y.dtype == "float64":
        same = (x.astype("float64") == y) | (x.isna() & y.isna())
        assert same.all(), (name, x[~same].head(), y[~same].head())
    else:
        assert (x.astype(str) == y.astype(str)).all(), name
meta = pq.ParquetFile(parquet).metadata
print(len(b), meta.num_row_groups, meta.row_group(0).column(0).compression)
"#;

#[test]
fn pandas_reads_the_same_table_from_parquet_and_csv() -> Result<()> {
    let Some(python) = cached("venv/bin/python")? else { return Ok(()) };
    let folder = Scratch::new("parquet-reader")?;
    let capture = fixture("handmade/random.pcap").to_string_lossy().into_owned();
    for profile in ["fixed", "cns2022", "cic2017"] {
        let (csv, parquet) = (folder.path("flows.csv"), folder.path("flows.parquet"));
        for output in [&csv, &parquet] {
            ml_ids(&["extract", &capture, "--profile", profile, "-o", output], b"")?.expect(0)?;
        }
        let mut command = Command::new(&python);
        let ended = run(command.args(["-c", COMPARE, &csv, &parquet]), b"", 3 * LIMIT)?.expect(0)?;
        let rows = fs::read_to_string(&csv)?.lines().count() - 1;
        ensure!(ended.text()?.trim() == format!("{rows} 1 ZSTD"), "{profile}: {}", ended.text()?);
    }
    Ok(())
}
