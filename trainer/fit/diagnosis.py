"""Why a loss or a gradient is not finite, and which setting mends it: precision, data, weights or learning rate."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn

from preprocess.errors import RunError
from trainer.data.labels import Labels
from trainer.data.visits import VisitBatch
from trainer.fit.distributed import ALONE, Group
from trainer.fit.step import Step, Views
from trainer.objectives.terms import Value

_SLOWER = "start a new run with a lower optim.learning_rate, or with optim.clip_norm"


def diagnose(
    step: Step,
    model: nn.Module,
    batch: tuple[Views, Labels],
    subjects: Sequence[str],
    *,
    precision: str,
    steps_done: int,
    group: Group = ALONE,
) -> str:
    """What is to blame, from computing the batch once more in float32; all processes come to the same.

    Args:
        step: whose `update` has refused this batch.
        model: networks.
        batch: arguments of `Step.gradients`.
        subjects: the subject of each of this process's visits in the batch.
        precision: the run's number format, for example `bfloat16`.
        steps_done: before this one.
        group: the processes that train together.
    """
    finite, values = step.is_finite_in_float32(*batch)
    if finite and precision != "float32":
        return (
            f"computed again in float32 the same batch gives finite ones, so {precision} is to blame: start a new run "
            "with precision = 'float32'"
        )
    if finite:
        return (
            "computed again the same batch gives finite ones, so this machine is to blame: run the same command again, "
            "on another machine if it persists"
        )
    again = "computed again" if precision == "float32" else "computed again in float32"
    cause = _cause_beside_precision(model, batch, subjects, values, steps_done=steps_done, group=group)
    return f"{again} it is not finite either: {cause}"


def require_finite_weights(model: nn.Module, *, steps_done: int, group: Group = ALONE) -> None:
    """Refuse to go on with weights that the last update has driven beyond what float32 holds; called before a save.

    Raises:
        RunError: in all processes, if a weight or running statistic is not finite in any.
    """
    wrong = _not_finite(model)
    if group.any(bool(wrong)):
        raise RunError(f"{_described(wrong)} after step {steps_done}, and no checkpoint was made of them: {_SLOWER}")


def _cause_beside_precision(
    model: nn.Module,
    batch: tuple[Views, Labels],
    subjects: Sequence[str],
    values: Mapping[str, Value],
    *,
    steps_done: int,
    group: Group,
) -> str:
    """What makes a batch that is not finite in float32 either so, and the remedy."""
    views = batch[0]  # scores that are not finite count as unknown in every objective
    bad_data = next(_data_faults(views.batch, subjects), "")
    if group.any(bool(bad_data)):
        bad_data = bad_data or "scans that another process reads hold values that are not finite"
        return f"{bad_data}; check the data with interscan verify, and preprocess them anew or leave them out"
    bad_weights = _not_finite(model)
    if group.any(bool(bad_weights)):
        origin = "check encoder.initial_weights, or " if steps_done == 0 else ""
        return f"{_described(bad_weights)}; {origin}{_SLOWER}"
    parts = [name for name, value in values.items() if not bool(value.loss.isfinite().all())]
    largest = max(float(one.detach().abs().max()) for one in model.parameters())
    return (
        f"scans and weights are finite (the largest weight is {largest:.2g}) and "
        f"{' and '.join(parts) or 'the gradient'} overflows; {_SLOWER}"
    )


def _not_finite(model: nn.Module) -> list[str]:
    """Names of weights and running statistics that hold anything but numbers."""
    return [name for name, one in model.state_dict().items() if not bool(one.isfinite().all())]


def _described(names: Sequence[str]) -> str:
    if not names:
        return "weights of another process are not finite"
    return f"{len(names)} of the model's tensors hold weights that are not finite, first {names[0]}"


def _data_faults(batch: VisitBatch, subjects: Sequence[str]) -> Iterator[str]:
    """Which scans hold values that are not finite, the first of each modality."""
    for column, (name, stored) in enumerate(batch.stored.items()):
        there = [subject for subject, has in zip(subjects, batch.present_NM[:, column].tolist(), strict=True) if has]
        what = "data.modality: the scan" if len(batch.stored) == 1 else f"data.modalities: {name}"
        yield from _fault(what, stored, there)


def _fault(what: str, stored_N: torch.Tensor, subjects: Sequence[str]) -> Iterator[str]:
    if not stored_N.is_floating_point():
        return
    wrong_N = (~stored_N.isfinite()).flatten(1).sum(dim=1)
    for subject, count in zip(subjects, wrong_N.tolist(), strict=True):
        if count:
            yield f"{what} of {subject} holds {count} values that are not finite"
