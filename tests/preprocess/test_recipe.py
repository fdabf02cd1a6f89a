"""Recipes: the fingerprint follows the voxels and nothing else; every wrong key or value is one line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.errors import UsageError
from preprocess.recipe import TRANSFORM_VERSION, Quality, VolumeRecipe, digest, override, parse, read_toml

FINGERPRINT = "714c01be641e1ddd"
OLDER_FINGERPRINTS = {1: "8a4d742694454c6b", 2: "5836814124ad0f4f"}
"""Of the same recipe by earlier transform versions, which stores made before hold."""
DECISIVE = {
    "grid": (24, 24, 25),
    "spacing_mm": 2.5,
    "field_of_view": "stretched",
    "orientation": "qform",
    "intensity_percentiles": (1.0, 98.0),
    "intensity": "tissue",
    "bias_field": "n4",
    "registration": "subject",
    "brain_mask": "given",
    "dtype": "uint16",
}
OF_OTHER_KINDS = {"kinds", "clip", "image", "array"}
KINDS = {"LUS": "clip", "fundus": "image", "SC": "array"}


@pytest.mark.parametrize("field", DECISIVE)
def test_whatever_decides_a_voxel_changes_the_fingerprint(field: str) -> None:
    assert VolumeRecipe(**{field: DECISIVE[field]}).fingerprint() != VolumeRecipe().fingerprint()


def test_limits_and_modalities_do_not_change_the_fingerprint() -> None:
    other = VolumeRecipe(modalities=("T2w",), quality=Quality(max_spacing_mm=9))
    assert other.fingerprint() == VolumeRecipe().fingerprint()


def test_the_cases_above_name_every_field() -> None:
    assert {*DECISIVE, *OF_OTHER_KINDS, "quality", "modalities"} == set(VolumeRecipe.model_fields)


def test_the_fingerprint_of_the_default_recipe_stays_what_published_stores_hold() -> None:
    # sha256 of the canonical JSON, computed with coreutils; a change here needs a new TRANSFORM_VERSION.
    assert VolumeRecipe().fingerprint() == FINGERPRINT
    assert len(FINGERPRINT) == 16
    for version, fingerprint in OLDER_FINGERPRINTS.items():
        assert VolumeRecipe().fingerprint(transform_version=version) == fingerprint
    assert set(OLDER_FINGERPRINTS) == set(range(1, TRANSFORM_VERSION))


@pytest.mark.parametrize("version", OLDER_FINGERPRINTS)
def test_a_store_of_an_older_transform_version_is_distinguished_from_one_of_another_recipe(version: int) -> None:
    older = VolumeRecipe().unlike(OLDER_FINGERPRINTS[version])
    assert f"transform version {version}, this program makes them by version 3; keep that store" in older
    other = VolumeRecipe(spacing_mm=3).unlike(OLDER_FINGERPRINTS[version])
    assert "use the recipe in its store.json" in other
    assert "version" not in other


def test_a_recipe_of_volumes_is_written_as_before_there_were_other_kinds() -> None:
    written = VolumeRecipe(kinds={"T1w": "volume"}).model_dump(mode="json")
    # Where nothing is said of keys that came later, nothing is written: the fingerprint is what it was before.
    assert set(written) == {*DECISIVE, "quality", "modalities"} - {
        "orientation", "intensity", "bias_field", "registration", "brain_mask",
    }  # fmt: skip
    assert VolumeRecipe(kinds={"T1w": "volume"}).fingerprint() == FINGERPRINT


@pytest.mark.parametrize(
    ("changes", "is_other"),
    [
        ({"kinds": {**KINDS, "SC": "image"}}, True),
        ({"kinds": {**KINDS, "FC": "array"}}, True),
        ({"clip": {"frames": 16}}, True),
        ({"clip": {"size": [96, 97]}}, True),
        ({"image": {"channels": 3}}, True),
        ({"image": {"size": [8, 8]}}, True),
        ({"modalities": ("LUS",)}, False),
        ({"kinds": {"SC": "array", "fundus": "image", "LUS": "clip", "T2w": "volume"}}, False),
    ],
)
def test_settings_of_a_kind_decide_where_a_modality_is_of_it(changes: dict[str, object], is_other: bool) -> None:
    plain = VolumeRecipe.model_validate({"kinds": KINDS})
    other = VolumeRecipe.model_validate({"kinds": KINDS, **changes})
    assert (other.fingerprint() != plain.fingerprint()) == is_other
    assert plain.fingerprint() != FINGERPRINT
    assert VolumeRecipe.model_validate_json(other.model_dump_json()) == other


def test_columns_left_out_decide_and_none_of_them_changes_nothing() -> None:
    plain = VolumeRecipe.model_validate({"kinds": {"SC": "array"}})
    assert plain.model_dump(mode="json")["array"] == {"standardise": "none"}
    assert plain.fingerprint() == "22c851f6c25d355e"  # as before there was this setting
    one, same = (
        VolumeRecipe.model_validate({"kinds": {"SC": "array"}, "array": {"leave_out": names}})
        for names in (["roi", "hemi"], ["hemi", "roi ", "roi"])
    )
    assert one.fingerprint() == same.fingerprint() != plain.fingerprint()
    assert VolumeRecipe.model_validate_json(one.model_dump_json()) == one


def test_settings_of_a_kind_that_no_modality_is_of_are_refused() -> None:
    with pytest.raises(
        UsageError, match=r'clip: set, but no modality is of that kind; say which, as in kinds\.LUS = "cl'
    ):
        parse(VolumeRecipe, override({}, ("clip.frames=16",)), where="--set")


def test_rows_have_the_shape_and_type_of_their_kind() -> None:
    settings = ("kinds.LUS=clip", "kinds.fundus=image", "kinds.SC=array", "image.channels=3", "dtype=uint16")
    recipe = parse(VolumeRecipe, override({}, settings), where="--set")
    names = ("T1w", "LUS", "fundus", "SC")
    assert [recipe.kind_of(name) for name in names] == ["volume", "clip", "image", "array"]
    assert [recipe.row_shape(name) for name in names] == [(1, 96, 96, 96), (32, 1, 96, 96), (3, 96, 96), None]
    assert [recipe.dtype_of(name) for name in names] == ["uint16", "uint16", "uint16", "float32"]


def test_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [2.5]}) == digest({"b": [2.5], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"spacing": 2}, "did you mean 'spacing_mm'?"),
        ({"quality": {"max_spacng_mm": 2}}, "unknown key 'quality.max_spacng_mm'; did you mean 'max_spacing_mm'?"),
        ({"zzz": 2}, "known keys: array, bias_field, brain_mask, clip, dtype, field_of_view, grid"),
        ({"spacing_mm": -1}, "spacing_mm: input should be greater than 0 (got -1)"),
        ({"spacing_mm": float("nan")}, "spacing_mm"),
        ({"spacing_mm": float("inf")}, "spacing_mm"),
        ({"grid": [24, 24]}, "grid"),
        ({"grid": [24, 0, 24]}, "grid.1: input should be greater than or equal to 1 (got 0)"),
        ({"intensity_percentiles": [0.5, 101]}, "intensity_percentiles.1"),
        ({"dtype": "int64"}, "dtype"),
        ({"modalities": []}, "modalities"),
        ({"modalities": ["../T1w"]}, "modalities.0"),
        ({"kinds": {"LUS": "video"}}, "kinds.LUS: input should be 'volume', 'clip', 'image' or 'array' (got 'video')"),
        ({"kinds": {"../LUS": "clip"}}, "kinds.../LUS"),
        ({"kinds": {"LUS": "clip"}, "clip": {"frame": 3}}, "unknown key 'clip.frame'; did you mean 'frames'?"),
        ({"kinds": {"LUS": "clip"}, "clip": {"frames": 0}}, "clip.frames: input should be greater than or equal to 1"),
        ({"kinds": {"x": "image"}, "image": {"channels": 2}}, "image.channels: input should be 1 or 3 (got 2)"),
        ({"kinds": {"x": "array"}, "array": {"standardise": "zscore"}}, "array.standardise: input should be 'none'"),
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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_recipe_is_read_with_and_without_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes("# Größe\r\nspacing_mm = 3.0\r\n".encode(encoding))
    assert read_toml(path) == {"spacing_mm": 3.0}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "latin-1"])
def test_a_recipe_in_another_encoding_is_refused_with_how_to_save_it(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes("# Größe\nspacing_mm = 3.0\n".encode(encoding))
    with pytest.raises(UsageError, match=r"recipe.toml: not (UTF-8 \(.*\); save it as UTF-8|a TOML file)"):
        read_toml(path)
