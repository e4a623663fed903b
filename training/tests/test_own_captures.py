"""The sensor's own CSVs: labels files, and rows that cannot be of the profile they are said to have."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import run_train
from flows import write_own

from ml_ids_training.data import UNMATCHED, read_flows
from ml_ids_training.errors import UnreadableInput, WrongUsage
from ml_ids_training.features import NAMES, PROFILES
from ml_ids_training.labels import Conversations, Labelling

HEADER = "src_ip,src_port,dst_ip,dst_port,protocol,start,end,label\n"
SCANNER = "203.0.113.9,,,,,,,PortScan\n"
HANDMADE = Path(__file__).parents[2] / "tests/data/handmade"


def labelling(folder: Path, rules: str, unmatched: str = "benign") -> Labelling:
    (folder / "labels.csv").write_text(HEADER + rules)
    return Labelling(folder / "labels.csv", unmatched)


def flows(*rows: tuple[str, int, str, int, int, str]) -> Conversations:
    """(source, port, destination, port, protocol, time) a flow."""
    columns = [np.array(column) for column in zip(*rows)]
    columns[0], columns[2] = columns[0].astype(object), columns[2].astype(object)
    times = columns[5].astype("datetime64[ns]").astype("int64")
    return Conversations(*columns[:5], times)


WEB = ("192.0.2.1", 40000, "198.51.100.2", 80, 6, "2024-05-01T10:00:00")
DNS = ("192.0.2.1", 40001, "198.51.100.3", 53, 17, "2024-05-01T11:00:00")
SIX = ("2001:db8::1", 40002, "2001:db8:ff::2", 443, 6, "2024-05-01T12:00:00")


@pytest.mark.parametrize(("rule", "fitting"), [
    (",,,,,,", [True, True, True]),
    ("192.0.2.1,,,,,,", [True, True, False]),
    ("192.0.2.77/24,,,,,,", [True, True, False]),
    ("2001:db8::/32,,,443,,,", [False, False, True]),
    ("198.51.100.2,80,192.0.2.1,,,,", [True, False, False]),
    (",,,80,tcp,,", [True, False, False]),
    (",,,50-100,,,", [True, True, False]),
    (",,,,UDP,,", [False, True, False]),
    (",,,,6,,", [True, False, True]),
    (",,,,,2024-05-01T10:00:00Z,2024-05-01T11:00:00Z", [True, True, False]),
    (",,,,,2024-05-01T13:00:01+02:00,", [False, False, True]),
    (",,,,,,2024-05-01T10:59:59.999999Z", [True, False, False]),
    ("192.0.2.1,53,,,,,", [False, False, False]),
])
def test_a_rule_fits_by_address_port_protocol_and_time_in_both_directions(tmp_path, rule, fitting):
    found = labelling(tmp_path, f"{rule},x\n").apply(flows(WEB, DNS, SIX))
    assert [label is not None for label in found] == fitting
    mirrored = flows(*((b, b_port, a, a_port, *rest) for a, a_port, b, b_port, *rest in (WEB, DNS, SIX)))
    assert [label is not None for label in labelling(tmp_path, f"{rule},x\n").apply(mirrored)] == fitting


def test_the_first_fitting_rule_labels_and_idle_rules_are_told(tmp_path):
    rules = labelling(tmp_path, "# web first\n192.0.2.1,,,80,,,,web\n192.0.2.1,,,,,,,other\n,,,80,,,,late\n,,,81,,,,never\n")
    assert list(rules.apply(flows(WEB, DNS, SIX))) == ["web", "other", None]
    assert rules.idle_rules() == [
        "labels.csv: line 5 (late) all 1 flows that it fits are taken by rules above it",
        "labels.csv: line 6 (never) fits no flow",
    ]
    assert [rule["rows"] for rule in rules.facts()["rules"]] == [1, 1, 0, 0] and rules.facts()["rows_unmatched"] == 1


@pytest.mark.parametrize(("text", "said"), [
    ("", "begins with the columns src_ip"),
    ("a,b,c\n", "begins with the columns src_ip"),
    (HEADER, "no rule after the header"),
    (HEADER + "192.0.2.300,,,,,,,x\n", "line 2: '192.0.2.300'"),
    (HEADER + ",,,70000,,,,x\n", "line 2: '70000' is no port"),
    (HEADER + ",,,90-80,,,,x\n", "line 2: '90-80' is no port"),
    (HEADER + ",,,,icmpx,,,x\n", "line 2: 'icmpx' is no protocol"),
    (HEADER + ",,,,,soon,,x\n", "line 2: 'soon' is no time"),
    (HEADER + ",,,,,2024-05-02T00:00:00Z,2024-05-01T00:00:00Z,x\n", "before it starts"),
    (HEADER + ",,,,,,,\n" + ",,,80,,,,\n", "line 3: the rule has no label"),
    (HEADER + ",,,x\n", "line 2: 4 fields where the header has 8"),
])
def test_a_faulty_labels_file_is_refused_with_its_line(tmp_path, text, said):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UnreadableInput, match="labels.csv") as refused:
        Labelling(tmp_path / "labels.csv", "benign")
    assert said in str(refused.value)


def test_training_on_own_captures_with_a_labels_file(tmp_path, capsys):
    data = write_own(tmp_path / "own.csv")
    (tmp_path / "labels.csv").write_text(HEADER + SCANNER + "203.0.113.10,,,,,,,Botnet\n")
    assert run_train([data], tmp_path, "fixed", ["--labels", str(tmp_path / "labels.csv")]) == 0
    assert "labels.csv: line 3 (Botnet) fits no flow" in capsys.readouterr().err
    facts = json.loads((tmp_path / "report" / "report.json").read_text())
    assert facts["data"]["rows_by_class"] == {"BENIGN": 30, "PortScan": 30}
    assert [rule["rows"] for rule in facts["data"]["labels_file"]["rules"]] == [30, 0]
    assert set(facts["inputs_sha256"]) == {"own.csv", "labels.csv"}
    card = (tmp_path / "model.md").read_text()
    assert "--labels labels.csv --unmatched benign" in " ".join(card.replace("\\\n", "").split())


def test_flows_that_no_rule_fits_may_be_dropped(tmp_path):
    data, rules = str(write_own(tmp_path / "own.csv")), SCANNER + ",,,,,2024-05-01T10:00:30Z,,Benign\n"
    read = read_flows([data], "fixed", labelling(tmp_path, rules, "drop"))
    assert set(read.labels) == {"BENIGN", "PortScan"} and UNMATCHED not in read.labels
    assert read.rows_unmatched == 15 and len(read.labels) == 45


def test_unlabelled_own_rows_lead_to_the_labels_file(tmp_path, capsys):
    assert run_train([write_own(tmp_path / "own.csv")], tmp_path, "fixed") == 3
    assert "--labels" in capsys.readouterr().err


def test_verdicts_of_a_model_are_not_learned_as_if_they_were_true(tmp_path, capsys):
    lines = write_own(tmp_path / "own.csv").read_text().splitlines()
    scored = [lines[0] + ",Class,Probability,Alert,Reason"] + [line + "BENIGN,0,0.9,false,fin" for line in lines[1:]]
    (tmp_path / "scored.csv").write_text("\n".join(scored) + "\n")
    assert run_train([tmp_path / "scored.csv"], tmp_path, "fixed") == 2
    assert "verdicts" in capsys.readouterr().err
    found = read_flows([str(tmp_path / "scored.csv")], "fixed", labelling(tmp_path, SCANNER))
    assert sorted(set(found.labels)) == ["BENIGN", "PortScan"]


def test_a_row_cut_short_is_refused_with_a_labels_file_too(tmp_path):
    path = write_own(tmp_path / "own.csv")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], lines[3].rsplit(",", 9)[0], *lines[4:]]) + "\n")
    with pytest.raises(UnreadableInput, match="line 4: the row is cut short"):
        read_flows([str(path)], "fixed", labelling(tmp_path, SCANNER))


@pytest.mark.parametrize("made_with", PROFILES)
@pytest.mark.parametrize("said_to_be", PROFILES)
def test_own_rows_are_taken_for_their_profile_and_refused_for_another(tmp_path, made_with, said_to_be):
    own = _as_extracted(tmp_path, "random", made_with)
    rules = labelling(tmp_path, ",,,,,,,PortScan\n")
    if made_with == said_to_be:
        assert len(read_flows([own], said_to_be, rules).labels) > 300
    else:
        with pytest.raises(WrongUsage, match=f"cannot have been made with profile {said_to_be}.*fits {made_with}"):
            read_flows([own], said_to_be, rules)


def test_rows_of_two_profiles_never_meet(tmp_path):
    files = [_as_extracted(tmp_path, "random", profile) for profile in ("fixed", "cns2022")]
    with pytest.raises(WrongUsage, match="random.cns2022.csv"):
        read_flows(files, "fixed", labelling(tmp_path, ",,,,,,,PortScan\n"))


def _as_extracted(folder: Path, capture: str, profile: str) -> str:
    """A reference CSV of the repository under the header of ml-ids extract."""
    with (HANDMADE / f"{capture}.{profile}.csv").open(newline="") as stream:
        header, *rows = csv.reader(stream)
    time = header.index("start_us")
    for row in rows:
        row[time] = f"{np.datetime64(int(row[time]), 'us')}Z"
    path = folder / f"{capture}.{profile}.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([[*header[:time], "Timestamp", *NAMES], *rows])
    return str(path)
