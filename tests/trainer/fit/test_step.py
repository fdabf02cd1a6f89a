"""Cached gradients are those of the whole batch, with the activations of a few scans alive."""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from preprocess.errors import UsageError
from tests.support.cohorts import MODALITY, tiny_recipe
from trainer.data.augment import Augment
from trainer.data.labels import Labels
from trainer.data.visits import VisitBatch
from trainer.fit.context import ScoreStatistics, build_objectives
from trainer.fit.model import TrainingModel, scan_model
from trainer.fit.optim import build_optimiser, build_schedule
from trainer.fit.precision import Compute, choose_compute
from trainer.fit.step import Step, Views
from trainer.recipe import EncoderRecipe

PAIRS = 6
STATISTICS = ScoreStatistics(24.0, 3.0, 12.0)


def a_model(name: str = "reference", norm: str = "group") -> TrainingModel:
    torch.manual_seed(3)
    recipe = EncoderRecipe(name=name, embedding_width=8, projection_width=4, norm=norm)
    return scan_model(recipe, in_channels=1)


def a_step(model: TrainingModel, compute: Compute, *, chunk: int, clip_norm: float = 0.0) -> Step:
    recipe = tiny_recipe()
    optimiser = build_optimiser(model, learning_rate=1e-3, weight_decay=1e-4)
    return Step(
        model,
        build_objectives(recipe.objective, STATISTICS, outcome=recipe.outcome),
        optimiser=optimiser,
        schedule=build_schedule(optimiser, phases=[(4, 1.0)], warmup_fraction=0.0),
        compute=compute,
        clip_norm=clip_norm,
        cache_chunk=chunk,
    )


def a_batch(compute: Compute, edge: int = 16, *, pairs: int = PAIRS, seed: int = 0) -> tuple[Any, ...]:
    generator = torch.Generator().manual_seed(seed)
    voxels = torch.randint(256, (2 * pairs, 1, *[edge] * 3), generator=generator, dtype=torch.uint8)
    scores = 20 + 10 * torch.rand(pairs, 2, generator=generator)
    scores[1, 0] = float("nan")
    unknown = torch.full_like(scores, torch.nan)
    augment = Augment(flip=0.5, shift_voxels=2, gain=0.2, noise=0.05)
    draws = augment.draw(2 * pairs, edge**3, seed=seed, epoch=1, batch=2)
    return Views(VisitBatch.of_scans(MODALITY, voxels, 1 / 255), compute, {MODALITY: draws}), Labels(
        scores, torch.arange(pairs), unknown
    )


def gradients_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("chunk", [5, 8])
def test_cached_gradients_of_random_frames_are_those_of_the_frames_that_the_whole_batch_drew(chunk: int) -> None:
    """Embedded twice, once without a graph: both times each scan has to show the same frames."""
    exact = choose_compute("cpu", "float32")
    plain = a_model("slice-tsm-resnet18")
    cached, other = copy.deepcopy(plain), copy.deepcopy(plain)
    views, labels = a_batch(exact, edge=24)
    views = replace(views, seed=5)
    a_step(plain, exact, chunk=0).gradients(views, labels)
    a_step(cached, exact, chunk=chunk).gradients(views, labels)
    truth = gradients_of(plain)
    for one, gradient in gradients_of(cached).items():
        torch.testing.assert_close(gradient, truth[one], rtol=1e-3, atol=1e-5)
    a_step(other, exact, chunk=0).gradients(replace(views, seed=6), labels)
    found = gradients_of(other)
    assert not torch.allclose(found["encoder.linear.weight"], truth["encoder.linear.weight"], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["reference", "fast"])
