"""One optimisation step: views, embeddings, loss, gradients, update; in one piece, or with cached gradients.

Gradient caching (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"): embed
all scans without a graph, take the gradient of the loss with respect to the embeddings, then embed chunk by chunk with
a graph and hand each chunk its part of that gradient. The chain rule makes it the gradient of the whole batch, since
no scan's embedding depends on another scan; a batch normalisation would break that.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from preprocess.errors import UsageError
from trainer.data.augment import Draws
from trainer.data.drawing import drawing_for_loss, drawing_for_visits
from trainer.data.labels import Labels
from trainer.data.visits import VisitBatch
from trainer.fit.distributed import ALONE, Group
from trainer.fit.model import TrainingModel
from trainer.fit.precision import Compute
from trainer.objectives.terms import Objective, Value, total


@dataclass(frozen=True, slots=True)
class Views:
    """The visits of a step in this process, made into what the encoder takes part by part.

        views = Views(batch, compute)
        embedded = encoder.embed_visits(*views.inputs(slice(0, 4)))

    Attributes:
        batch: what is stored of them, on any device.
        compute: where they become views.
        draws: by modality, what the views of the whole batch differ by; other modalities are scaled alone.
        first: index of the first of these visits in the whole batch.
        seed: made of the run's seed, the epoch and the batch; decides whatever else the step draws.
    """

    batch: VisitBatch
    compute: Compute
    draws: Mapping[str, Draws] = field(default_factory=dict)
    first: int = 0
    seed: int = 0

    def __len__(self) -> int:
        return len(self.batch)

    def inputs(self, part: slice) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Floats by modality of some neighbouring visits, and which visit has which; bytes travel to the device."""
        return self.batch.inputs(
            self.compute.device,
            part=part,
            non_blocking=self.compute.pin_memory,
            draws=self.draws,
            first=self.first,
        )


