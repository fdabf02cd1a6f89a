"""What all rows of an array modality must look like: taken from its first readable file, then from the store.

A store's arrays have one shape, which no recipe knows for vectors and matrices. The first file of the plan that can be
read decides it before any row is written, and Zarr's metadata keep it; every other file, in this run and in later
ones, is held against it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import zarr

from preprocess.errors import ScanError
from preprocess.kinds import prepare_scan
from preprocess.recipe import VolumeRecipe
from preprocess.schema import ARRAYS_FOLDER
from preprocess.storage import Location, refusals
from preprocess.types import Finding, Scan
from preprocess.volumes import Prepared

COLUMNS_ATTRIBUTE = "columns"


@dataclass(frozen=True, slots=True)
class ArrayForm:
    """Shape of one row, and its headings where the files are tables.

    Attributes:
        shape: (F,) or (R, F).
        columns: F headings, or empty where the first file had none.
    """

    shape: tuple[int, ...]
    columns: tuple[str, ...] = ()

    @classmethod
    def of_rows(cls, array: "zarr.Array[Any]") -> "ArrayForm":
        """As the store's own array has it."""
        return cls(tuple(array.shape[1:]), tuple(str(name) for name in array.attrs.get(COLUMNS_ATTRIBUTE, ())))  # type: ignore[union-attr]

    def check(self, prepared: Prepared, *, name: str) -> None:
        """Refuse a file of another form: its numbers would stand under other names.

        Raises:
            ScanError: `wrong_shape` or `wrong_columns`.
        """
        found = () if prepared.values is None else prepared.values.shape
        if found != self.shape:
            message = f"{name}: shape {found}, the first file of this modality has {self.shape}"
            raise ScanError(Finding("wrong_shape", f"{message}; export it like that one, or leave it out"))
        if self.columns and prepared.columns and prepared.columns != self.columns:
            pairs = zip(prepared.columns, self.columns, strict=True)
            here, there = next((here, there) for here, there in pairs if here != there)
            message = f"{name}: column {here!r} where the first file of this modality has {there!r}"
            raise ScanError(Finding("wrong_columns", f"{message}; put the columns into the same order"))


def find_forms(
    scans: Iterable[Scan], store: Location, recipe: VolumeRecipe, read: Callable[[Scan], bytes]
) -> dict[str, ArrayForm]:
    """The form of each array modality that is to be written; none for one without a readable file.

    Args:
        scans: to be written, in the order of their rows.
        store: looked up first, finished or not.
        recipe: names the kinds.
        read: a scan's bytes; raises ScanError.

    Raises:
        StorageError: a bucket refuses.
    """
    forms: dict[str, ArrayForm] = {}
    unread: set[str] = set()
    for scan in scans:
        if recipe.kind_of(scan.modality) != "array" or scan.modality in forms:
            continue
        if scan.modality not in unread:
            unread.add(scan.modality)
            stored = stored_form(store, scan.modality)
            if stored is not None:
                forms[scan.modality] = stored
                continue
        try:
            prepared = prepare_scan(read(scan), scan, recipe)
        except ScanError:
            continue  # found again, and recorded, when its turn comes
        if prepared.values is not None:
            forms[scan.modality] = ArrayForm(tuple(prepared.values.shape), prepared.columns)
    return forms


def stored_form(store: Location, modality: str) -> ArrayForm | None:
    """The form of a store's array, finished or not; None where there is none."""
    path = f"{ARRAYS_FOLDER}/{modality}"
    with refusals(f"{store.uri}/{path}", missing_is_error=False):
        try:
            return ArrayForm.of_rows(zarr.open_array(store.zarr_store(), path=path, mode="r"))
        except FileNotFoundError:
            return None