@pytest.mark.parametrize("chunk", [1, 3, 5, 12, 100])
def test_cached_gradients_are_the_plain_ones_within_1e_5(name: str, chunk: int) -> None:
    exact = choose_compute("cpu", "float32")
    plain = a_model(name)
    cached = copy.deepcopy(plain)
    expected, values = a_step(plain, exact, chunk=0).gradients(*a_batch(exact))
    found, cached_values = a_step(cached, exact, chunk=chunk).gradients(*a_batch(exact))
    assert found == pytest.approx(expected, abs=1e-5)
    assert {one: float(value.loss.detach()) for one, value in cached_values.items()} == pytest.approx(
        {one: float(value.loss.detach()) for one, value in values.items()}, abs=1e-5
    )
    truth = gradients_of(plain)
    assert len(truth) == len(list(plain.parameters()))
    for one, gradient in gradients_of(cached).items():
        torch.testing.assert_close(gradient, truth[one], rtol=1e-4, atol=1e-5)
    assert max(float(gradient.abs().max()) for gradient in truth.values()) > 0.1


@pytest.mark.numeric
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_autocast_and_loss_scaling_leave_them_alike_to_their_rounding(precision: str) -> None:
    compute = choose_compute("cpu", precision)
    plain = a_model()
    cached = copy.deepcopy(plain)
    steps = [a_step(plain, compute, chunk=0, clip_norm=0.5), a_step(cached, compute, chunk=5, clip_norm=0.5)]
    losses = [step.gradients(*a_batch(compute))[0] for step in steps]
    assert losses[0] == pytest.approx(losses[1], rel=0.01)
    first, second = (torch.cat([one.flatten() for one in gradients_of(model).values()]) for model in (plain, cached))
    if precision == "float16":
        assert float(first.norm()) > 1000  # scaled by 2^16
    assert float(nn.functional.cosine_similarity(first, second, dim=0)) > 0.99
    assert float(first.norm()) == pytest.approx(float(second.norm()), rel=0.05)
    before = copy.deepcopy(plain.state_dict())
    for step in steps:
        step.update()
    assert any(not torch.equal(value, before[one]) for one, value in plain.state_dict().items())


def test_steps_over_chunks_lead_where_plain_steps_lead_and_repeat_bitwise() -> None:
    exact = choose_compute("cpu", "float32")
    ends = []
    for chunk in (0, 4, 4):
        model = a_model()
        step = a_step(model, exact, chunk=chunk, clip_norm=1.0)
        for settings in step._optimiser.param_groups:
            # AdamW divides by the size of a gradient, and so raises the rounding of the smallest to whole steps.
            settings["eps"] = 1e-2
        for seed in range(4):
            step.gradients(*a_batch(exact, seed=seed))
            step.update()
        ends.append(model.state_dict())
    plain, cached, again = ends
    for one, value in cached.items():
        torch.testing.assert_close(value, plain[one], rtol=1e-3, atol=1e-4)
        assert torch.equal(value, again[one])


class AliveBytes:
    """Bytes that autograd holds for backward: saved by the graph, and not yet let go; weights left out."""

    def __init__(self, model: nn.Module) -> None:
        self._weights = {one.untyped_storage().data_ptr() for one in model.parameters()}
        self._alive: dict[int, tuple[int, int]] = {}
        self.peak = 0

    def measure(self, action: Callable[[], object]) -> int:
        with torch.autograd.graph.saved_tensors_hooks(self._pack, lambda held: held.tensor):
            action()
        assert not self._alive  # all let go after the step
        return self.peak

    def _pack(self, tensor: torch.Tensor) -> "_Held":
        return _Held(self, tensor)

    def add(self, tensor: torch.Tensor, sign: int) -> None:
        storage = tensor.untyped_storage()
        key = storage.data_ptr()
        if key in self._weights:
            return
        count, _ = self._alive.get(key, (0, 0))
        self._alive[key] = (count + sign, storage.nbytes())
        if self._alive[key][0] == 0:
            del self._alive[key]
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))


class _Held:
    def __init__(self, counter: AliveBytes, tensor: torch.Tensor) -> None:
        self._counter, self.tensor = counter, tensor
        counter.add(tensor, 1)

    def __del__(self) -> None:
        self._counter.add(self.tensor, -1)


