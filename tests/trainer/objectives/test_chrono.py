"""ChronoCon hands its function days and subjects, and needs no scores."""

import torch

from tests.support.outputs import output_of
from trainer.objectives.chrono import ChronoContrast
from trainer.objectives.losses import chrono_contrast

NAN = float("nan")


def test_chrono_contrast_gets_days_and_subjects_and_no_scores() -> None:
    days = [[0.0, 10.0, 30.0], [0.0, 200.0, 260.0]]
    output = output_of([[NAN] * 3, [NAN] * 3], days)
    value = ChronoContrast(temperature=1.0)(output)
    assert value is not None
    expected = chrono_contrast(
        output.embeddings_BKE.flatten(0, 1), torch.tensor(days).flatten(), torch.tensor([10, 10, 10, 11, 11, 11])
    )
    torch.testing.assert_close(value.loss, expected)
