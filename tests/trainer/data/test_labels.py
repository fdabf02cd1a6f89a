"""Labels are those of the scans that a batch names, subject by subject, and unknown ones stay unknown."""

from pathlib import Path

import numpy as np
import torch

from tests.support.cohorts import MODALITY, TinyScan, write_store
from trainer.data.cohort import read_cohort
from trainer.data.labels import Labels


def test_labels_follow_the_indices_of_a_batch(tmp_path: Path) -> None:
    scans = [
        TinyScan("sub-a", "ses-1", 0.0, 29.0),
        TinyScan("sub-a", "ses-2", 400.0, 26.5),
        TinyScan("sub-b", "ses-1", 0.0, None),
        TinyScan("sub-b", "ses-2", None, 20.0),
    ]
    cohort = read_cohort(write_store(tmp_path, scans), MODALITY, "mmse")
    indices = cohort.indices_by_subject
    labels = Labels.of(cohort, np.array([indices["sub-b"], indices["sub-a"]]), torch.device("cpu"))
    nan = float("nan")
    expected_scores = torch.tensor([[nan, 20.0], [29.0, 26.5]])
    expected_days = torch.tensor([[0.0, nan], [0.0, 400.0]])
    torch.testing.assert_close(labels.scores_BK, expected_scores, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(labels.days_BK, expected_days, rtol=0, atol=0, equal_nan=True)
    assert labels.subjects_B.tolist() == [1, 0]
