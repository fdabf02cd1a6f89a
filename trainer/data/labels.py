"""The labels of a batch: whose scans they are, when they were made and what score goes with them."""

from dataclasses import dataclass

import numpy as np
import torch

from trainer.data.cohort import Cohort, Rows


@dataclass(frozen=True, slots=True)
class Labels:
    """What objectives compare embeddings by, for a batch of B subjects with K scans each.

        labels = Labels.of(cohort, indices_BK, torch.device("cpu"))
        loss, values = step.gradients(scans, labels)

    Attributes:
        scores_BK: raw scores, float32, NaN where unknown.
        subjects_B: subjects as whole numbers.
        days_BK: days since the subject's first visit, float32, NaN where unknown.
    """

    scores_BK: torch.Tensor
    subjects_B: torch.Tensor
    days_BK: torch.Tensor

    @classmethod
    def of(cls, cohort: Cohort, indices_BK: Rows, device: torch.device) -> "Labels":
        """The labels of a cohort's scans.

        Args:
            cohort: the training scans.
            indices_BK: indices in the cohort, each row those of one subject.
            device: where the labels go.
        """

        def floats(values_N: np.ndarray) -> torch.Tensor:
            return torch.as_tensor(values_N[indices_BK], dtype=torch.float32, device=device)

        subjects_B = torch.as_tensor(cohort.subject_codes_N[indices_BK[:, 0]], device=device)
        return cls(floats(cohort.scores_N), subjects_B, floats(cohort.days_N))
