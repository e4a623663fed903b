"""The 78 names: order, spellings, and which of them trees may look at."""

from ml_ids_training.features import FEATURES, MEASURED, NAMES, used_columns, unused_features

WITHOUT_BLANK = [5, 11, 15, 21, 26, 31, 37, 44, 57, 62, 63, 67, 71, 75]


def test_there_are_78_columns_in_published_order():
    assert [feature.index for feature in FEATURES] == list(range(1, 79))
    assert NAMES[0] == "Destination Port" and NAMES[77] == "Idle Min"
    assert len(set(NAMES)) == 78


def test_published_headers_have_their_blanks():
    bare = [feature.index for feature in FEATURES if not feature.published.startswith(" ")]
    assert bare == WITHOUT_BLANK
    for feature in FEATURES:
        assert feature.published.strip() == feature.name.removesuffix(".1")


def test_the_repeated_column_has_no_name_in_other_tools():
    repeated = FEATURES[55]
    assert repeated.name == "Fwd Header Length.1" and repeated.published == " Fwd Header Length"
    assert (repeated.cicflowmeter4, repeated.cicflowmeter2018, repeated.python) == (None, None, None)
    for feature in FEATURES:
        assert feature.index == 56 or (feature.cicflowmeter4 and feature.cicflowmeter2018 and feature.python)


def test_port_and_repeated_column_are_not_measured():
    assert len(MEASURED) == 76 and 0 not in MEASURED and 55 not in MEASURED


def test_unused_and_used_columns_are_all_columns():
    for profile in ("cns2022", "cic2017", "fixed"):
        for port in (False, True):
            used = [NAMES[i] for i in used_columns(profile, port)]
            assert sorted([*used, *unused_features(profile, port)]) == sorted(NAMES)
            assert ("Destination Port" in used) == port


def test_header_lengths_of_2017_are_not_trusted():
    assert "min_seg_size_forward" in unused_features("cic2017", False)
    assert "min_seg_size_forward" not in unused_features("cns2022", False)
