"""The scans of one modality, or the visits with several, as arrays: what splits, pairs and batches are made from."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from preprocess.equal_content import Groups, equal_scans, persons_together, summary
from preprocess.errors import StoreError
from preprocess.index import IndexRecord, subject_of
from preprocess.store import Store

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
_REPEAT = re.compile(r"(run-)?\d+")
"""BIDS writes `run-2`, tables often the bare number."""


@dataclass(frozen=True)
class Cohort:
    """Scans that are present in the store, ordered by subject, day, session and run.

    With several modalities a scan is a visit: subject, session and run, which share one row of all modalities.

    Attributes:
        rows_N: index on the store's first axis.
        subject_ids: the person, one a scan: with the cohort's name in front where it has one, see `IndexRecord.person`.
        days_N: days since the subject's first visit, NaN where unknown.
        scores_N: the outcome's score, NaN where unknown.
        scanners: scanner name, empty where unknown.
        sessions: session and run, for messages and tables.
        present_NM: which visit has which modality; None for the scans of one modality.
        acquisitions: what distinguishes scans of one session beside repeats, for example `zone-left`.
        together: persons of whom scans have equal content, in any modality; no split may come between them.
        note: one line that says how many scans have equal content; empty when none has.
    """

    rows_N: Rows
    subject_ids: tuple[str, ...]
    days_N: Floats
    scores_N: Floats
    scanners: tuple[str, ...]
    sessions: tuple[str, ...]
    present_NM: Flags | None = None
    acquisitions: tuple[str, ...] | None = None
    together: tuple[frozenset[str], ...] = ()
    note: str = ""

    def __len__(self) -> int:
        return len(self.rows_N)

    def of_subjects(self, subject_ids: Collection[str]) -> "Cohort":
        """The part whose subjects are given."""
        chosen = frozenset(subject_ids)
        return self.at([index for index, subject_id in enumerate(self.subject_ids) if subject_id in chosen])

    def scored(self) -> "Cohort":
        """The scans whose score is known."""
        return self.at(np.flatnonzero(~np.isnan(self.scores_N)).tolist())

    def at(self, keep: list[int]) -> "Cohort":
        """The scans at these indices."""
        return replace(
            self,
            rows_N=self.rows_N[keep],
            subject_ids=tuple(self.subject_ids[index] for index in keep),
            days_N=self.days_N[keep],
            scores_N=self.scores_N[keep],
            scanners=tuple(self.scanners[index] for index in keep),
            sessions=tuple(self.sessions[index] for index in keep),
            present_NM=None if self.present_NM is None else self.present_NM[keep],
            acquisitions=None if self.acquisitions is None else tuple(self.acquisitions[index] for index in keep),
        )

    @property
    def presence_NM(self) -> Flags:
        """Which visit has which modality; every scan of one modality has it."""
        return np.ones((len(self), 1), dtype=np.bool_) if self.present_NM is None else self.present_NM

    @cached_property
    def indices_by_subject(self) -> dict[str, list[int]]:
        """Indices of each subject's scans in this cohort's arrays, in order of day."""
        indices: dict[str, list[int]] = {}
        for index, subject_id in enumerate(self.subject_ids):
            indices.setdefault(subject_id, []).append(index)
        return indices

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Each scan's person as plots name it: the subject alone where all scans are of one cohort."""
        several = len({person.removesuffix(subject_of(person)) for person in self.subject_ids}) > 1
        return self.subject_ids if several else tuple(map(subject_of, self.subject_ids))

    @cached_property
    def group_of(self) -> dict[str, str]:
        """One name for all persons that are kept together: a person's own, where nobody shares content with it."""
        shared = {person: min(group) for group in self.together for person in group}
        return {person: shared.get(person, person) for person in self.indices_by_subject}

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """The group of each scan's person: what is drawn, resampled and divided as one."""
        return tuple(self.group_of[person] for person in self.subject_ids)

    @cached_property
    def subject_codes_N(self) -> Rows:
        """Groups as whole numbers, equal where the group is: objectives take no scan of it for a stranger's."""
        codes = {group: code for code, group in enumerate(dict.fromkeys(self.groups))}
        return np.array([codes[group] for group in self.groups], dtype=np.int64)


def read_cohort(store: Store, modality: str, outcome: str) -> Cohort:
    """The present scans of a modality with one outcome's scores, all unknown in a store without any outcome.

    Of scans with equal content the first is used, by person and day: see `_each_content_once`.

    Raises:
        StoreError: the store has no such modality, no scan of it, or other outcomes only.
    """
    store.layout(modality)
    _require_outcome(store, outcome)
    records = [record for record in store.records if record.present and record.modality == modality]
    if not records:
        raise StoreError(f"{store.location.uri}: every {modality} scan was left out; see the findings in its index")
    unknown = float("nan")
    records.sort(key=lambda record: _order(record, record.day))
    equal = equal_scans(store.records, store.manifest.arrays)
    records = _each_content_once(records, equal)
    return Cohort(
        rows_N=np.array([record.row for record in records], dtype=np.int64),
        subject_ids=tuple(record.person for record in records),
        days_N=np.array([unknown if record.day is None else record.day for record in records]),
        scores_N=np.array([record.outcomes.get(outcome, unknown) for record in records]),
        scanners=tuple(record.scanner for record in records),
        sessions=tuple(_session(record) for record in records),
        acquisitions=tuple(_acquisition(record) for record in records),
        together=persons_together(equal),
        note=_note(equal),
    )


