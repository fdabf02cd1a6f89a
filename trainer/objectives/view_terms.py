"""Objectives of a batch that compare views, labels or the order of visits: SimCLR, SupCon, SupReMix, Rank-N, Chrono."""

import math
from dataclasses import dataclass

import torch

from trainer.objectives.losses.contrast import nt_xent, sup_con
from trainer.objectives.losses.order import chrono_contrast, rank_n_contrast
from trainer.objectives.losses.supremix import supremix
from trainer.objectives.terms import BatchOutput, Value


def binned(scores: torch.Tensor, bin_width: float) -> torch.Tensor:
    """Scores rounded to multiples of `bin_width`; as they are where it is 0."""
    return scores if bin_width == 0 else (scores / bin_width).round() * bin_width


@dataclass(frozen=True, slots=True)
class NtXent:
    """NT-Xent between two views of each scan; chance is ln(2B - 1)."""

    weight: float
    temperature: float
    name: str = "nt_xent"

    def __call__(self, output: BatchOutput) -> Value | None:
        """Value of a batch of views."""
        first_BP, second_BP = output.projections_BKP[:, 0], output.projections_BKP[:, 1]
        loss = nt_xent(first_BP, second_BP, temperature=self.temperature)
        return Value(loss, math.log(2 * len(first_BP) - 1))


@dataclass(frozen=True, slots=True)
class SupCon:
    """Supervised contrast: scans whose scores share a bin attract; with `normal`, all abnormal ones do."""

    weight: float
    temperature: float
    bin_width: float
    normal: float | None = None
    name: str = "sup_con"

    def __call__(self, output: BatchOutput) -> Value | None:
        """Value of a batch; None when no two of its views share a label."""
        known_B = output.scores_BK[:, 0].isfinite()
        scores_B = output.scores_BK[known_B, 0]
        labels_B = binned(scores_B, self.bin_width) if self.normal is None else (scores_B != self.normal).long()
        views_BVP = output.projections_BKP[known_B]
        num_views = views_BVP.shape[0] * views_BVP.shape[1]
        if num_views < 2 or (views_BVP.shape[1] == 1 and len(torch.unique(labels_B)) == len(labels_B)):
            return None
        return Value(sup_con(views_BVP, labels_B, temperature=self.temperature), math.log(num_views - 1))


@dataclass(frozen=True, slots=True)
class SupReMix:
    """SupReMix on the embeddings of two views of each scan."""

    weight: float
    temperature: float
    window: float
    bin_width: float
    mix_positives: bool
    mix_negatives: bool
    magnify: bool
    name: str = "supremix"

    def __call__(self, output: BatchOutput) -> Value | None:
        """Value of a batch; None when fewer than two scans have a score."""
        known_B = output.scores_BK[:, 0].isfinite()
        if int(known_B.sum()) < 2:
            return None
        loss = supremix(
            output.embeddings_BKE[known_B],
            binned(output.scores_BK[known_B, 0], self.bin_width),
            temperature=self.temperature,
            window=self.window,
            mix_positives=self.mix_positives,
            mix_negatives=self.mix_negatives,
            magnify=self.magnify,
        )
        return Value(loss, 0.0)


@dataclass(frozen=True, slots=True)
class RankNContrast:
    """Rank-N-Contrast on the embeddings of all views with a score."""

    weight: float
    temperature: float
    name: str = "rank_n_contrast"

    def __call__(self, output: BatchOutput) -> Value | None:
        """Value of a batch; None when fewer than three of its views have a score."""
        scores_N = output.scores_BK.reshape(-1)
        known_N = scores_N.isfinite()
        if int(known_N.sum()) < 3:
            return None
        features_NE = output.embeddings_BKE.flatten(0, 1)[known_N]
        return Value(rank_n_contrast(features_NE, scores_N[known_N], temperature=self.temperature), 0.0)


@dataclass(frozen=True, slots=True)
class ChronoContrast:
    """ChronoCon on the embeddings of visits in order of day, no labels."""

    weight: float
    temperature: float
    name: str = "chrono_contrast"

    def __call__(self, output: BatchOutput) -> Value | None:
        """Value of a batch of visits."""
        loss = chrono_contrast(
            output.embeddings_BKE.flatten(0, 1),
            output.days_BK.reshape(-1),
            output.scan_subjects_N,
            temperature=self.temperature,
        )
        return Value(loss, 0.0)
