"""The scans of one modality, or the visits with several, as arrays: what splits, pairs and batches are made from."""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from preprocess.equal_content import Groups, equal_in_index, equal_scans, persons_together, summary
from preprocess.errors import StoreError
from preprocess.index import IndexRecord, person_of, subject_of
from preprocess.schema import OUTCOME_PREFIX
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

    Of scans with equal content the first is used, by person and day: see `_is_first_of_its_content`.

    Raises:
        StoreError: the store has no such modality, or no scan of it.
    """
    store.layout(modality)
    scans = store.index.filter(pc.and_(store.index["present"], pc.equal(store.index["modality"], modality)))
    if not len(scans):
        raise StoreError(f"{store.location.uri}: every {modality} scan was left out; see the findings in its index")
    # By columns: a million scans as records would take a minute to make and gigabytes to hold.
    person_N, persons = _joined_column(scans, ("cohort", "subject_id"), person_of)
    day_N = _numbers(scans, "day")
    columns = (_codes(scans, name) for name in ("session_id", "run"))
    session_N, run_N = (_ranks(values)[code_N] for code_N, values in columns)
    order_N = np.lexsort((run_N, session_N, np.where(np.isnan(day_N), np.inf, day_N), _ranks(persons)[person_N]))
    equal = equal_in_index(store.index, store.manifest.arrays)
    row_N = scans["row"].to_numpy()
    order_N = order_N[_is_first_of_its_content(row_N[order_N], modality, equal)]
    visit_N, sessions = _joined_column(scans, ("session_id", "run"), _session_name)
    kind_N, acquisitions = _joined_column(scans, ("run",), _acquisition_name)
    scanner_N, scanners = _codes(scans, "scanner")
    return Cohort(
        rows_N=row_N[order_N],
        subject_ids=tuple(persons[code] for code in person_N[order_N].tolist()),
        days_N=day_N[order_N],
        scores_N=_numbers(scans, OUTCOME_PREFIX + outcome)[order_N],
        scanners=tuple(scanners[code] for code in scanner_N[order_N].tolist()),
        sessions=tuple(sessions[code] for code in visit_N[order_N].tolist()),
        acquisitions=tuple(acquisitions[code] for code in kind_N[order_N].tolist()),
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
    equal = equal_scans(store.records, store.manifest.arrays)
    chosen = [record for record in store.records if record.present and record.modality in modalities]
    in_order = sorted(chosen, key=lambda record: _order(record, record.day))
    used: set[tuple[int, str]] = set()
    for modality in modalities:
        row_N = np.array([record.row for record in in_order if record.modality == modality], dtype=np.int64)
        used |= {(row, modality) for row in row_N[_is_first_of_its_content(row_N, modality, equal)].tolist()}
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


def _order(record: IndexRecord, day: float | None) -> tuple[str, float, str, str]:
    return (record.person, float("inf") if day is None else day, record.session_id, record.run)


def _session(record: IndexRecord) -> str:
    return _session_name(record.session_id, record.run)


def _acquisition(record: IndexRecord) -> str:
    return _acquisition_name(record.run)


def _session_name(session_id: str, run: str) -> str:
    return "_".join(part for part in (session_id, run) if part)


def _acquisition_name(run: str) -> str:
    """The run without the number of a repeat: scans of one day that differ in more are no rescans of each other."""
    return "_".join(part for part in run.split("_") if part and not _REPEAT.fullmatch(part))


def _codes(scans: pa.Table, name: str) -> tuple[Rows, list[str]]:
    """A column of texts as codes (N,) and the text of each code."""
    encoded = scans[name].combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary.to_pylist()


def _joined_column(scans: pa.Table, names: Sequence[str], join: Callable[..., str]) -> tuple[Rows, list[str]]:
    """Several columns of texts as one: codes (N,), and what `join` makes of the texts of each."""
    columns = [_codes(scans, name) for name in names]
    together_N, *code_NC = np.unique(np.stack([code_N for code_N, _ in columns]), axis=1, return_inverse=True)
    texts = [join(*(values[code] for code, (_, values) in zip(codes, columns, strict=True))) for codes in together_N.T]
    return code_NC[0].reshape(-1), texts


def _ranks(values: Sequence[str]) -> Rows:
    """The place of each text among all in order."""
    rank = np.empty(len(values), dtype=np.int64)
    rank[sorted(range(len(values)), key=values.__getitem__)] = np.arange(len(values))
    return rank


def _numbers(scans: pa.Table, name: str) -> Floats:
    """A column of numbers, NaN where unknown or where the index has no such column."""
    if name not in scans.column_names:
        return np.full(len(scans), np.nan)
    return np.asarray(scans[name].to_numpy(), dtype=np.float64)


def _is_first_of_its_content(row_N: Rows, modality: str, equal: Groups) -> Flags:
    """Which scans of one modality, in this order, are the first of their content.

    A copy shows nothing new: beside its original it is a pair without change, a rescan without noise, or a stranger at
    no distance, and which of its dates and scores is right is not known.
    """
    group_of = {one.row: number for number, group in enumerate(equal) for one in group if one.modality == modality}
    is_first_N, seen = np.ones(len(row_N), dtype=np.bool_), set()
    for index in np.flatnonzero(np.isin(row_N, list(group_of))).tolist():
        group = group_of[int(row_N[index])]
        is_first_N[index] = group not in seen
        seen.add(group)
    return is_first_N


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
