"""Rules choose a series by what its headers say, and say why they do not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from preprocess.errors import UsageError
from preprocess.sources.series_rules import SeriesFacts, SeriesRule, read_rules

T1W = read_rules().of(("T1w",), where="x")[0]
GOOD = SeriesFacts(
    modality="MR",
    texts=("t1_mprage_sag_p2_iso", ""),
    image_types=frozenset({"ORIGINAL", "PRIMARY", "M", "ND"}),
    plane="sagittal",
    num_slices=176,
    slice_spacing_mm=1.0,
    voxel_mm3=1.0,
    acquisition="3D",
    echo_time_ms=2.98,
    has_contrast=False,
    number=3,
)


def facts(**changes: Any) -> SeriesFacts:
    return replace(GOOD, **changes)


@pytest.mark.parametrize(
    "name",
    [
        *("MPRAGE", "MP-RAGE_SAG", "Sag 3D T1", "Accelerated Sag IR-FSPGR", "Sag IR-SPGR", "t1_mpr_sag", "anat-T1w"),
        *("IR-FSPGR-REPEAT", "3D BRAVO", "T1W_3D_TFE", "ADNI3_T1", "3DT1"),
    ],
)
def test_what_scanners_call_a_t1w_is_one(name: str) -> None:
    assert T1W.fault(facts(texts=(name, ""))) is None


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"texts": ("3-plane localizer T1", "")}, "series_unlike", "not_name"),
        ({"texts": ("T2 TSE", "")}, "series_unlike", "not_name"),
        ({"texts": ("FLAIR T1 like", "")}, "series_unlike", "not_name"),
        ({"texts": ("rest bold", "")}, "series_unlike", "fits no pattern"),
        ({"texts": ("REST1 w SMS", "")}, "series_unlike", "fits no pattern"),
        ({"texts": ("T1 post Gd", "")}, "series_unlike", "not_name"),
        ({"image_types": frozenset({"ORIGINAL", "PRIMARY", "LOCALIZER"})}, "localizer", "ImageType"),
        ({"image_types": frozenset({"DERIVED", "SECONDARY", "MPR"})}, "derived_series", "ImageType has MPR"),
        ({"image_types": frozenset({"DERIVED", "PROJECTION IMAGE"})}, "derived_series", "PROJECTION IMAGE"),
        ({"has_contrast": True}, "contrast_given", "keep such scans apart"),
        ({"acquisition": "2D"}, "series_unlike", "MRAcquisitionType 2D, expected 3D"),
        ({"echo_time_ms": 90.0}, "series_unlike", "echo time 90 ms, expected 0 to 15 ms"),
        ({"slice_spacing_mm": 5.0}, "series_unlike", "slice spacing 5 mm, expected 0.4 to 2 mm"),
        ({"num_slices": 40}, "too_few_slices", "40 slices, fewer than 60"),
    ],
)
def test_what_is_no_t1w_has_a_code_and_a_reason(changes: dict[str, Any], code: str, said: str) -> None:
    found = T1W.fault(facts(**changes))
    assert found is not None
    assert found[0] == code
    assert said in found[1]


def test_what_the_anonymiser_removed_decides_nothing() -> None:
    bare = facts(texts=("", ""), acquisition="", echo_time_ms=None, plane="", slice_spacing_mm=None)
    assert T1W.fault(bare) is None
    named_only = SeriesRule(modality="T1w", name=("t1",))
    assert named_only.fault(bare) == ("series_unlike", "it has no name, and the rule does not take such (unnamed)")


def test_orientation_and_image_type_can_be_asked_for() -> None:
    rule = SeriesRule(modality="T1w", orientation=("axial",), image_type=("norm",))
    assert rule.fault(GOOD) == ("series_unlike", "ImageType has no norm")
    found = rule.fault(facts(image_types=frozenset({"NORM"})))
    assert found == ("series_unlike", "slices are sagittal, expected axial")


@pytest.mark.parametrize(
    ("prefer", "worse"),
    [
        ("original", {"image_types": frozenset({"DERIVED"})}),
        ("most_slices", {"num_slices": 60}),
        ("finest", {"voxel_mm3": 2.0}),
        ("finest", {"voxel_mm3": None}),
        ("first", {"number": 9}),
        ("last", {"number": 1}),
        ("image_type:nd", {"image_types": frozenset({"ORIGINAL"})}),
        ("name:mprage.*p2", {"texts": ("mprage", "")}),
    ],
)
def test_a_preference_ranks_the_better_one_first(prefer: str, worse: dict[str, Any]) -> None:
    rule = SeriesRule(modality="T1w", prefer=(prefer,))
    assert rule.rank(GOOD) < rule.rank(facts(**worse))


def test_preferences_decide_in_their_order() -> None:
    rule = SeriesRule(modality="T1w", prefer=("most_slices", "last"))
    ranked = sorted([facts(number=9, num_slices=100), facts(number=2), facts(number=7)], key=rule.rank)
    assert [one.number for one in ranked] == [7, 2, 9]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[series]]\nmodality = "T1w"\nnme = ["x"]', "nme"),
        ('[[series]]\nmodality = "T1w"\nname = ["("]', "no regular expression"),
        ('[[series]]\nmodality = "T1w"\nprefer = ["best"]', "'best' is none of original"),
        ('[[series]]\nmodality = "T1w"\n[[series]]\nmodality = "T1w"', "two rules for T1w"),
        ('[[series]]\nname = ["t1"]', "modality"),
        ("series = []", "series"),
        ("[[series", "rules.toml"),
    ],
)
def test_a_wrong_file_of_rules_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_rules(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_modality_without_a_rule_is_refused_with_the_remedy() -> None:
    with pytest.raises(UsageError, match=r"no rule for PDw \(there: T1w, FLAIR, T2w\); add a \[\[series\]\]"):
        read_rules().of(("T1w", "PDw"), where="the rules")
