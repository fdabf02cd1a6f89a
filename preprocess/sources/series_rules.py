"""Rules in TOML that choose the DICOM series of a session and modality: what it must be, and which of several is best.

A rule never guesses: a series that it does not take has a code and a reason, and what an anonymiser removed decides
nothing. Pure but for reading the file.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from preprocess.errors import UsageError
from preprocess.recipe import Recipe, parse, read_toml

DEFAULT_RULES = Path(__file__).with_name("series_rules.toml")
_Range = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]
_PLAIN = ("original", "most_slices", "finest", "first", "last")


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """What rules decide by.

    Attributes:
        modality: DICOM Modality, such as `MR`.
        texts: description and protocol name; empty ones were removed or never given.
        image_types: values of ImageType of all its images, in capitals.
        plane: `axial`, `coronal`, `sagittal`, or empty where unknown.
        num_slices: slices at different places.
        slice_spacing_mm: distance of neighbours; None where unknown.
        voxel_mm3: size of a voxel; None where unknown.
        acquisition: `2D`, `3D` or empty.
        echo_time_ms: None where it was removed.
        has_contrast: whether a contrast agent is named.
        number: SeriesNumber.
    """

    modality: str
    texts: tuple[str, ...] = field(repr=False)
    image_types: frozenset[str]
    plane: str
    num_slices: int
    slice_spacing_mm: float | None
    voxel_mm3: float | None
    acquisition: str
    echo_time_ms: float | None
    has_contrast: bool
    number: int


class SeriesRule(Recipe):
    """What a series must be to be the scan of a modality.

    Attributes:
        modality: BIDS suffix of the scans, as `--modality` names it.
        scanner: DICOM Modality of the series.
        name: patterns of which one must be found in the description or the protocol name.
        not_name: patterns of which none may be found there.
        unnamed: whether a series without description and protocol name may be one.
        image_type: values that ImageType must all have.
        not_image_type: values that ImageType must not have.
        acquisition: values of MRAcquisitionType of which it must have one; any where none is given.
        orientation: planes of which it must be one; any where none is given.
        contrast: whether a series after a contrast agent may be one.
        echo_time_ms: least and greatest echo time.
        slice_spacing_mm: least and greatest distance of slices.
        min_slices: least number of slices.
        prefer: what decides between several, the first that differs: `original`, `most_slices`, `finest` (voxels),
            `first` or `last` (number), `image_type:VALUE`, `name:PATTERN`.
    """

    modality: Annotated[str, Field(pattern="^[A-Za-z0-9]+$")]
    scanner: str = "MR"
    name: tuple[str, ...] = ()
    not_name: tuple[str, ...] = ()
    unnamed: bool = False
    image_type: tuple[str, ...] = ()
    not_image_type: tuple[str, ...] = ()
    acquisition: tuple[str, ...] = ()
    orientation: tuple[Literal["axial", "coronal", "sagittal"], ...] = ()
    contrast: bool = False
    echo_time_ms: _Range | None = None
    slice_spacing_mm: _Range | None = None
    min_slices: int = Field(default=2, ge=2)
    prefer: tuple[str, ...] = ("original", "most_slices", "finest", "last")

    @field_validator("name", "not_name")
    @classmethod
    def _are_patterns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            _require_pattern(pattern)
        return patterns

    @field_validator("prefer")
    @classmethod
    def _are_preferences(cls, preferences: tuple[str, ...]) -> tuple[str, ...]:
        for one in preferences:
            kind, _, value = one.partition(":")
            if one not in _PLAIN and (kind not in ("image_type", "name") or not value):
                raise ValueError(f"{one!r} is none of {', '.join(_PLAIN)}, image_type:VALUE, name:PATTERN")
            if kind == "name":
                _require_pattern(value)
        return preferences

    def fault(self, facts: SeriesFacts) -> tuple[str, str] | None:
        """Why a series is not one of this modality: a code and a clause with the remedy; None where it may be one."""
        if facts.image_types & {"LOCALIZER"} & set(self.not_image_type):
            return "localizer", "a localizer (ImageType)"
        wrong = sorted(facts.image_types & {one.upper() for one in self.not_image_type})
        if wrong:
            return "derived_series", f"ImageType has {wrong[0]}, made from other images or no magnitude"
        missing = [one for one in self.image_type if one.upper() not in facts.image_types]
        if missing:
            return "series_unlike", f"ImageType has no {missing[0]}"
        texts = [text for text in facts.texts if text]
        if any(re.search(pattern, text, re.IGNORECASE) for pattern in self.not_name for text in texts):
            return "series_unlike", "its name is that of another sort of series (not_name)"
        if not texts and self.name and not self.unnamed:
            return "series_unlike", "it has no name, and the rule does not take such (unnamed)"
        if texts and self.name and not _is_named(self.name, texts):
            return "series_unlike", "its name fits no pattern (name)"
        return self._measured_fault(facts)

    def _measured_fault(self, facts: SeriesFacts) -> tuple[str, str] | None:
        if facts.has_contrast and not self.contrast:
            return "contrast_given", "a contrast agent was given; keep such scans apart"
        if facts.acquisition and self.acquisition and facts.acquisition not in self.acquisition:
            return "series_unlike", f"MRAcquisitionType {facts.acquisition}, expected {' or '.join(self.acquisition)}"
        if facts.plane and self.orientation and facts.plane not in self.orientation:
            return "series_unlike", f"slices are {facts.plane}, expected {' or '.join(self.orientation)}"
        for what, value, limits in (
            ("echo time", facts.echo_time_ms, self.echo_time_ms),
            ("slice spacing", facts.slice_spacing_mm, self.slice_spacing_mm),
        ):
            if value is not None and limits is not None and not limits[0] <= value <= limits[1]:
                unit = "ms" if what == "echo time" else "mm"
                return "series_unlike", f"{what} {value:.3g} {unit}, expected {limits[0]:g} to {limits[1]:g} {unit}"
        if facts.num_slices < self.min_slices:
            many = f"{facts.num_slices} slices, fewer than {self.min_slices}"
            return "too_few_slices", f"{many}; export all of it, or lower min_slices in the rules"
        return None

    def rank(self, facts: SeriesFacts) -> tuple[float, ...]:
        """Sorts several series of one session and modality: the lowest is the best."""
        return (*(self._rank(one, facts) for one in self.prefer), facts.number)

    def _rank(self, preference: str, facts: SeriesFacts) -> float:
        kind, _, value = preference.partition(":")
        if kind == "image_type":
            return float(value.upper() not in facts.image_types)
        if kind == "name":
            return float(not _is_named((value,), [text for text in facts.texts if text]))
        ranks = {
            "original": float("DERIVED" in facts.image_types),
            "most_slices": -float(facts.num_slices),
            "finest": facts.voxel_mm3 if facts.voxel_mm3 is not None else float("inf"),
            "first": float(facts.number),
            "last": -float(facts.number),
        }
        return ranks[preference]


class SeriesRules(Recipe):
    """The rules of one file.

    Attributes:
        series: one a modality.
    """

    series: tuple[SeriesRule, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_a_modality(self) -> Self:
        names = [rule.modality for rule in self.series]
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated is not None:
            raise ValueError(f"two rules for {repeated}; join them")
        return self

    def of(self, modalities: Sequence[str], *, where: str) -> tuple[SeriesRule, ...]:
        """The rules of these modalities, in their order.

        Raises:
            UsageError: there is none for one of them.
        """
        known = {rule.modality: rule for rule in self.series}
        for modality in modalities:
            if modality not in known:
                raise UsageError(
                    f"{where}: no rule for {modality} (there: {', '.join(known)}); add a [[series]] with modality = "
                    f'"{modality}" to a file and give it with --series-rules'
                )
        return tuple(known[modality] for modality in modalities)


def read_rules(path: Path | None = None) -> SeriesRules:
    """The rules of a file, or those that ship with interscan.

    Raises:
        UsageError: no such file, no TOML, or a wrong key or value; one line.
    """
    file = DEFAULT_RULES if path is None else path
    return parse(SeriesRules, read_toml(file), where=str(file))


def _require_pattern(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression ({error})") from error


def _is_named(patterns: Sequence[str], texts: Sequence[str]) -> bool:
    return any(re.search(pattern, text, re.IGNORECASE) for pattern in patterns for text in texts)
