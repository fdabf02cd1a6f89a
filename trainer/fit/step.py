"""One optimisation step: views, embeddings, loss, gradients, update; in one piece, or with cached gradients.

Gradient caching (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"): embed
all scans without a graph, take the gradient of the loss with respect to the embeddings, then embed chunk by chunk with
a graph and hand each chunk its part of that gradient. The chain rule makes it the gradient of the whole batch, since
no scan's embedding depends on another scan; a batch normalisation would break that.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from preprocess.errors import UsageError
from trainer.data.augment import Draws
from trainer.data.visits import VisitBatch
from trainer.fit.distributed import ALONE, Group
from trainer.fit.model import TrainingModel
from trainer.fit.precision import Compute
from trainer.objectives.terms import Objective, Value, total


@dataclass(frozen=True, slots=True)
class Scans:
    """The stored scans of a step in this process, made into views part by part.

    Attributes:
        voxels_NCDHW: as stored, on any device.
        draws: what the views of the whole batch differ by.
        first: place of the first of these scans in the whole batch.
        scale: what a stored value is multiplied by to lie in [0, 1].
        compute: where views are made.
    """

    voxels_NCDHW: torch.Tensor
    draws: Draws
    first: int
    scale: float
    compute: Compute

    def __len__(self) -> int:
        return len(self.voxels_NCDHW)

    def views(self, part: slice) -> torch.Tensor:
        """Views of some neighbouring scans, float32 in [0, 1]; bytes travel to the device, not floats."""
        voxels = self.voxels_NCDHW[part].to(self.compute.device, non_blocking=self.compute.pin_memory)
        return self.draws.views(voxels, scale=self.scale, first=self.first + part.start)

    @property
    def present_BM(self) -> None:
        """Of one modality, which is always there."""
        return


@dataclass(frozen=True, slots=True)
class Visits:
    """The visits of a step, with several modalities; they are never augmented.

    Attributes:
        batch: what is stored of them.
        compute: where they become tensors.
    """

    batch: VisitBatch
    compute: Compute

    def __len__(self) -> int:
        return len(self.batch)

    def views(self, part: slice) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """What the encoder takes of some neighbouring visits: inputs by modality, and present_BM."""
        inputs, present_BM = self.batch.inputs(self.compute.device, non_blocking=self.compute.pin_memory)
        return {name: values[part] for name, values in inputs.items()}, present_BM[part]

    @property
    def present_BM(self) -> torch.Tensor:
        """Which visit has which modality, on the device."""
        return self.batch.present_BM.to(self.compute.device)


class Step:
    """Gradients of batches, and updates by them.

    Args:
        model: networks, on the device.
        objectives: parts of the loss.
        optimiser: updates the weights.
        schedule: of the learning rate.
        scaler: of the loss.
        compute: device and number format.
        clip_norm: largest norm of the gradient; 0 for none.
        cache_chunk: scans whose activations are alive at a time; 0 for all.
        group: the processes that share each batch.

    Attributes:
        objectives: may be replaced between two steps, as a new phase does.

    Raises:
        UsageError: chunks, and a normalisation over the batch.
    """

    def __init__(
        self,
        model: TrainingModel,
        objectives: Sequence[Objective],
        *,
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        scaler: torch.amp.GradScaler,
        compute: Compute,
        clip_norm: float = 0.0,
        cache_chunk: int = 0,
        group: Group = ALONE,
    ) -> None:
        if cache_chunk > 0 and any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in model.modules()):
            raise UsageError(
                f"optim.cache_chunk is {cache_chunk} and the encoder normalises over the batch, which no chunk has; "
                "set encoder.norm = 'group', or optim.cache_chunk = 0"
            )
        self._model = model
        self.objectives = objectives
        self._optimiser = optimiser
        self._schedule = schedule
        self._scaler = scaler
        self._compute = compute
        self._clip_norm = clip_norm
        self._cache_chunk = cache_chunk
        self._group = group

    def gradients(
        self,
        scans: Scans | Visits,
        scores_BK: torch.Tensor,
        subjects_B: torch.Tensor,
        days_BK: torch.Tensor | None = None,
    ) -> tuple[float, dict[str, Value]]:
        """Set every parameter's gradient to that of the loss of the whole batch.

        Args:
            scans: this process's scans, those of a subject side by side; or the visits of all.
            scores_BK: raw scores of the whole batch, NaN where unknown.
            subjects_B: subjects of the whole batch as whole numbers.
            days_BK: days of the whole batch's scans; unknown when not given.

        Returns:
            The loss, and each objective's own value by name; the same in all processes.
        """
        self._optimiser.zero_grad(set_to_none=True)
        if 0 < self._cache_chunk < len(scans):
            loss, values = self._cached(scans, scores_BK, subjects_B, days_BK)
        else:
            embeddings_NE = self._embed(scans.views(slice(0, len(scans))))
            loss, values = self._loss(embeddings_NE, scores_BK, subjects_B, days_BK, scans.present_BM)
            torch.autograd.backward(self._scaler.scale(loss))
        encoder = list(self._model.encoder.parameters())
        own = {id(parameter) for parameter in encoder}
        self._group.add_gradients(encoder, [one for one in self._model.parameters() if id(one) not in own])
        return float(loss.detach()), values

    def update(self) -> None:
        """Change the weights by the gradients, and the learning rate by the schedule."""
        if self._clip_norm > 0:
            self._scaler.unscale_(self._optimiser)
            nn.utils.clip_grad_norm_(self._model.parameters(), self._clip_norm)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self._schedule.step()

    def _cached(
        self, scans: Scans | Visits, scores_BK: torch.Tensor, subjects_B: torch.Tensor, days_BK: torch.Tensor | None
    ) -> tuple[torch.Tensor, dict[str, Value]]:
        chunks = [
            slice(start, min(start + self._cache_chunk, len(scans)))
            for start in range(0, len(scans), self._cache_chunk)
        ]
        with torch.no_grad():
            embeddings_NE = torch.cat([self._embed(scans.views(chunk)) for chunk in chunks])
        embeddings_NE.requires_grad_()
        loss, values = self._loss(embeddings_NE, scores_BK, subjects_B, days_BK, scans.present_BM)
        torch.autograd.backward(self._scaler.scale(loss))
        cached_NE = embeddings_NE.grad
        assert cached_NE is not None
        for chunk in chunks:
            torch.autograd.backward(self._embed(scans.views(chunk)), cached_NE[chunk])
        return loss, values

    def _embed(self, views: torch.Tensor | tuple[dict[str, torch.Tensor], torch.Tensor]) -> torch.Tensor:
        # Entered anew for each chunk: autocast keeps the weights it has cast, also those cast without a graph.
        with self._compute.autocast():
            embeddings_NE: torch.Tensor = self._model.encoder(*(views if isinstance(views, tuple) else (views,)))
        return embeddings_NE

    def _loss(
        self,
        embeddings_NE: torch.Tensor,
        scores_BK: torch.Tensor,
        subjects_B: torch.Tensor,
        days_BK: torch.Tensor | None,
        present_BM: torch.Tensor | None,
    ) -> tuple[torch.Tensor, dict[str, Value]]:
        scans_of_subject = scores_BK.shape[1]
        num_rows = [scans_of_subject * share for share in self._group.shares(len(subjects_B))]
        gathered_NE = self._group.gather(embeddings_NE, num_rows)
        with self._compute.autocast():
            output = self._model.judge(gathered_NE, scores_BK, subjects_B, days_BK, present_BM)
        return total(self.objectives, output)
