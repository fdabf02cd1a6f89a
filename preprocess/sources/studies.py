"""Kinds of source that are named and not recognised: each has a lister of its own, which knows the study's layout."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from preprocess.sources import adni, adni_names, oasis3
from preprocess.sources.adni import list_adni
from preprocess.sources.listing import Listing
from preprocess.sources.oasis3 import list_oasis3
from preprocess.sources.study_tables import StudyDownload
from preprocess.types import SourceKind


@dataclass(frozen=True, slots=True)
class Study:
    """A kind of source.

    Attributes:
        lister: lists its scans.
        window_days: greatest distance of a visit from its scan in days, where the user gives none.
        person_of: the person whom a path names, as the study's tables call people; empty for none.
    """

    lister: Callable[[StudyDownload], Listing]
    window_days: float
    person_of: Callable[[str], str]


STUDIES: Mapping[SourceKind, Study] = MappingProxyType(
    {
        "oasis3": Study(list_oasis3, oasis3.WINDOW_DAYS, oasis3.person_of),
        "adni": Study(list_adni, adni.WINDOW_DAYS, adni_names.person_of),
    }
)
"""By kind of source."""
