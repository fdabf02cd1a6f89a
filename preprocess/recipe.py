"""Recipes: frozen settings, read from TOML, with every wrong key or value named in one line; and the volume recipe.

The fingerprint is a digest of everything that decides a stored voxel. It travels in the store, in every checkpoint and
in every artefact, and each consumer refuses another one. Settings for clips, images and arrays are part of a recipe,
of its JSON and of its fingerprint only where `kinds` names such a modality: a recipe of volumes is what it always was.
"""

import difflib
import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from preprocess.errors import UsageError
from preprocess.types import Kind

TRANSFORM_VERSION = 3
"""Raised whenever the same recipe would give other voxels. 2: the box is placed by the skull's vault (ADR 12). 3: one
linear map an axis (ADR 22), which rounds a few voxels to the next of their 255 levels."""


class Recipe(BaseModel):
    """Base of all recipes: immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


_Suffix = Annotated[str, Field(pattern="^[A-Za-z0-9]+$")]
"""A BIDS suffix; it names an array, so it must not be a path."""
_Edge = Annotated[int, Field(ge=1, le=1024)]
_Percentile = Annotated[float, Field(ge=0, le=100)]
AnyRecipe = TypeVar("AnyRecipe", bound=BaseModel)


class Quality(Recipe):
    """Limits beyond which a scan is left out; they decide which scans are kept, never their voxels.

    Attributes:
        max_spacing_mm: coarsest voxel edge accepted.
        min_extent_mm: shortest field of view accepted along any axis.
        min_foreground: smallest fraction of voxels that must belong to the head.
        defaced: whether volumes are said to have no face any more; one that still shows it is left out.
    """

    max_spacing_mm: float = Field(default=4.5, gt=0)
    min_extent_mm: float = Field(default=60.0, gt=0)
    min_foreground: float = Field(default=0.02, gt=0, lt=1)
    defaced: bool = False

    @model_serializer(mode="wrap")
    def _without_default(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # As recipes were written before there was this setting.
        return {name: value for name, value in serialise(self).items() if name != "defaced" or value}


class ClipRecipe(Recipe):
    """How a recording becomes a clip of one channel.

    Attributes:
        frames: pictures kept, at equal steps over the whole recording.
        size: height and width in pixels; the picture is fitted in with its aspect kept, black on both sides.
    """

    frames: int = Field(default=32, ge=1, le=1024)
    size: tuple[_Edge, _Edge] = (96, 96)


class ImageRecipe(Recipe):
    """How a picture becomes an image.

    Attributes:
        size: height and width in pixels; the picture is fitted in with its aspect kept, black on both sides.
        channels: 1 for grey, 3 for red, green and blue.
    """

    size: tuple[_Edge, _Edge] = (96, 96)
    channels: Literal[1, 3] = 1


class ArrayRecipe(Recipe):
    """How a vector or matrix becomes an array: as it is, as float32.

    Attributes:
        standardise: what is done to the values; a mean over subjects would leak from test to training subjects, so
            it belongs to training and not here.
        leave_out: headings of columns of tables that are not stored, such as names of regions. None of them leaves
            JSON and fingerprint as they were before there was this setting.
    """

    standardise: Literal["none"] = "none"
    leave_out: tuple[str, ...] = ()

    @field_validator("leave_out")
    @classmethod
    def _each_once(cls, headings: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted({heading.strip() for heading in headings}))

    @model_serializer(mode="wrap")
    def _without_default(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialise(self).items() if name != "leave_out" or value}


_LATER_KEYS = ("orientation", "intensity", "bias_field", "registration", "brain_mask")
"""Added when stores were there already."""


class VolumeRecipe(Recipe):
    """How a scan becomes a volume, or a clip, an image or an array where `kinds` says so.

        recipe = VolumeRecipe(modalities=("T1w",), spacing_mm=2.0)
        recipe.fingerprint()  # another one for every setting that changes a stored voxel

    Attributes:
        modalities: BIDS suffixes to keep, one array each.
        grid: voxels along right, anterior, superior.
        spacing_mm: edge of a stored voxel.
        field_of_view: `head`: a box of fixed size in mm, centred on the head; `stretched`: the head's bounding box
            stretched to the grid, as the published pipeline does, which rescales each visit differently.
        orientation: which placement is taken where a header has both sform and qform: `agreeing` takes the sform and
            leaves the scan out where they are mirror images; `sform` and `qform` take that one always.
        intensity_percentiles: the first, over the whole scan, becomes 0; the second, over the foreground in the middle
            of the head, becomes 1.
        intensity: how grey values become brightness: `percentile` by the two percentiles above; `tissue`, for T1w
            heads, removes the coil's shading and puts CSF, grey and white matter at fixed values (ADR 20).
        bias_field: `n4` divides volumes by the coil's shading as N4 estimates it (SimpleITK, ADR 31).
        registration: rigid, of volumes: `subject` to the mean of all scans of the person and modality, `template` to
            the ICBM 152 brain that ships (SimpleITK); then the box lies about the middle of that (ADR 31).
        brain_mask: `given` blackens what lies outside a brain mask that is given with each volume (`--masks`).
        dtype: stored type of volumes, clips and images; integers hold [0, 1] scaled to their full range.
        quality: limits that leave a volume out.
        kinds: what a modality is, for example `{"LUS": "clip"}`; a volume where nothing is said.
        clip: settings of all clips.
        image: settings of all images.
        array: settings of all arrays.
    """

    modalities: tuple[_Suffix, ...] = Field(default=("T1w",), min_length=1)
    grid: tuple[_Edge, _Edge, _Edge] = (96, 96, 96)
    spacing_mm: float = Field(default=2.0, gt=0)
    field_of_view: Literal["head", "stretched"] = "head"
    orientation: Literal["agreeing", "sform", "qform"] = "agreeing"
    intensity_percentiles: tuple[_Percentile, _Percentile] = (0.5, 98.0)
    intensity: Literal["percentile", "tissue"] = "percentile"
    bias_field: Literal["none", "n4"] = "none"
    registration: Literal["none", "subject", "template"] = "none"
    brain_mask: Literal["none", "given"] = "none"
    dtype: Literal["uint8", "uint16", "float16", "float32"] = "uint8"
    quality: Quality = Quality()
    kinds: dict[_Suffix, Kind] = Field(default_factory=dict)
    clip: ClipRecipe = ClipRecipe()
    image: ImageRecipe = ImageRecipe()
    array: ArrayRecipe = ArrayRecipe()

    @field_validator("kinds")
    @classmethod
    def _only_what_is_no_volume(cls, kinds: dict[str, Kind]) -> dict[str, Kind]:
        return {modality: kinds[modality] for modality in sorted(kinds) if kinds[modality] != "volume"}

    @model_validator(mode="after")
    def _no_settings_without_use(self) -> Self:
        for kind in self._unused():
            if getattr(self, kind) != type(getattr(self, kind))():
                raise ValueError(f'{kind}: set, but no modality is of that kind; say which, as in kinds.LUS = "{kind}"')
        return self

    @model_validator(mode="after")
    def _no_box_of_two_kinds(self) -> Self:
        if self.field_of_view != "stretched":
            return self
        if self.registration != "none":
            message = "rescales each visit differently, which undoes a registration; leave one of them out"
            raise ValueError(f'field_of_view: "stretched" {message}')
        if self.quality.defaced:
            raise ValueError('field_of_view: "stretched" looks for no head, so for no face; take quality.defaced out')
        return self

    @model_serializer(mode="wrap")
    def _without_unused(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        surplus = {*self._unused(), *(() if self.kinds else ("kinds",))}
        # Left out where it is the default, so that a recipe of earlier versions keeps its fingerprint.
        fields = type(self).model_fields
        surplus |= {name for name in _LATER_KEYS if getattr(self, name) == fields[name].default}
        return {name: value for name, value in serialise(self).items() if name not in surplus}

    def _unused(self) -> list[str]:
        return [kind for kind in ("clip", "image", "array") if kind not in self.kinds.values()]

    def kind_of(self, modality: str) -> Kind:
        """What the modality's rows are."""
        return self.kinds.get(modality, "volume")

    def dtype_of(self, modality: str) -> str:
        """Stored type of the modality: arrays are float32 always."""
        return "float32" if self.kind_of(modality) == "array" else self.dtype

    def row_shape(self, modality: str) -> tuple[int, ...] | None:
        """Shape of one row of the modality; None for arrays, whose first file decides it."""
        kind = self.kind_of(modality)
        if kind == "array":
            return None
        if kind == "clip":
            return (self.clip.frames, 1, *self.clip.size)
        return (self.image.channels, *self.image.size) if kind == "image" else (1, *self.grid)

    def fingerprint(self, *, transform_version: int = TRANSFORM_VERSION) -> str:
        """Digest of what decides a stored voxel, and of which transforms: 16 hexadecimal digits."""
        decisive = self.model_dump(mode="json", exclude={"quality", "modalities"})
        return digest({"transform_version": transform_version, **decisive})[:16]

    def unlike(self, fingerprint: str) -> str:
        """How this recipe differs from one of another fingerprint, and what to do for one store, as two clauses."""
        for version in range(1, TRANSFORM_VERSION):
            if self.fingerprint(transform_version=version) == fingerprint:
                return (
                    f"its rows were made by transform version {version}, this program makes them by version "
                    f"{TRANSFORM_VERSION}; keep that store as it is, and make a new one at another location"
                )
        return (
            f"this recipe's is {self.fingerprint()}; use the recipe in its store.json, or another location for the "
            "store"
        )


