"""What became of each person of a study: kept, left out with the reason, or in tables only. Pure.

Everybody whom a folder or a table names is counted once, so that found is kept + left out by reason for people as it is
for scans.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from preprocess.sources.reconciliation import CODES, Reconciliation
from preprocess.types import Scan

KEPT = "kept with scores"
WITHOUT_SCORES = "kept without scores"
TABLES_ONLY = "no scan, only in tables"
OTHER_SCANS = "no scan of a requested modality"
LEFT_OUT = "left out"


def sort_people(
    scans: Sequence[Scan], account: Reconciliation, in_tables: Collection[str], person_of: Callable[[str], str]
) -> dict[str, str]:
    """What became of each person, by id and in its order.

    Args:
        scans: those that are listed.
        account: the study's; files that were passed over name their people.
        in_tables: everybody whom a table names.
        person_of: the person whom a text such as a path names; empty for none.
    """
    found = dict.fromkeys(in_tables, TABLES_ONLY)
    passed = account.part("passed_over")
    # Each line outranks those above it: one kept scan is enough to be kept.
    found |= {person: OTHER_SCANS for one in passed if (person := person_of(one.name))}
    lost = [(person, one) for one in reversed(passed) if one.leaves_out and (person := person_of(one.name))]
    found |= {person: f"{LEFT_OUT}, {CODES[one.code][1]}" for person, one in lost}
    scores: dict[str, bool] = defaultdict(bool)
    for scan in scans:
        scores[person_of(scan.subject_id)] |= bool(scan.outcomes.keys() - {"age"})
    found |= {person: KEPT if has_scores else WITHOUT_SCORES for person, has_scores in scores.items()}
    return dict(sorted(found.items()))


def people_lines(people: Mapping[str, str]) -> list[str]:
    """The account as a table, a line for each thing that became of people; the first is the sum of the others."""
    counts = Counter(people.values())
    if not counts:
        return []
    lines = [("people found", len(people)), *sorted(counts.items(), key=lambda one: (_rank(one[0]), one[0]))]
    width = max(len(text) for text, _ in lines)
    return [f"{text.ljust(width)}  {count:>6}" for text, count in lines]


def people_json(people: Mapping[str, str]) -> dict[str, Any]:
    """The account as JSON values: how many, and who."""
    who: dict[str, list[str]] = defaultdict(list)
    for person, text in people.items():
        who[text].append(person)
    return {"found": len(people), **{text: who[text] for text in sorted(who, key=lambda one: (_rank(one), one))}}


def _rank(text: str) -> int:
    order = (KEPT, WITHOUT_SCORES, LEFT_OUT, OTHER_SCANS, TABLES_ONLY)
    return next(rank for rank, start in enumerate(order) if text.startswith(start))
