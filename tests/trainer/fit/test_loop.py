"""The loop steps as a plain one does, counts honestly over interruptions, and stops at a loss that is no number."""

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from preprocess.errors import Interrupted, RunError
from preprocess.storage import Location
from preprocess.store import Store
from preprocess.transforms import unit_scale
from tests.support.cohorts import MODALITY, Dtype, default_scans, tiny_recipe, without_timing, write_store
from tests.support.loops import EXACT, build_loop
from trainer.data.augment import Augment
from trainer.data.cohort import Cohort
from trainer.data.labels import Labels
from trainer.data.visits import VisitBatch
from trainer.fit.checkpoint import Best, Checkpoints
from trainer.fit.context import build_objectives, score_statistics
from trainer.fit.loop import Loop
from trainer.fit.model import TrainingModel
from trainer.fit.optim import build_optimiser, build_schedule
from trainer.fit.precision import Compute, choose_compute
from trainer.fit.stop import StopRequest
from trainer.fit.tracking import Tracking
from trainer.objectives.terms import total

STANDING = {"objective": [{"name": "learner", "variant": "mse"}], "optim": {"epochs": 1, "learning_rate": 1e-12}}
"""An epoch at the initial weights, whose loss shows what the numbers were, not where rounding has led."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return write_store(tmp_path / "store", default_scans(num_subjects=8, odd=False))


def build(
    store: Store,
    run: Location,
    *,
    compute: Compute = EXACT,
    validate: Callable[[TrainingModel], dict[str, float]] = lambda model: {},
    augment: Augment | None = None,
    best: str = "",
    **changes: Any,
) -> tuple[Loop, Cohort]:
    settings: dict[str, Any] = {"compute": compute, "validate": validate, "best": best}
    if augment is not None:
        settings["augment"] = augment
    return build_loop(tiny_recipe(**changes), store, run, seed=0, **settings)


def train(loop: Loop, run: Location, *, stop_at: int | None = None) -> None:
    stop = StopRequest()

    def progress(done: int, _: int) -> None:
        stop.requested = done == stop_at

    with Tracking(run, first_epoch=loop.position.epoch) as tracking:
        loop.run(stop, tracking, progress)


def test_the_weights_are_those_of_a_plain_loop_over_the_same_batches(store: Store, tmp_path: Path) -> None:
    off = Augment(flip=0.0, shift_voxels=0, gain=0.0, noise=0.0)
    loop, cohort = build(store, Location(tmp_path / "run"), augment=off)
    plain = copy.deepcopy(loop.model).to(memory_format=torch.channels_last_3d)
    recipe = tiny_recipe()
    objectives = build_objectives(recipe.objective, score_statistics(cohort), outcome=recipe.outcome)
    optimiser = build_optimiser(plain, learning_rate=1e-3, weight_decay=recipe.optim.weight_decay)
    schedule = build_schedule(optimiser, phases=[(loop.num_steps, 1.0)], warmup_fraction=0.2)
    losses = []
    for epoch in range(2):
        for indices in loop.sampler.batches(epoch):
            stored = np.stack([store.read(int(row), MODALITY) for row in cohort.rows_N[indices].ravel()])
            volumes = torch.from_numpy(stored.astype(np.float32) * np.float32(unit_scale("uint8")))
            scores = torch.tensor(cohort.scores_N[indices], dtype=torch.float32)
            subjects = torch.tensor(cohort.subject_codes_N[indices[:, 0]])
            loss, _ = total(objectives, plain(volumes, Labels(scores, subjects, torch.full_like(scores, torch.nan))))
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            losses.append((epoch, indices.size, float(loss.detach())))
    train(loop, Location(tmp_path / "run"))
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(loop.model.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    for epoch, entry in enumerate(loop.position.history):
        sizes, values = zip(*[(size, value) for at, size, value in losses if at == epoch], strict=True)
        assert entry["loss"] == pytest.approx(np.average(values, weights=sizes), rel=1e-5)
        assert entry["volumes"] == sum(sizes) == 16


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32"])
def test_every_stored_type_trains_and_has_nearly_the_same_loss(tmp_path: Path, dtype: Dtype) -> None:
    scans = default_scans(num_subjects=8, odd=False)
    losses = []
    for stored in ("float32", dtype):
        location = Location(tmp_path / stored)
        loop, _ = build(write_store(tmp_path / f"of-{stored}", scans, dtype=stored), location, **STANDING)
        train(loop, location)
        losses.append(loop.position.history[0]["loss"])
    # 8 bits round by 0.002 of the range.
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_single_scans_train_too(store: Store, tmp_path: Path) -> None:
    run = Location(tmp_path / "run")
    loop, cohort = build(store, run, data={"sampling": "scans"}, objective=[{"name": "learner"}])
    train(loop, run)
    assert [entry["volumes"] for entry in loop.position.history] == [len(cohort)] * 2


@pytest.mark.parametrize("stop_at", [1, 3, 6])
def test_an_interrupted_epoch_counts_all_its_reading_and_seconds(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr("trainer.fit.loop.perf_counter", lambda: float(next(ticks)))
    whole, run = build(store, Location(tmp_path / "whole"))[0], Location(tmp_path / "run")
    train(whole, Location(tmp_path / "whole"))
    first, _ = build(store, run)
    with pytest.raises(Interrupted, match=f"stopped after step {stop_at} of 6, checkpoint written"):
        train(first, run, stop_at=stop_at)
    second, _ = build(store, run)
    state = Checkpoints(run, keep=2).load_latest()
    assert state is not None
    second.restore(state)
    train(second, run)
    assert without_timing(second.position.history) == without_timing(whole.position.history)
    parts = [entry["seconds"] for entry in second.position.history]
    assert sum(parts) == sum(entry["seconds"] for entry in whole.position.history) + 1
    read = [[entry["mb_per_s"] * entry["seconds"] for entry in loop.position.history] for loop in (whole, second)]
    # What was read ahead of the stop was read twice, and no more than that.
    assert all(once - 1e-9 <= found <= 2 * once + 1e-9 for once, found in zip(*read, strict=True))
    assert {entry["utilisation"] for entry in second.position.history} <= {3 / 7, 3 / 8}
    assert all(entry["wait_seconds"] >= 0 for entry in second.position.history)


def test_a_state_restores_every_part(store: Store, tmp_path: Path) -> None:
    run = Location(tmp_path / "run")
    first, _ = build(store, run)
    train(first, run)
    second, _ = build(store, run)
    second.restore(first.state())
    one, other = first.state(), second.state()
    assert one.keys() == other.keys()
    for key in ("position", "sums", "history", "schedule", "scaler"):
        assert one[key] == other[key]
    for name, value in one["model"].items():
        assert torch.equal(value, other["model"][name])
    for index, moments in one["optimiser"]["state"].items():
        for name, value in moments.items():
            assert torch.equal(value, other["optimiser"]["state"][index][name])


def test_a_loss_that_is_no_number_ends_the_run_before_it_is_written_down(store: Store, tmp_path: Path) -> None:
    run = Location(tmp_path / "run")
    loop, _ = build(store, run)
    with torch.no_grad():
        next(iter(loop.model.score_head.parameters())).fill_(float("nan"))
    with pytest.raises(RunError, match=r"the loss is nan at step 1 of 6; .*optim\.learning_rate"):
        train(loop, run)
    assert Checkpoints(run, keep=1).load_latest() is None


def test_weights_that_an_update_has_driven_to_infinity_are_never_saved(store: Store, tmp_path: Path) -> None:
    run = Location(tmp_path / "run")
    changes: dict[str, Any] = {"optim": {"epochs": 3, "learning_rate": 1e-3, "name": "sgd"}}
    good, _ = build(store, run, **{**changes, "optim": {**changes["optim"], "epochs": 1}})
    train(good, run)
    loop, _ = build(store, run, **changes)
    state = Checkpoints(run, keep=2).load_latest()
    assert state is not None
    loop.restore(state)
    update, steps = loop._step.update, len(loop.sampler.batches(1))

    def overflow() -> bool:
        """The last step of the epoch leaves a weight infinite, as a learning rate of 1e38 does."""
        updated = update()
        if loop.position.step + 1 == 2 * steps:
            with torch.no_grad():
                next(iter(loop.model.parameters())).mul_(torch.inf)
        return updated

    loop._step.update = overflow  # type: ignore[method-assign]
    with pytest.raises(RunError, match=rf"not finite, first encoder\..* after step {2 * steps}, .*optim.learning_rate"):
        train(loop, run)
    left = Checkpoints(run, keep=2).load_latest()
    assert left is not None
    assert left["position"] == state["position"]


def test_a_run_that_goes_on_in_another_precision_says_so_in_one_line(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    states = {}
    for name in ("float32", "bfloat16", "float16"):
        loop, _ = build(store, Location(tmp_path / name), compute=choose_compute("cpu", name))
        states[name] = loop.state()
    for name in states:
        for before, state in states.items():
            loop, _ = build(store, Location(tmp_path / name), compute=choose_compute("cpu", name))
            caplog.clear()
            with caplog.at_level(logging.WARNING, logger="interscan"):
                loop.restore(state)
            expected = [] if name == before else [f"computed in {before} so far, on this machine in {name}: "]
            assert [line[: len(start)] for line, start in zip(caplog.messages, expected, strict=True)] == expected


@pytest.mark.parametrize("every_epochs", [1, 2, 3])
def test_checkpoints_fall_on_every_nth_epoch_and_on_the_last(store: Store, tmp_path: Path, every_epochs: int) -> None:
    run = Location(tmp_path / "run")
    loop, _ = build(store, run, checkpoint={"every_epochs": every_epochs}, optim={"epochs": 4})
    saved: list[int] = []
    keep_state = Checkpoints.save_async

    def save(self: Checkpoints, state: dict[str, Any], *, step: int, best: Best | None) -> None:
        saved.append(state["position"]["epoch"])
        keep_state(self, state, step=step, best=best)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save_async", save)
        train(loop, run)
    assert saved == {1: [1, 2, 3, 4], 2: [2, 4], 3: [3, 4]}[every_epochs]


def test_a_collapsed_epoch_is_warned_about(store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    loop, _ = build(store, Location(tmp_path / "run"), optim={"epochs": 1, "learning_rate": 1e-9})
    with torch.no_grad():
        for one in loop.model.projector.parameters():
            one.zero_()
        loop.model.projector.layers[-1].bias.fill_(1.0)
    with caplog.at_level(logging.WARNING, logger="interscan"):
        train(loop, Location(tmp_path / "run"))
    assert "epoch 0: info_nce is 1.00 of its chance level: collapsed" in caplog.text
    assert loop.position.history[0]["info_nce_over_chance"] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.numeric
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_reduced_precision_trains_and_has_nearly_the_same_loss(store: Store, tmp_path: Path, precision: str) -> None:
    losses = []
    for name in ("float32", precision):
        loop, _ = build(store, Location(tmp_path / name), compute=choose_compute("cpu", name), **STANDING)
        train(loop, Location(tmp_path / name))
        losses.append(loop.position.history[-1]["loss"])
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    # Starts at 2^16 and is halved at each step whose gradients overflow.
    scale = loop.state()["scaler"].get("scale")
    assert scale in ([2.0**16, 2.0**15, 2.0**14, 2.0**13] if precision == "float16" else [None])


@pytest.mark.parametrize(("metric", "higher"), [("loss", False), ("retrieval_at_1", True)])
@pytest.mark.parametrize("every_epochs", [1, 2])
def test_the_best_epoch_that_was_saved_stays_beside_the_latest(
    store: Store, tmp_path: Path, metric: str, higher: bool, every_epochs: int
) -> None:
    run = Location(tmp_path / "run")
    found = iter([0.2, 0.6, 0.9, 0.6, 0.4, 0.1])
    loop, _ = build(
        store,
        run,
        validate=lambda model: {"retrieval_at_1": next(found)},
        optim={"epochs": 6, "learning_rate": 1e-2},
        checkpoint={"every_epochs": every_epochs, "keep": 1},
        best=metric,
    )
    train(loop, run)
    saved = loop.position.history[every_epochs - 1 :: every_epochs]
    expected = (max if higher else min)(saved, key=lambda entry: entry[metric])
    best = Checkpoints(run, keep=1).load_best()
    assert best is not None
    assert best["history"][-1] == expected
    latest = Checkpoints(run, keep=1).load_latest()
    assert latest is not None
    assert latest["position"]["epoch"] == 6
    states = [name for name in run.names("checkpoints") if name.endswith(".pt")]
    kept = {entry["step"] for entry in (*saved[-2:], expected)}
    assert sorted(kept) == [float(name[17:25]) for name in states]


def test_a_best_metric_that_the_history_lacks_is_refused(store: Store, tmp_path: Path) -> None:
    loop, _ = build(store, Location(tmp_path / "run"), best="retrieval_at_1")
    with pytest.raises(RunError, match=r"checkpoint\.best is retrieval_at_1 and epoch 0 has no such figure"):
        train(loop, Location(tmp_path / "run"))


def test_samples_that_are_left_out_are_left_out_of_scores_and_subjects_too(store: Store, tmp_path: Path) -> None:
    gone = store.records[0]
    Location(store.location.uri).delete(store.layout(MODALITY).key(gone.row))
    loop, cohort = build(
        store, Location(tmp_path / "run"), data={"batch_size": 4, "max_left_out": 1, "sampling": "pairs"}
    )
    seen: list[tuple[int, int]] = []
    train_on = loop._train_on

    def watched(indices_BK: np.ndarray, read: VisitBatch) -> None:
        voxels_BKCDHW = read.stored[MODALITY].unflatten(0, (-1, 2))
        seen.append((len(indices_BK), len(voxels_BKCDHW)))
        rows_BK = cohort.rows_N[indices_BK]
        expected = np.stack([[store.read(row, MODALITY) for row in rows] for rows in rows_BK.tolist()])
        np.testing.assert_array_equal(voxels_BKCDHW.numpy(), expected)
        train_on(indices_BK, read)

    loop._train_on = watched  # type: ignore[method-assign]
    train(loop, Location(tmp_path / "run"))
    assert seen
    assert all(indices == volumes for indices, volumes in seen)
