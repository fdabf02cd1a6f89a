"""Recipes: frozen settings, read from TOML, with every wrong key or value named in one line; and the volume recipe.

The fingerprint is a digest of everything that decides a stored voxel. It travels in the store, in every checkpoint and
in every artefact, and each consumer refuses another one.
"""

import difflib
import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from preprocess.errors import UsageError

TRANSFORM_VERSION = 1
"""Raised whenever the same recipe would give other voxels."""


class Recipe(BaseModel):
    """Base of all recipes: immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


AnyRecipe = TypeVar("AnyRecipe", bound=BaseModel)


class Quality(Recipe):
    """Limits beyond which a scan is left out; they decide which scans are kept, never their voxels.

    Attributes:
        max_spacing_mm: coarsest voxel edge accepted.
        min_extent_mm: shortest field of view accepted along any axis.
        min_foreground: smallest fraction of voxels that must belong to the head.
    """

    max_spacing_mm: float = Field(default=4.5, gt=0)
    min_extent_mm: float = Field(default=60.0, gt=0)
    min_foreground: float = Field(default=0.02, gt=0, lt=1)


class VolumeRecipe(Recipe):
    """How a scan becomes a volume.

    Attributes:
        modalities: BIDS suffixes to keep, one array each.
        grid: voxels along right, anterior, superior.
        spacing_mm: edge of a stored voxel.
        field_of_view: `head`: a box of fixed size in mm, centred on the head; `stretched`: the head's bounding box
            stretched to the grid, as the published pipeline does, which rescales each visit differently.
        intensity_percentiles: the first, over the whole scan, becomes 0; the second, over the foreground in the middle
            of the head, becomes 1.
        dtype: stored type; integers hold [0, 1] scaled to their full range.
        quality: limits that leave a scan out.
    """

    modalities: tuple[str, ...] = Field(default=("T1w",), min_length=1)
    grid: tuple[int, int, int] = (96, 96, 96)
    spacing_mm: float = Field(default=2.0, gt=0)
    field_of_view: Literal["head", "stretched"] = "head"
    intensity_percentiles: tuple[float, float] = (0.5, 98.0)
    dtype: Literal["uint8", "uint16", "float16", "float32"] = "uint8"
    quality: Quality = Quality()

    def fingerprint(self) -> str:
        """Digest of what decides a stored voxel: 16 hexadecimal digits."""
        decisive = self.model_dump(mode="json", exclude={"quality", "modalities"})
        return digest({"transform_version": TRANSFORM_VERSION, **decisive})[:16]


def digest(value: Mapping[str, Any]) -> str:
    """SHA-256 of the value as canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a mapping.

    Raises:
        UsageError: no such file, or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such recipe file; check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
        raise UsageError(f"{path}: not a TOML file: {error}") from error


def parse(model: type[AnyRecipe], data: Mapping[str, Any], *, where: str) -> AnyRecipe:
    """Validate a mapping as a recipe.

    Args:
        model: the recipe's class.
        data: its keys and values.
        where: how messages name the recipe, usually its path.

    Raises:
        UsageError: an unknown key (with the nearest known one) or a value out of range.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UsageError(f"{where}: {_first_fault(model, error)}") from error


def override(data: dict[str, Any], assignments: tuple[str, ...]) -> dict[str, Any]:
    """Apply `a.b=value` assignments, values in TOML spelling (a bare word is text), to a recipe's mapping.

    Raises:
        UsageError: an assignment without `=`.
    """
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        if not equals:
            raise UsageError(f"--set {assignment}: write key=value, for example --set optim.batch_size=16")
        *folders, name = path.strip().split(".")
        here = data
        for folder in folders:
            here = here.setdefault(folder, {})
        try:
            here[name] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            here[name] = value.strip()
    return data


def _first_fault(model: type[BaseModel], error: ValidationError) -> str:
    fault = error.errors()[0]
    path = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        known = _keys_beside(model, fault["loc"])
        near = difflib.get_close_matches(str(fault["loc"][-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known))}"
        return f"unknown key {path!r}; {hint}"
    return f"{path or 'recipe'}: {fault['msg'][0].lower()}{fault['msg'][1:]} (got {fault.get('input')!r})"


def _keys_beside(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The known keys of the table that holds the last part of `location`."""
    here = model
    for part in location[:-1]:
        field = here.model_fields.get(str(part))
        inner = field.annotation if field is not None else None
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            here = inner
    return list(here.model_fields)
