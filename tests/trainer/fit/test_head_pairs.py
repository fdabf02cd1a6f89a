"""The head is fitted on the differences of the listed visits, and rescans are stable."""

from pathlib import Path

import numpy as np

from tests.support.cohorts import MODALITY, default_scans, tiny_recipe, write_store
from trainer.data.cohort import read_cohort
from trainer.fit.head_pairs import head_pairs


def test_differences_and_labels_are_those_of_every_earlier_and_later_visit_and_of_each_rescan(tmp_path: Path) -> None:
    cohort = read_cohort(write_store(tmp_path, default_scans(num_subjects=3, odd=False)), MODALITY, "mmse")
    embeddings = np.random.default_rng(0).normal(size=(len(cohort), 4))
    differences, labels = head_pairs(embeddings, cohort, tiny_recipe())
    expected: list[tuple[np.ndarray, int]] = []
    for subject, label in (("sub-00", 2), ("sub-01", 1), ("sub-02", 0)):  # they fall, stay and rise by 3 points
        rows = [row for row, name in enumerate(cohort.subject_ids) if name == subject]
        first_of_day = {cohort.days_N[row]: row for row in reversed(rows)}
        visits = [first_of_day[day] for day in sorted(first_of_day)]
        expected += [(embeddings[b] - embeddings[a], label) for i, a in enumerate(visits) for b in visits[i + 1 :]]
        repeats = [row for row in rows if row not in visits]
        expected += [(embeddings[row] - embeddings[first_of_day[cohort.days_N[row]]], 1) for row in repeats]
    found = sorted(zip(differences.tolist(), labels.tolist(), strict=True))
    assert found == sorted((one.tolist(), label) for one, label in expected)
    assert len(found) == 3 * 3 + 2


def test_the_recipe_chooses_consecutive_visits(tmp_path: Path) -> None:
    cohort = read_cohort(
        write_store(tmp_path, default_scans(num_subjects=3, rescans=False, odd=False)), MODALITY, "mmse"
    )
    embeddings = np.zeros((len(cohort), 4))
    assert len(head_pairs(embeddings, cohort, tiny_recipe(head={"pairs": "consecutive"}))[1]) == 3 * 2
