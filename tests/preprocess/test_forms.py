"""The form of an array modality: of the first readable file, or of the store, and what breaks it."""

from pathlib import Path

import numpy as np
import pytest

from preprocess.errors import ScanError
from preprocess.forms import ArrayForm, find_forms, stored_form
from preprocess.recipe import VolumeRecipe
from preprocess.storage import Location
from preprocess.types import Finding, Scan
from preprocess.volumes import Prepared
from preprocess.writer import prepare_arrays
from tests.support.clips import npy

RECIPE = VolumeRecipe(modalities=("T1w", "SC", "clinical"), kinds={"SC": "array", "clinical": "array"})
FILES = {
    "a_T1w": b"",
    "a_SC": npy(np.ones((3, 4)))[:-2],
    "b_SC": npy(np.ones((5, 6))),
    "c_SC": npy(np.ones(7)),
    "c_clinical": b"age,mmse\n70,29\n",
}


def scans(*names: str) -> list[Scan]:
    return [Scan(name.split("_")[0], "", name.split("_")[1], f"{name}.csv") for name in names]


class Reader:
    """Hands out FILES, and remembers whose."""

    def __init__(self) -> None:
        self.requested: list[str] = []

    def __call__(self, scan: Scan) -> bytes:
        self.requested.append(scan.name)
        if scan.name not in FILES:
            raise ScanError(Finding("missing", f"{scan.name}: gone"))
        return FILES[scan.name]


def test_the_first_readable_file_decides_and_no_further_one_is_read(tmp_path: Path) -> None:
    read = Reader()
    found = find_forms(scans("gone_SC", *FILES), Location(tmp_path), RECIPE, read)
    assert found == {"SC": ArrayForm((5, 6)), "clinical": ArrayForm((2,), ("age", "mmse"))}
    assert read.requested == ["gone_SC", "a_SC", "b_SC", "c_clinical"]


def test_without_a_readable_file_there_is_no_form(tmp_path: Path) -> None:
    assert find_forms(scans("a_SC", "gone_clinical"), Location(tmp_path), RECIPE, Reader()) == {}


@pytest.mark.parametrize("kind", ["local", "memory", pytest.param("gs", marks=pytest.mark.bucket)])
def test_what_the_store_holds_goes_before_any_file(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    locations = {"local": str(tmp_path / "s"), "memory": f"memory://{tmp_path.name}/s"}
    store = Location(locations[kind] if kind in locations else f"{request.getfixturevalue('bucket')}/s")
    assert stored_form(store, "SC") is None
    forms = {"SC": ArrayForm((8, 9)), "clinical": ArrayForm((2,), ("mmse", "age"))}
    prepare_arrays(store, RECIPE, ["SC", "clinical"], 3, forms=forms)
    read = Reader()
    assert find_forms(scans(*FILES), store, RECIPE, read) == forms
    assert read.requested == []


def test_a_modality_without_a_form_gets_no_array(tmp_path: Path) -> None:
    prepare_arrays(Location(tmp_path), RECIPE, ["SC"], 3)
    assert stored_form(Location(tmp_path), "SC") is None


@pytest.mark.parametrize(
    ("form", "shape", "columns", "code"),
    [
        (ArrayForm((2,)), (2,), (), None),
        (ArrayForm((2,), ("a", "b")), (2,), ("a", "b"), None),
        (ArrayForm((2,), ("a", "b")), (2,), (), None),
        (ArrayForm((2,)), (2,), ("b", "a"), None),
        (ArrayForm((2,)), (3,), (), "wrong_shape"),
        (ArrayForm((2,)), (1, 2), (), "wrong_shape"),
        (ArrayForm((2,), ("a", "b")), (2,), ("b", "a"), "wrong_columns"),
    ],
)
def test_a_file_of_another_form_is_a_finding(
    form: ArrayForm, shape: tuple[int, ...], columns: tuple[str, ...], code: str | None
) -> None:
    prepared = Prepared(np.zeros(shape, np.float32), columns=columns)
    if code is None:
        form.check(prepared, name="x")
        return
    with pytest.raises(ScanError, match=r"^anna_SC: ") as caught:
        form.check(prepared, name="anna_SC")
    assert caught.value.finding.code == code
