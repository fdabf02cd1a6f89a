"""Recipes: the fingerprint follows the voxels and nothing else; every wrong key or value is one line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.errors import UsageError
from preprocess.recipe import Quality, VolumeRecipe, digest, override, parse, read_toml

FINGERPRINT = "8a4d742694454c6b"
DECISIVE = {
    "grid": (24, 24, 25),
    "spacing_mm": 2.5,
    "field_of_view": "stretched",
    "intensity_percentiles": (1.0, 98.0),
    "dtype": "uint16",
}


@pytest.mark.parametrize("field", DECISIVE)
def test_whatever_decides_a_voxel_changes_the_fingerprint(field: str) -> None:
    assert VolumeRecipe(**{field: DECISIVE[field]}).fingerprint() != VolumeRecipe().fingerprint()


def test_limits_and_modalities_do_not_change_the_fingerprint() -> None:
    other = VolumeRecipe(modalities=("T2w",), quality=Quality(max_spacing_mm=9))
    assert other.fingerprint() == VolumeRecipe().fingerprint()


def test_the_cases_above_name_every_field() -> None:
    assert {*DECISIVE, "quality", "modalities"} == set(VolumeRecipe.model_fields)


def test_the_fingerprint_of_the_default_recipe_stays_what_published_stores_hold() -> None:
    # sha256 of the canonical JSON, computed with coreutils; a change here needs a new TRANSFORM_VERSION.
    assert VolumeRecipe().fingerprint() == FINGERPRINT
    assert len(FINGERPRINT) == 16


def test_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [2.5]}) == digest({"b": [2.5], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"spacing": 2}, "did you mean 'spacing_mm'?"),
        ({"quality": {"max_spacng_mm": 2}}, "unknown key 'quality.max_spacng_mm'; did you mean 'max_spacing_mm'?"),
        ({"zzz": 2}, "known keys: dtype, field_of_view, grid"),
        ({"spacing_mm": -1}, "spacing_mm: input should be greater than 0 (got -1)"),
        ({"spacing_mm": float("nan")}, "spacing_mm"),
        ({"spacing_mm": float("inf")}, "spacing_mm"),
        ({"grid": [24, 24]}, "grid"),
        ({"grid": [24, 0, 24]}, "grid.1: input should be greater than or equal to 1 (got 0)"),
        ({"intensity_percentiles": [0.5, 101]}, "intensity_percentiles.1"),
        ({"dtype": "int64"}, "dtype"),
        ({"modalities": []}, "modalities"),
        ({"modalities": ["../T1w"]}, "modalities.0"),
    ],
)
def test_a_wrong_recipe_is_one_line_with_place_and_value(data: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(VolumeRecipe, data, where="r.toml")
    assert message in str(caught.value)
    assert str(caught.value).startswith("r.toml: ")
    assert "\n" not in str(caught.value)


def test_toml_and_overrides_make_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text("spacing_mm = 3.0\n[quality]\nmin_extent_mm = 50\n")
    data = override(read_toml(path), ("quality.max_spacing_mm=5", "grid=[8, 8, 8]", "field_of_view=stretched"))
    recipe = parse(VolumeRecipe, data, where="r.toml")
    assert recipe.spacing_mm == 3.0
    assert recipe.grid == (8, 8, 8)
    assert recipe.field_of_view == "stretched"
    assert recipe.quality == Quality(min_extent_mm=50, max_spacing_mm=5)


@pytest.mark.parametrize(
    ("assignment", "message"), [("grid", "write key=value"), ("grid.x=1", "grid is no table of the recipe")]
)
def test_an_override_that_cannot_be_is_refused(assignment: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        override({"grid": [1, 2, 3]}, (assignment,))


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_override_is_followed_or_refused(key: str, value: str) -> None:
    try:
        recipe = parse(VolumeRecipe, override({}, (f"{key}={value}",)), where="here")
    except UsageError:
        return
    assert key.strip().split(".")[0] in VolumeRecipe.model_fields
    assert parse(VolumeRecipe, recipe.model_dump(), where="here") == recipe


def test_a_missing_a_broken_and_an_unreachable_recipe_file_are_told_apart(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("grid = [")
    for path, message in [
        (tmp_path / "none.toml", "no such recipe file"),
        (broken, "not a TOML file"),
        (tmp_path, "cannot be read"),
        (broken / "below", "cannot be read"),
    ]:
        with pytest.raises(UsageError, match=message):
            read_toml(path)