def read_visits(store: Store, modalities: Sequence[str], outcome: str) -> Cohort:
    """The visits that have at least one of several modalities, with one outcome's scores.

    Of scans with equal content the first is used, by person and day; other visits lack the modality.

    Args:
        store: whose index is read.
        modalities: in the order of the axis M.
        outcome: name of the score.

    Raises:
        StoreError: a modality is unknown or nobody has it, the store has other outcomes only, or the modalities of a
            visit stand in different rows or have different days or scores.
    """
    for modality in modalities:
        store.layout(modality)
    _require_outcome(store, outcome)
    equal = equal_scans(store.records, store.manifest.arrays)
    chosen = [record for record in store.records if record.present and record.modality in modalities]
    once = _each_content_once(sorted(chosen, key=lambda record: _order(record, record.day)), equal)
    used = {(record.row, record.modality) for record in once}
    by_visit: dict[tuple[str, str, str], list[IndexRecord]] = {}
    for record in chosen:
        if (record.row, record.modality) in used:
            by_visit.setdefault((record.person, record.session_id, record.run), []).append(record)
    visits = [
        (records, _only_value(store, records, "day", (one.day for one in records))) for records in by_visit.values()
    ]
    visits.sort(key=lambda visit: _order(visit[0][0], visit[1]))
    present_NM = np.array(
        [[any(one.modality == modality for one in records) for modality in modalities] for records, _ in visits],
        dtype=np.bool_,
    ).reshape(len(visits), len(modalities))
    for column, modality in enumerate(modalities):
        if not present_NM[:, column].any():
            raise StoreError(
                f"{store.location.uri}: every {modality} scan was left out; see the findings in its index, or leave "
                "it out of data.modalities"
            )
    firsts = [records[0] for records, _ in visits]
    scores = [
        _only_value(store, records, outcome, (one.outcomes.get(outcome) for one in records)) for records, _ in visits
    ]
    for records, _ in visits:
        _only_value(store, records, "row", (one.row for one in records))
    return Cohort(
        rows_N=np.array([record.row for record in firsts], dtype=np.int64),
        subject_ids=tuple(record.person for record in firsts),
        days_N=np.array([np.nan if day is None else day for _, day in visits], dtype=np.float64),
        scores_N=np.array([np.nan if score is None else score for score in scores], dtype=np.float64),
        scanners=tuple(record.scanner for record in firsts),
        sessions=tuple(_session(record) for record in firsts),
        present_NM=present_NM,
        acquisitions=tuple(_acquisition(record) for record in firsts),
        together=persons_together(equal),
        note=_note(equal),
    )


def _require_outcome(store: Store, outcome: str) -> None:
    if store.manifest.outcomes and outcome not in store.manifest.outcomes:
        known = ", ".join(store.manifest.outcomes)
        raise StoreError(
            f"{store.location.uri}: no outcome {outcome!r} in the index; it has {known}; set outcome.name, "
            "outcome.higher_is_better and outcome.threshold in the recipe"
        )


def _order(record: IndexRecord, day: float | None) -> tuple[str, float, str, str]:
    return (record.person, float("inf") if day is None else day, record.session_id, record.run)


def _session(record: IndexRecord) -> str:
    return "_".join(part for part in (record.session_id, record.run) if part)


def _acquisition(record: IndexRecord) -> str:
    """The run without the number of a repeat: scans of one day that differ in more are no rescans of each other."""
    return "_".join(part for part in record.run.split("_") if part and not _REPEAT.fullmatch(part))


def _each_content_once(records: Sequence[IndexRecord], equal: Groups) -> list[IndexRecord]:
    """The records, of equal scans of one modality only the first.

    A copy shows nothing new: beside its original it is a pair without change, a rescan without noise, or a stranger at
    no distance, and which of its dates and scores is right is not known.
    """
    group_of = {(one.row, one.modality): number for number, group in enumerate(equal) for one in group}
    seen: set[tuple[int, str]] = set()
    once = []
    for record in records:
        group = group_of.get((record.row, record.modality))
        if group is None or (group, record.modality) not in seen:
            once.append(record)
        if group is not None:
            seen.add((group, record.modality))
    return once


def _note(equal: Groups) -> str:
    text = summary(equal)
    return text and f"{text}; each content is used once, and these persons are kept on one side of the split"


def _only_value(
    store: Store, records: Sequence[IndexRecord], what: str, values: Iterable[float | None]
) -> float | None:
    """What the modalities of a visit agree on; None where none of them knows."""
    known = {value for value in values if value is not None}
    if len(known) > 1:
        raise StoreError(
            f"{store.location.uri}: {records[0].person} {_session(records[0])}: its modalities have {what} "
            f"{', '.join(f'{value:g}' for value in sorted(known))}; a visit has one: correct the table and preprocess "
            "again"
        )
    return known.pop() if known else None
