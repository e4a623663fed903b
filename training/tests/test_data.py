"""Reading: header spellings, labels, times, and files that must be refused."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest
from conftest import run_train
from flows import made_up, write_cns2022, write_generated, write_mlcve

from ml_ids_training.data import clean_label, drop_duplicates, find_files, parse_times, read_flows
from ml_ids_training.errors import UnreadableInput, WrongUsage
from ml_ids_training.features import NAMES


def test_cns2022_header_gives_78_columns_and_fills_the_repeated_one(tmp_path):
    values, labels = made_up(3)
    flows = read_flows([str(write_cns2022(tmp_path / "a.csv", values, labels))], "cns2022")
    np.testing.assert_array_equal(flows.values, values)
    assert list(flows.labels) == labels and flows.times is not None


def test_mlcve_header_with_blanks_and_repeated_column_is_read_exactly(tmp_path):
    values, labels = made_up(3)
    values[:, 55] = values[:, 34] + 1  # told apart by place, not by name
    flows = read_flows([str(write_mlcve(tmp_path / "a.csv", values, labels))], "cic2017")
    np.testing.assert_array_equal(flows.values, values)
    assert set(flows.labels) == set(labels), "the Windows dash becomes a hyphen"
    assert flows.times is None


def test_mlcve_header_after_pandas_or_without_the_repeated_column(tmp_path):
    values, labels = made_up(2)
    frame = pd.DataFrame(values, columns=list(NAMES))
    frame["Label"] = labels
    frame.to_csv(tmp_path / "pandas.csv", index=False)
    frame.drop(columns="Fwd Header Length.1").to_csv(tmp_path / "without.csv", index=False)
    for name in ("pandas.csv", "without.csv"):
        np.testing.assert_array_equal(read_flows([str(tmp_path / name)], "cic2017").values, values)


def test_generated_labelled_flows_afternoon_follows_morning(tmp_path):
    values, labels = made_up(1)
    times = ["3/7/2017 2:10", "3/7/2017 9:05", "03/07/2017 11:59:58", "3/7/2017 1:00"]
    flows = read_flows([str(write_generated(tmp_path / "a.csv", values, labels, times))], "cic2017")
    assert list(flows.labels) == [labels[i] for i in (1, 2, 3, 0)]


def test_am_and_pm_are_believed():
    times = parse_times(pd.Series(["03/07/2017 02:00:00 AM", "03/07/2017 01:00:00 PM"]), "x")
    assert times[1] - times[0] == 11 * 3600 * 10**9


def test_coded_times_count_as_no_times(tmp_path):
    values, labels = made_up(1)
    path = write_generated(tmp_path / "a.csv", values, labels, ["40", "41", "42", "43"])
    assert read_flows([str(path)], "cic2017").times is None


def test_gzip_and_folders_are_read(tmp_path):
    plain = write_cns2022(tmp_path / "plain.csv", *made_up(2))
    (tmp_path / "in").mkdir()
    with gzip.open(tmp_path / "in" / "b.csv.gz", "wb") as stream:
        stream.write(plain.read_bytes())
    (tmp_path / "in" / "notes.txt").write_text("not data")
    assert [path.name for path in find_files([str(tmp_path)])] == ["b.csv.gz", "plain.csv"]
    flows = read_flows([str(tmp_path)], "cns2022")
    assert flows.rows_read == 16 and set(flows.inputs_sha256) == {"b.csv.gz", "plain.csv"}


@pytest.mark.parametrize(("writer", "profile", "named"), [
    (write_cns2022, "cic2017", "cns2022"), (write_mlcve, "cns2022", "cic2017"), (write_mlcve, "fixed", "cic2017"),
])
def test_profile_that_is_not_the_files_is_refused(tmp_path, capsys, writer, profile, named):
    path = writer(tmp_path / "a.csv", *made_up(2))
    with pytest.raises(WrongUsage, match=f"use --profile {named}"):
        read_flows([str(path)], profile)
    assert run_train([path], tmp_path, profile) == 2
    assert "is not profile" in capsys.readouterr().err
    assert not (tmp_path / "model.onnx").exists()


def test_infinity_and_nan_are_read_as_such(tmp_path):
    values, labels = made_up(1)
    values[0, 14], values[0, 15], values[1, 14], values[2, 19] = np.nan, np.inf, np.inf, -np.inf
    flows = read_flows([str(write_mlcve(tmp_path / "a.csv", values, labels))], "cic2017")
    np.testing.assert_array_equal(flows.values, values)


def test_lines_of_commas_are_skipped_and_counted(tmp_path):
    path = write_mlcve(tmp_path / "a.csv", *made_up(2))
    with path.open("a") as stream:
        stream.write("," * 78 + "\n" + "," * 78 + "\n\n")
    flows = read_flows([str(path)], "cic2017")
    assert (flows.rows_read, flows.rows_empty, len(flows.labels)) == (8, 2, 8)


def test_attempted_attacks_are_left_out(tmp_path):
    values, labels = made_up(2)
    labels[1] = "DoS Hulk - Attempted"
    flows = read_flows([str(write_cns2022(tmp_path / "a.csv", values, labels))], "cns2022")
    assert flows.rows_attempted == 1 and len(flows.labels) == 7


@pytest.mark.parametrize(("raw", "clean"), [
    ("Web Attack \x96 XSS", "Web Attack - XSS"),
    ("Web Attack \u2013 XSS".encode().decode("latin-1"), "Web Attack - XSS"),
    ("Web Attack \ufffd XSS".encode().decode("latin-1"), "Web Attack - XSS"),
    (" Benign ", "BENIGN"), ("DoS slowloris", "DoS slowloris"),
])
def test_labels_have_one_spelling(raw, clean):
    assert clean_label(raw) == clean


def test_duplicates_are_rows_that_agree_in_all_measured_columns(tmp_path):
    values, labels = made_up(2)
    values[4] = values[0]
    values[4, 0] += 1  # another port, the same observation
    values[5] = values[1]
    values[5, 76] += 1  # one measured column differs
    values[6] = values[2] * (1 + 1e-12)  # the same once rounded to float32
    flows = drop_duplicates(read_flows([str(write_cns2022(tmp_path / "a.csv", values, labels))], "cns2022"))
    assert len(flows.labels) == 6
    np.testing.assert_array_equal(flows.values[0], values[0])


def _broken(path, change):
    lines = write_cns2022(path, *made_up(2)).read_text().splitlines()
    path.write_text("\n".join(change(lines)) + "\n")
    return path


def _with_field(line, position, text):
    fields = line.split(",")
    fields[position] = text
    return ",".join(fields)


@pytest.mark.parametrize(("change", "said"), [
    (lambda lines: [*lines[:3], lines[3].replace(",6,", ",6,oops,", 1), *lines[4:]], "line 4: 90 fields"),
    (lambda lines: [lines[0], lines[1] + ",9", *lines[2:]], "line 2"),
    (lambda lines: [*lines[:3], lines[3].rsplit(",", 30)[0]], "no label or is cut short"),
    (lambda lines: [*lines[:2], _with_field(lines[2], 9, "12x"), *lines[3:]], "line 3: Total Fwd Packets is '12x'"),
    (lambda lines: [lines[0].replace("Idle Max", "Idle Least"), *lines[1:]], "missing: Idle Max"),
    (lambda lines: [lines[0].replace("Label", "Kind"), *lines[1:]], "no Label column"),
    (lambda lines: ["a,b,c", *lines[1:]], "no known flow CSV"),
    (lambda lines: lines[:1], "no row"),
    (lambda lines: [""], "empty"),
    (lambda lines: [*lines[:2], lines[2].replace("2017-07", "someday"), *lines[3:]], "cannot read the time"),
])
def test_malformed_csv_gives_exit_3_and_names_the_fault(tmp_path, capsys, change, said):
    path = _broken(tmp_path / "broken.csv", change)
    assert run_train([path], tmp_path) == 3
    message = capsys.readouterr().err
    assert "broken.csv" in message and said in message
    assert not (tmp_path / "model.onnx").exists()


def test_damaged_gzip_and_missing_files_give_exit_3(tmp_path, capsys):
    whole = gzip.compress(write_cns2022(tmp_path / "a.csv", *made_up(20)).read_bytes())
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "not.csv.gz").write_bytes(b"plain text")
    for name in ("cut.csv.gz", "not.csv.gz", "absent.csv"):
        assert run_train([tmp_path / name], tmp_path) == 3
        assert name in capsys.readouterr().err
    with pytest.raises(UnreadableInput, match="no .csv"):
        (tmp_path / "nothing").mkdir()
        find_files([str(tmp_path / "nothing")])