@pytest.mark.parametrize("name", ["reference", "fast"])
def test_the_activations_alive_are_those_of_one_chunk(name: str) -> None:
    exact = choose_compute("cpu", "float32")
    peaks = {}
    for pairs, chunk in ((2, 0), (32, 0), (32, 4)):
        model = a_model(name)
        step, batch = a_step(model, exact, chunk=chunk), a_batch(exact, 32, pairs=pairs)
        peaks[pairs, chunk] = AliveBytes(model).measure(lambda step=step, batch=batch: step.gradients(*batch))
    assert peaks[32, 0] > 14 * peaks[2, 0]
    assert peaks[32, 4] < 1.1 * peaks[2, 0]


@pytest.mark.parametrize("name", ["reference", "fast"])
def test_a_normalisation_over_the_batch_is_refused_with_the_remedy(name: str) -> None:
    exact = choose_compute("cpu", "float32")
    with pytest.raises(UsageError, match=r"optim\.cache_chunk is 4 .* set encoder\.norm = 'group'"):
        a_step(a_model(name, norm="batch"), exact, chunk=4)


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("clip_norm", [0.0, 1.0])
def test_a_gradient_that_is_no_number_leaves_weights_and_statistics_as_they_were(norm: str, clip_norm: float) -> None:
    exact = choose_compute("cpu", "float32")
    model = a_model(norm=norm)
    step = a_step(model, exact, chunk=0, clip_norm=clip_norm)
    before, numbers = state_of(model), torch.get_rng_state()
    hook = model.encoder.linear.weight.register_hook(lambda gradient: gradient * torch.nan)
    step.gradients(*a_batch(exact))
    assert not step.update()
    for name, value in state_of(model).items():
        assert torch.equal(value, before[name])
    assert torch.equal(torch.get_rng_state(), numbers)
    hook.remove()
    loss, _ = step.gradients(*a_batch(exact))
    assert step.update()
    fresh = a_model(norm=norm)
    other = a_step(fresh, exact, chunk=0, clip_norm=clip_norm)
    assert loss == other.gradients(*a_batch(exact))[0]
    assert other.update()
    for name, value in state_of(model).items():
        assert torch.equal(value, fresh.state_dict()[name])


def test_gradients_whose_norm_overflows_while_none_of_them_does_are_taken() -> None:
    exact = choose_compute("cpu", "float32")
    model = a_model()
    step = a_step(model, exact, chunk=0)
    for parameter in model.parameters():
        parameter.register_hook(lambda gradient: torch.full_like(gradient, 1e25))
    step.gradients(*a_batch(exact))
    assert step.update()


@pytest.mark.numeric
def test_float16_skips_steps_until_its_scale_can_fall_no_more() -> None:
    compute = choose_compute("cpu", "float16")
    model = a_model()
    step = a_step(model, compute, chunk=0)
    model.encoder.linear.weight.register_hook(lambda gradient: gradient * torch.inf)
    before = state_of(model)
    skipped = 0
    while step.gradients(*a_batch(compute)) and step.update():
        skipped += 1
    assert skipped == 16  # from 2^16 down to 1
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name])


@pytest.mark.numeric
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_the_batch_computed_once_more_is_that_of_a_float32_run_and_changes_nothing(precision: str) -> None:
    compute, exact = choose_compute("cpu", precision), choose_compute("cpu", "float32")
    model, twin = a_model(norm="batch"), a_model(norm="batch")
    step = a_step(model, compute, chunk=0)
    step.gradients(*a_batch(compute))
    step._put_back()
    before, scale = state_of(model), step.scaler.state_dict()
    finite, values = step.is_finite_in_float32(*a_batch(compute))
    assert finite
    _, expected = a_step(twin, exact, chunk=0).gradients(*a_batch(exact))
    for name, value in values.items():
        assert float(value.loss.detach()) == float(expected[name].loss.detach())
    for name, value in state_of(model).items():
        assert torch.equal(value, before[name])
    assert step.scaler.state_dict() == scale
    assert step.gradients(*a_batch(compute))[0] != float(sum(one.loss.detach() for one in expected.values()))
