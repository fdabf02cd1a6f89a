"""Kinds of source that are named and not recognised: each has a lister of its own, which knows the study's layout."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

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


STUDIES: Mapping[SourceKind, StudyLister] = MappingProxyType({"oasis3": list_oasis3, "adni": list_adni})
"""By kind of source."""
