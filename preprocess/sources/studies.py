"""Kinds of source that are named and not recognised: each has a lister of its own, which knows the study's layout."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from preprocess.sources import adni_names, oasis3
from preprocess.sources.adni import list_adni
from preprocess.sources.files import Files
from preprocess.sources.listing import Listing
from preprocess.sources.oasis3 import list_oasis3
from preprocess.sources.sentinels import Choice
from preprocess.storage import Location
from preprocess.types import Kind, SourceKind


class StudyLister(Protocol):
    """Lists the scans of one study and joins them to its tables."""

    def __call__(
        self,
        source: Location,
        files: Files,
        modalities: Sequence[str],
        kinds: Mapping[str, Kind],
        choice: Choice,
        *,
        tables: str | None,
        window_days: float | None,
    ) -> Listing:
        """As `list_oasis3`."""


@dataclass(frozen=True, slots=True)
class Study:
    """A kind of source.

    Attributes:
        lister: lists its scans.
        person_of: the person whom a path names, as the study's tables call people; empty for none.
    """

    lister: StudyLister
    person_of: Callable[[str], str]


STUDIES: Mapping[SourceKind, Study] = MappingProxyType(
    {"oasis3": Study(list_oasis3, oasis3.person_of), "adni": Study(list_adni, adni_names.person_of)}
)
"""By kind of source."""
