"""The scans of one modality as arrays: what splits, pairs and batches are made from."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from preprocess.errors import StoreError
from preprocess.store import Store

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Cohort:
    """Scans that are present in the store, ordered by subject, day, session and run.

    Attributes:
        rows_N: place on the store's first axis.
        subject_ids: one a scan.
        days_N: days since the subject's first visit, NaN where unknown.
        scores_N: the outcome's score, NaN where unknown.
        scanners: scanner name, empty where unknown.
        sessions: session and run, for messages and tables.
    """

    rows_N: Rows
    subject_ids: tuple[str, ...]
    days_N: Floats
    scores_N: Floats
    scanners: tuple[str, ...]
    sessions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows_N)

    def of_subjects(self, subject_ids: Collection[str]) -> "Cohort":
        """The part whose subjects are given."""
        wanted = frozenset(subject_ids)
        return self.at([place for place, subject_id in enumerate(self.subject_ids) if subject_id in wanted])

    def scored(self) -> "Cohort":
        """The scans whose score is known."""
        return self.at(np.flatnonzero(~np.isnan(self.scores_N)).tolist())

    def at(self, keep: list[int]) -> "Cohort":
        """The scans at these places."""
        return Cohort(
            rows_N=self.rows_N[keep],
            subject_ids=tuple(self.subject_ids[place] for place in keep),
            days_N=self.days_N[keep],
            scores_N=self.scores_N[keep],
            scanners=tuple(self.scanners[place] for place in keep),
            sessions=tuple(self.sessions[place] for place in keep),
        )

    @cached_property
    def places_by_subject(self) -> dict[str, list[int]]:
        """Places in this cohort's arrays of each subject's scans, in order of day."""
        places: dict[str, list[int]] = {}
        for place, subject_id in enumerate(self.subject_ids):
            places.setdefault(subject_id, []).append(place)
        return places

    @cached_property
    def subject_codes_N(self) -> Rows:
        """Subjects as whole numbers, equal where the subject is."""
        codes = {subject_id: code for code, subject_id in enumerate(self.places_by_subject)}
        return np.array([codes[subject_id] for subject_id in self.subject_ids], dtype=np.int64)


def read_cohort(store: Store, modality: str, outcome: str) -> Cohort:
    """The present scans of a modality with one outcome's scores, all unknown in a store without any outcome.

    Raises:
        StoreError: the store has no such modality, no scan of it, or other outcomes only.
    """
    store.layout(modality)
    if store.manifest.outcomes and outcome not in store.manifest.outcomes:
        known = ", ".join(store.manifest.outcomes)
        raise StoreError(
            f"{store.location.uri}: no outcome {outcome!r} in the index; it has {known}; set outcome.name, "
            "outcome.higher_is_better and outcome.threshold in the recipe"
        )
    records = [record for record in store.records if record.present and record.modality == modality]
    if not records:
        raise StoreError(f"{store.location.uri}: every {modality} scan was left out; see the findings in its index")
    unknown = float("nan")
    records.sort(
        key=lambda record: (
            record.subject_id,
            float("inf") if record.day is None else record.day,
            record.session_id,
            record.run,
        )
    )
    return Cohort(
        rows_N=np.array([record.row for record in records], dtype=np.int64),
        subject_ids=tuple(record.subject_id for record in records),
        days_N=np.array([unknown if record.day is None else record.day for record in records]),
        scores_N=np.array([record.outcomes.get(outcome, unknown) for record in records]),
        scanners=tuple(record.scanner for record in records),
        sessions=tuple("_".join(part for part in (record.session_id, record.run) if part) for record in records),
    )
