"""store.json: the schema is frozen in text, so that another version is refused and not half understood."""

from dataclasses import fields

import pytest
from pydantic import ValidationError

from preprocess.recipe import VolumeRecipe
from preprocess.schema import INDEX_COLUMNS, TISSUE, StoreManifest
from preprocess.types import TissueFit

MANIFEST = StoreManifest(
    recipe=VolumeRecipe(),
    fingerprint="0" * 16,
    num_rows=2,
    arrays={"T1w": (2, 1, 96, 96, 96)},
    index_sha256="0" * 64,
    outcomes=("mmse",),
    num_found=2,
    num_kept=2,
    num_left_out=0,
)


def test_a_manifest_survives_json() -> None:
    assert StoreManifest.model_validate_json(MANIFEST.model_dump_json()) == MANIFEST


def test_a_manifest_holds_no_time_place_or_version_of_a_library() -> None:
    assert set(MANIFEST.model_dump()) == {
        *("schema_version", "recipe", "fingerprint", "num_rows", "arrays", "index_sha256", "outcomes"),
        *("num_found", "num_kept", "num_left_out", "reconciliation", "forgotten", "key_check"),
    }


@pytest.mark.parametrize("change", [{"schema_version": 3}, {"made_at": "today"}, {"num_rows": "many"}])
def test_another_schema_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        StoreManifest.model_validate({**MANIFEST.model_dump(), **change})


def test_a_manifest_of_the_time_before_cohorts_had_names_is_read_as_it_was() -> None:
    old = {**MANIFEST.model_dump(mode="json"), "schema_version": 1}
    assert StoreManifest.model_validate(old).schema_version == 1
    assert MANIFEST.schema_version == 2


def test_the_column_of_fits_has_all_a_fit_has() -> None:
    assert [field.name for field in TISSUE] == [field.name for field in fields(TissueFit)]


def test_index_columns_have_unique_names() -> None:
    names = [name for name, _ in INDEX_COLUMNS]
    assert len(set(names)) == len(names)
