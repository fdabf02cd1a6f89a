"""Scans of equal content: which they are, whose, and the finding that each of them carries; pure.

One scan under two ids makes a test subject of a training subject, a difference between people of none, and a noise
floor of zero. Digests of the stored voxels and of the files tell, whatever the scans are called.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from preprocess.index import IndexRecord, from_table, listed, naming
from preprocess.types import Finding

EQUAL_CONTENT = "equal_content"
"""Code of the finding."""
MIN_VALUES = 32
"""A row of fewer numbers is not compared: two people may well have the same age, sex and three scores."""

Groups = list[tuple[IndexRecord, ...]]
Shapes = Mapping[str, tuple[int, ...]]
"""Shape of each modality's array, rows first, as in store.json."""


def equal_scans(records: Iterable[IndexRecord], shapes: Shapes) -> Groups:
    """Groups of present scans with equal voxels or equal files, of whatever person, session, modality and cohort.

    Args:
        records: the index.
        shapes: shape of each modality's array; rows of fewer than `MIN_VALUES` numbers are passed over.

    Returns:
        Groups of two or more, each in the order of rows, ordered by their first scan.
    """
    compared = sorted(
        (record for record in records if record.present and _can_tell(shapes.get(record.modality))),
        key=lambda record: (record.row, record.modality),
    )
    by_digest: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, record in enumerate(compared):
        for what, digest in (("content", record.content_sha256), ("source", record.source_sha256)):
            if digest:
                by_digest[what, digest].append(index)
    return [tuple(compared[index] for index in group) for group in _joined(by_digest.values(), len(compared))]


def equal_in_index(index: pa.Table, shapes: Shapes) -> Groups:
    """As `equal_scans`, of an index as it is stored: only scans whose digest occurs twice become records.

    Args:
        index: the whole index, as `Store.index` has it.
        shapes: shape of each modality's array, as in store.json.
    """
    modalities = pa.array([name for name, shape in shapes.items() if _can_tell(shape)], type=pa.string())
    compared = index.filter(pc.and_(index["present"], pc.is_in(index["modality"], modalities)))
    is_repeated = np.zeros(len(compared), dtype=np.bool_)
    for name in ("content_sha256", "source_sha256"):
        digest = compared[name].combine_chunks().dictionary_encode()
        code_N = digest.indices.to_numpy(zero_copy_only=False)
        is_known_N = np.asarray(pc.not_equal(compared[name], ""))
        is_repeated |= is_known_N & (np.bincount(code_N, minlength=1)[code_N] > 1)
    return equal_scans(from_table(compared.filter(pa.array(is_repeated))), shapes)


def persons_together(groups: Groups) -> tuple[frozenset[str], ...]:
    """Persons that share content with each other, directly or through others; each group has two or more."""
    shared = [sorted({record.person for record in group}) for group in groups]
    names = sorted({person for persons in shared for person in persons})
    index_of = {person: index for index, person in enumerate(names)}
    joined = _joined([[index_of[person] for person in persons] for persons in shared], len(names))
    return tuple(frozenset(names[index] for index in group) for group in joined)


def with_findings(records: Sequence[IndexRecord], shapes: Shapes) -> list[IndexRecord]:
    """The records, each scan with an equal naming it in a warning; warnings of an earlier time are replaced.

    Args:
        records: the whole index, so that scans appended today show at those stored before.
        shapes: shape of each modality's array; as in `equal_scans`.
    """
    plain = {_key(record): _without_warning(record) for record in records}
    name = naming(records)
    for group in equal_scans(plain.values(), shapes):
        for record in group:
            others = listed([name(other) for other in group if other is not record])
            message = (
                f"{name(record)}: equal content with {others}; used once in training; delete or correct the copies"
            )
            findings = (*record.findings, Finding(EQUAL_CONTENT, message, leaves_out=False))
            plain[_key(record)] = replace(record, findings=findings)
    return [plain[_key(record)] for record in records]


def summary(groups: Groups) -> str:
    """One line that counts them; empty when there are none."""
    if not groups:
        return ""
    num_scans = sum(map(len, groups))
    num_persons = len({record.person for group in groups for record in group})
    people = "1 person" if num_persons == 1 else f"{num_persons} persons"
    return f"{num_scans} scans of {people} have equal content ({len(groups)} different)"


def equal_lines(groups: Groups, *, shown: int = 20) -> list[str]:
    """What a person reads of them: a line for each of the first groups, then one that counts them all."""
    name = naming([record for group in groups for record in group])
    lines = [f"equal content: {listed([name(record) for record in group])}" for group in groups[:shown]]
    if len(groups) > shown:
        lines.append(f"and {len(groups) - shown} more groups of equal content")
    return [*lines, summary(groups)] if groups else []


def _without_warning(record: IndexRecord) -> IndexRecord:
    return replace(record, findings=tuple(one for one in record.findings if one.code != EQUAL_CONTENT))


def _key(record: IndexRecord) -> tuple[int, str]:
    return (record.row, record.modality)


def _can_tell(shape: tuple[int, ...] | None) -> bool:
    return shape is not None and math.prod(shape[1:]) >= MIN_VALUES


def _joined(edges: Iterable[Sequence[int]], num: int) -> list[list[int]]:
    """Numbers below `num` that are linked by the edges, directly or through others; groups of two and more."""
    ends = [(edge[0], other) for edge in edges for other in edge[1:]]
    if not ends:
        return []
    first, second = np.array(ends).T
    _, group_N = connected_components(coo_array((np.ones(len(ends)), (first, second)), shape=(num, num)), False)
    members: dict[int, list[int]] = defaultdict(list)
    for index, group in enumerate(group_N.tolist()):
        members[group].append(index)
    return [group for group in members.values() if len(group) > 1]