def digest(value: Mapping[str, Any]) -> str:
    """SHA-256 of the value as canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a mapping.

    Raises:
        UsageError: no such file, or not TOML.
    """
    try:
        # Editors put a byte order mark first, which TOML does not know.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such recipe file; check the path") from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: not UTF-8 (byte {error.start} is 0x{error.object[error.start]:02x}; an editor's Unicode is often "
            "UTF-16); save it as UTF-8"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not a TOML file: {error}") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); check the path") from error


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

    A number names a table of a list, counted from 0: `objective.0.temperature=0.1`.

    Raises:
        UsageError: an assignment without `=`, or a key that lies in no table.
    """
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        if not equals:
            raise UsageError(f"--set {assignment}: write key=value, as in --set data.batch_size=16")
        *folders, name = path.strip().split(".")
        here: Any = data
        for folder in folders:
            if isinstance(here, list) and folder.isdecimal() and int(folder) < len(here):
                here = here[int(folder)]
            else:
                here = here.setdefault(folder, {}) if isinstance(here, dict) else None
        if not isinstance(here, dict):
            raise UsageError(
                f"--set {assignment}: {'.'.join(folders)} is no table of the recipe; a table of a list is named by its "
                "number, counted from 0, for example objective.0.weight=2"
            )
        try:
            here[name] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            here[name] = value.strip()
    return data


def _first_fault(model: type[BaseModel], error: ValidationError) -> str:
    fault = error.errors()[0]
    keys, known = _locate(model, fault["loc"])
    path = ".".join(keys)
    if fault["type"] == "extra_forbidden":
        return f"unknown key {path!r}; {_hint(keys[-1], known, 'known keys')}"
    if fault["type"] == "union_tag_invalid":
        tag, tags = str(fault["ctx"]["tag"]), fault["ctx"]["expected_tags"].replace("'", "").split(", ")
        return f"{path}: unknown {fault['ctx']['discriminator'].strip(chr(39))} {tag!r}; {_hint(tag, tags, 'known')}"
    return f"{path or 'recipe'}: {fault['msg'][0].lower()}{fault['msg'][1:]} (got {fault.get('input')!r})"


def _hint(wrong: str, known: Sequence[str], title: str) -> str:
    near = difflib.get_close_matches(wrong, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"{title}: {', '.join(sorted(known))}"


def _locate(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[list[str], list[str]]:
    """The keys that lead to a fault as the recipe spells them, and the known keys of the table that holds the last.

    Where a table may be one of several models, pydantic puts the one it chose into the location; no recipe spells it.
    """
    keys: list[str] = []
    known: list[str] = list(model.model_fields)
    here: Any = model
    for part in location:
        choices = {name: choice for choice in _models(here) for name in _tags(choice)}
        if str(part) in choices and isinstance(part, str):
            here = choices[str(part)]
            known = list(here.model_fields)
            continue
        keys.append(str(part))
        if isinstance(here, type) and issubclass(here, BaseModel):
            known = list(here.model_fields)
            field = here.model_fields.get(str(part))
            here = None if field is None else field.annotation
    return keys, known


def _models(annotation: Any) -> list[type[BaseModel]]:
    """All recipe models named in an annotation such as `tuple[A | B, ...]`; none for a model itself."""
    inner = get_args(annotation)
    return [part for part in inner if isinstance(part, type) and issubclass(part, BaseModel)] + [
        found for part in inner for found in _models(part)
    ]


def _tags(model: type[BaseModel]) -> tuple[str, ...]:
    """What a model's `name` may be, when it tells the models of a union apart."""
    field = model.model_fields.get("name")
    return tuple(str(tag) for tag in get_args(field.annotation)) if field is not None else ()
