"""SupReMix hands its function the embeddings of scored scans, with binned scores."""

import torch

from tests.support.outputs import two_views_of
from trainer.objectives.losses import supremix
from trainer.objectives.supremix import SupReMix

NAN = float("nan")


def test_supremix_gets_embeddings_of_scored_scans_with_their_bins() -> None:
    output = two_views_of(60.2, 64.0, NAN, 67.9)
    term = SupReMix(temperature=0.2, window=5.0, bin_width=2.0, mix_positives=True, mix_negatives=True, magnify=True)
    torch.manual_seed(1)
    value = term(output)
    assert value is not None
    torch.manual_seed(1)
    expected = supremix(output.embeddings_BKE[[0, 1, 3]], torch.tensor([60.0, 64.0, 68.0]), temperature=0.2, window=5.0)
    torch.testing.assert_close(value.loss, expected)
    assert term(two_views_of(60.0, NAN)) is None