class Step:
    """Gradients of batches, and updates by them.

        step = Step(model, objectives, optimiser=optimiser, schedule=schedule, compute=compute)
        loss, values = step.gradients(Views(batch, compute), labels)
        was_finite = step.update()

    Args:
        model: networks, on the device.
        objectives: parts of the loss.
        optimiser: updates the weights.
        schedule: sets the learning rate, and is advanced once a step.
        compute: device and number format.
        clip_norm: largest norm of the gradient; 0 for none.
        cache_chunk: scans whose activations are alive at a time; 0 for all.
        group: the processes that share each batch.

    Attributes:
        objectives: may be replaced between two steps, as a new phase does.
        scaler: scales the loss for float16, and is part of every checkpoint.

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
        self._compute = compute
        self.scaler = compute.scaler()
        self._clip_norm = clip_norm
        self._cache_chunk = cache_chunk
        self._group = group
        self._last_loss = math.nan
        self._before: _Before | None = None

    def gradients(self, views: Views, labels: Labels) -> tuple[float, dict[str, Value]]:
        """Set every parameter's gradient to that of the loss of the whole batch.

        Args:
            views: the views of this process's visits, those of a subject side by side.
            labels: the labels of the whole batch, of all processes.

        Returns:
            The loss, and each objective's own value by name; the same in all processes.
        """
        self._before = _Before.of(self._model, self._before)
        self._optimiser.zero_grad(set_to_none=True)
        if 0 < self._cache_chunk < len(views):
            loss, values = self._cached(views, labels)
        else:
            embedded, present_NM = self._embed(views, slice(0, len(views)))
            loss, values = self._loss(embedded, labels, present_NM, views.seed)
            torch.autograd.backward(self.scaler.scale(loss))
        encoder = list(self._model.encoder.parameters())
        own = {id(parameter) for parameter in encoder}
        self._group.add_gradients(encoder, [one for one in self._model.parameters() if id(one) not in own])
        self._last_loss = float(loss.detach())
        return self._last_loss, values

    def update(self) -> bool:
        """Change the weights by the gradients, and the learning rate by the schedule.

        Returns:
            Whether loss and gradients are finite, the same in all processes. Where they are not, the model is as it was
            before `gradients`. An infinite gradient of float16 is none of that as long as its scale can be lowered.
        """
        self.scaler.unscale_(self._optimiser)
        present = [one.grad for one in self._model.parameters() if one.grad is not None]
        norm = nn.utils.get_total_norm(present)
        finite = math.isfinite(self._last_loss) and (_are_finite(norm, present) or self._scale_can_fall())
        if self._group.any(not finite):
            self._put_back()
            return False
        if self._clip_norm > 0:
            nn.utils.clip_grads_with_norm_(self._model.parameters(), self._clip_norm, norm)
        self.scaler.step(self._optimiser)
        self.scaler.update()
        self._schedule.step()
        return True

    def is_finite_in_float32(self, views: Views, labels: Labels) -> tuple[bool, dict[str, Value]]:
        """Compute the batch of the last `gradients` once more without autocast, with the same draws; changes nothing.

        Returns:
            Whether loss and gradients are finite in all processes, and each objective's own value.
        """
        with self._in_float32():
            loss, values = self.gradients(views, labels)
            present = [one.grad for one in self._model.parameters() if one.grad is not None]
            finite = math.isfinite(loss) and _are_finite(nn.utils.get_total_norm(present), present)
        self._put_back()
        return not self._group.any(not finite), values

    def _scale_can_fall(self) -> bool:
        """Whether this is float16 and its gradients may be infinite for being scaled: the scaler skips the step."""
        return self.scaler.is_enabled() and self.scaler.get_scale() > 1

    @contextmanager
    def _in_float32(self) -> Iterator[None]:
        compute, scaler = self._compute, self.scaler
        self._compute = Compute(compute.device, torch.float32)
        self.scaler = self._compute.scaler()
        try:
            yield
        finally:
            self._compute, self.scaler = compute, scaler

    def _put_back(self) -> None:
        """Drop the gradients, and put back what computing them has changed."""
        assert self._before is not None
        self._optimiser.zero_grad(set_to_none=True)
        self._before.put_back(self._model)

    def _cached(self, views: Views, labels: Labels) -> tuple[torch.Tensor, dict[str, Value]]:
        chunks = [
            slice(start, min(start + self._cache_chunk, len(views)))
            for start in range(0, len(views), self._cache_chunk)
        ]
        with torch.no_grad():
            parts, presents = zip(*[self._embed(views, chunk) for chunk in chunks], strict=True)
        embedded = torch.cat(parts).requires_grad_()
        loss, values = self._loss(embedded, labels, torch.cat(presents), views.seed)
        torch.autograd.backward(self.scaler.scale(loss))
        cached = embedded.grad
        assert cached is not None
        for chunk in chunks:
            torch.autograd.backward(self._embed(views, chunk)[0], cached[chunk])
        return loss, values

    def _embed(self, views: Views, part: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """What the encoder makes of some neighbouring visits, and which of them has which modality."""
        inputs, present_PM = views.inputs(part)
        first = views.first + part.start
        # Entered anew for each chunk: autocast keeps the weights it has cast, also those cast without a graph.
        with self._compute.autocast(), drawing_for_visits(views.seed, self._compute.device, first=first):
            return self._model.encoder.embed_visits(inputs, present_PM), present_PM

    def _loss(
        self, embedded: torch.Tensor, labels: Labels, present_NM: torch.Tensor, seed: int
    ) -> tuple[torch.Tensor, dict[str, Value]]:
        num_subjects, scans_of_subject = labels.scores_BK.shape
        num_rows = [scans_of_subject * share for share in self._group.shares(num_subjects)]
        gathered = self._group.gather(embedded, num_rows)
        with self._compute.autocast():
            # Several processes share batches of one modality only, which every visit of them all has.
            output = self._model.judge(gathered, labels, present_NM)
        with drawing_for_loss(seed, self._compute.device):
            return total(self.objectives, output)


@dataclass(frozen=True, slots=True)
class _Before:
    """What a step changes while it computes gradients.

    Attributes:
        buffers: copies of the model's buffers, such as running statistics.
    """

    buffers: list[torch.Tensor]

    @classmethod
    @torch.no_grad()
    def of(cls, model: nn.Module, earlier: "_Before | None") -> "_Before":
        """As it is now; an earlier one's memory is used again."""
        now = list(model.buffers())
        buffers = [one.clone() for one in now] if earlier is None else earlier.buffers
        # One call for all: some encoders have 150 buffers of a few hundred numbers.
        torch._foreach_copy_(buffers, now)
        return cls(buffers)

    @torch.no_grad()
    def put_back(self, model: nn.Module) -> None:
        """Make it so again."""
        torch._foreach_copy_(list(model.buffers()), self.buffers)


def _are_finite(norm: torch.Tensor, gradients: Sequence[torch.Tensor]) -> bool:
    """Whether all gradients are: their norm says so at once, and may overflow where none of them does."""
    return bool(norm.isfinite()) or all(bool(one.isfinite().all()) for one in gradients)
