"""A cross-validation tests nobody it trained on, goes on where it was cut off, bit for bit, and sums up as by hand."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from preprocess.errors import Interrupted, RunError, StorageError, UsageError
from preprocess.storage import Location
from preprocess.store import Store
from tests.support import visits as tiny_visits
from tests.support.cohorts import TinyScan, default_scans, recipe_toml, tiny_recipe, write_store
from tests.support.processes import changed_since
from tests.support.visits import TinyVisit, default_visits, visit_recipe, write_visits
from trainer.evaluate import cross_validation
from trainer.evaluate.cross_validation import SUMMARY_NAME, CrossValidation, FoldMetrics, cross_validate, summarise
from trainer.evaluate.run import evaluate_run
from trainer.fit.run import Run
from trainer.metrics.evaluation import Metric
from trainer.recipe import TrainRecipe

SCORED = {f"sub-{subject:02d}" for subject in range(24)}
UNSCORED = {"sub-none", "sub-void"}
FOLDS, REPEATS = 3, 2


def follow(recipe: TrainRecipe, store: Store, location: Location, **changes: Any) -> CrossValidation:
    settings = {"num_folds": FOLDS, "num_repeats": REPEATS, "progress": lambda done, total: None}
    return cross_validate(recipe, store, location, **{**settings, **changes})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    unscored = [TinyVisit(subject, None, frozenset({"SC", "clinical"})) for subject in sorted(UNSCORED)]
    return write_visits(tmp_path_factory.mktemp("visits"), [*default_visits(24), *unscored])


@pytest.fixture(scope="module")
def whole(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Location:
    """A finished cross-validation whose runs were kept; nobody changes it."""
    location = Location(tmp_path_factory.mktemp("whole") / "cv")
    follow(visit_recipe(), store, location, keep_runs=True)
    return location


def written(location: Location) -> dict[str, bytes]:
    """Everything that is found, without the runs."""
    return {name: location.read(name) for name in [*location.names("folds"), SUMMARY_NAME]}


def runs_of(location: Location) -> dict[str, Run]:
    names = [name for name in location.names("runs") if name.endswith("/run.json")]
    return {name.split("/")[1]: Run.open(location.child(name.removesuffix("/run.json"))) for name in names}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the folds that were given to training, as they come."""
    names: list[str] = []
    train_run = cross_validation.train_run

    def spy(recipe: TrainRecipe, store: Store, location: Location, **settings: Any) -> dict[str, Any]:
        names.append(location.uri.rsplit("/", 1)[1])
        return train_run(recipe, store, location, **settings)

    monkeypatch.setattr(cross_validation, "train_run", spy)
    return names


def cut_off(monkeypatch: pytest.MonkeyPatch, *, fold: str, step: int, number: int = signal.SIGTERM) -> None:
    """Have the process signalled after a step of a fold."""
    train_run = cross_validation.train_run

    def progress(done: int, total: int) -> None:
        if done == step:
            os.kill(os.getpid(), number)

    def cut(recipe: TrainRecipe, store: Store, location: Location, **settings: Any) -> dict[str, Any]:
        if location.uri.endswith(fold):
            settings["progress"] = progress
        return train_run(recipe, store, location, **settings)

    monkeypatch.setattr(cross_validation, "train_run", cut)


def test_no_run_trains_or_validates_on_its_test_subjects_and_each_scored_one_is_tested_once_a_repeat(
    whole: Location,
) -> None:
    runs = runs_of(whole)
    assert len(runs) == FOLDS * REPEATS
    for repeat in range(REPEATS):
        splits = [run.split for name, run in runs.items() if name.startswith(f"repeat-{repeat:02d}")]
        assert Counter(subject for split in splits for subject in split.test) == Counter(SCORED)
    for run in runs.values():
        parts = [run.split.of(name) for name in ("train", "validation", "test")]
        assert sum(map(len, parts)) == len(frozenset().union(*parts)) == len(SCORED | UNSCORED)
        assert parts[0] >= UNSCORED
        assert {int(subject[-2:]) % 2 for subject in parts[1]} == {0, 1}
    assert len({run.recipe.seed for run in runs.values()}) == FOLDS * REPEATS


def test_a_folds_metrics_are_those_of_evaluate_without_intervals(whole: Location) -> None:
    for name, run in list(runs_of(whole).items())[::4]:
        found = FoldMetrics.model_validate_json(whole.read(f"folds/{name}.json"))
        evaluation = evaluate_run(run)
        assert found.metrics.keys() == evaluation.metrics.keys()
        for metric, one in found.metrics.items():
            expected = evaluation.metrics[metric]
            assert (one.value, one.chance, one.num) == (expected.value, expected.chance, expected.num)
            assert one.low is one.high is None
        assert (found.num_train, found.num_test) == (16, 8)
        assert found.metrics["class_auc"].num == 8


def test_the_summary_is_the_mean_of_repeats_with_the_corrected_interval_worked_out_by_hand(whole: Location) -> None:
    summary = json.loads(whole.read(SUMMARY_NAME))
    by_fold = [json.loads(whole.read(name)) for name in whole.names("folds")]
    assert (summary["num_subjects"], summary["num_unscored"]) == (24, 2)
    assert (summary["num_train"], summary["num_test"]) == (16, 8)
    assert {"class_auc", "class_balanced_accuracy", "class_sensitivity"} <= summary["figures"].keys()
    for name, metric in summary["figures"].items():
        values = np.array([one["metrics"][name]["value"] for one in by_fold])
        repeats = values.reshape(REPEATS, FOLDS).mean(axis=1)
        num = FOLDS * REPEATS
        assert metric["value"] == pytest.approx(repeats.mean())
        assert metric["sd"] == pytest.approx(np.sqrt(((repeats - repeats.mean()) ** 2).sum() / (REPEATS - 1)))
        variance = (1 / num + 8 / 16) * ((values - values.mean()) ** 2).sum() / (num - 1)
        if np.ptp(values) > 0:
            reach = stats.t.ppf(0.975, num - 1) * np.sqrt(variance)
            assert [metric["low"], metric["high"]] == pytest.approx([values.mean() - reach, values.mean() + reach])
        chances = [one["metrics"][name]["chance"] for one in by_fold]
        assert metric["chance"] == (None if None in chances else pytest.approx(np.mean(chances)))


@pytest.mark.parametrize(("fold", "step"), [("repeat-00-fold-00", 1), ("repeat-00-fold-02", 3)])
def test_a_cross_validation_that_was_cut_off_goes_on_to_the_same_bits(
    store: Store, whole: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fold: str, step: int
) -> None:
    location = Location(tmp_path / "cv")
    with monkeypatch.context() as patched:
        cut_off(patched, fold=fold, step=step)
        with pytest.raises(Interrupted, match=f"stopped after step {step} of"):
            follow(visit_recipe(), store, location)
    done = location.names("folds")
    assert len(done) == int(fold[-2:])
    assert not location.exists(SUMMARY_NAME)
    assert location.names(f"runs/{fold}/checkpoints")
    names, steps = list[str](), list[int]()
    train_run = cross_validation.train_run

    def spy(recipe: TrainRecipe, store: Store, at: Location, **settings: Any) -> dict[str, Any]:
        names.append(at.uri.rsplit("/", 1)[1])
        settings["progress"] = lambda done, total: steps.append(done)
        return train_run(recipe, store, at, **settings)

    monkeypatch.setattr(cross_validation, "train_run", spy)
    follow(visit_recipe(), store, location)
    assert names[0] == fold
    assert len(names) == FOLDS * REPEATS - len(done)
    assert steps[0] == step + 1
    assert written(location) == written(whole)


def test_sigterm_ends_the_command_with_130_a_message_and_a_checkpoint_from_which_it_goes_on(tmp_path: Path) -> None:
    store = write_visits(tmp_path / "store")
    recipe = tmp_path / "long.toml"
    recipe.write_text(recipe_toml(visit_recipe(optim={"epochs": 3000})))
    command = [
        sys.executable, "-m", "interscan", "cross-validate", str(recipe),
        "--store", store.location.uri, "--out", str(tmp_path / "cv"), "--folds", "3",
    ]  # fmt: skip
    location = tmp_path / "cv" / "runs" / "repeat-00-fold-00"
    steps = []
    for _ in range(2):
        began = time.time()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            deadline = time.monotonic() + 120
            while not changed_since(location / "log.jsonl", began) and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.terminate()
            output, log = process.communicate(timeout=60)
        assert (process.returncode, output) == (130, "")
        steps.append(json.loads((location / "checkpoints" / "latest.json").read_text())["step"])
        last = log.strip().splitlines()[-1]
        assert last.startswith(f"interscan: stopped after step {steps[-1]} of 6000, checkpoint written; run the same")
        assert "Traceback" not in log
    assert f"going on after step {steps[0]} of 6000" in log
    assert steps[1] > steps[0]


def test_a_run_that_ended_before_its_metrics_were_written_is_measured_and_not_trained_again(
    store: Store, whole: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = Location(tmp_path / "cv")

    def lost(*_: Any, **__: Any) -> None:
        raise StorageError("connection lost")

    with monkeypatch.context() as patched:
        patched.setattr(cross_validation, "measure_run", lost)
        with pytest.raises(StorageError, match="connection lost"):
            follow(visit_recipe(), store, location)
    model = location.read("runs/repeat-00-fold-00/model.pt")
    follow(visit_recipe(), store, location, keep_runs=True)
    assert location.read("runs/repeat-00-fold-00/model.pt") == model
    assert written(location) == written(whole)


def test_a_signal_between_training_and_the_next_fold_is_not_lost(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_run = cross_validation.measure_run

    def measure(*arguments: Any, **settings: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return measure_run(*arguments, **settings)

    monkeypatch.setattr(cross_validation, "measure_run", measure)
    location = Location(tmp_path / "cv")
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="stopped after 1 of 6 folds"):
        follow(visit_recipe(), store, location)
    assert signal.getsignal(signal.SIGTERM) is before
    assert location.names("folds") == ["folds/repeat-00-fold-00.json"]


def test_more_repeats_go_on_and_fewer_sum_up_what_is_requested(
    store: Store, whole: Location, tmp_path: Path, trained: list[str]
) -> None:
    location = Location(tmp_path / "cv")
    once = follow(visit_recipe(), store, location, num_repeats=1)
    assert once.metrics["class_auc"].sd is None
    assert trained == [f"repeat-00-fold-{number:02d}" for number in range(FOLDS)]
    trained.clear()
    follow(visit_recipe(), store, location)
    assert trained == [f"repeat-01-fold-{number:02d}" for number in range(FOLDS)]
    assert written(location) == written(whole)
    trained.clear()
    assert follow(visit_recipe(), store, location, num_repeats=1) == once
    assert trained == []


def test_weights_go_after_measuring_unless_runs_are_kept(store: Store, whole: Location, tmp_path: Path) -> None:
    location = Location(tmp_path / "cv")
    follow(visit_recipe(), store, location, num_repeats=1)
    for name, run in runs_of(location).items():
        left = {one.split("/")[-1] for one in run.location.names()}
        assert {"run.json", "result.json", "log.jsonl"} <= left
        assert not [one for one in left if one.endswith(".pt")]
        assert run.split == runs_of(whole)[name].split
        with pytest.raises(RunError, match=r"model\.pt: not there; .*--keep-runs"):
            evaluate_run(run)
    assert whole.exists("runs/repeat-00-fold-00/model.pt")
    assert whole.exists("runs/repeat-00-fold-00/checkpoints/latest.json")


def test_weights_that_a_cut_after_measuring_has_left_go_when_it_goes_on(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = Location(tmp_path / "cv")

    def cut(run: Location) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cross_validation, "drop_weights", cut)
        with pytest.raises(KeyboardInterrupt):
            follow(visit_recipe(), store, location, num_repeats=1)
    assert location.exists("runs/repeat-00-fold-00/model.pt")
    follow(visit_recipe(), store, location, num_repeats=1)
    assert not [name for name in location.names("runs") if name.endswith(".pt")]


@pytest.mark.parametrize(
    ("changes", "settings", "said"),
    [
        ({"optim": {"epochs": 5}}, {}, r"recipe \(optim\.epochs was 2 and is 5\)"),
        ({"seed": 9}, {}, r"recipe \(seed was 0 and is 9\)"),
        ({}, {"num_folds": 4}, "number of folds: it was 3 and is 4"),
    ],
)
def test_another_recipe_seed_or_number_of_folds_at_the_same_location_is_refused(
    store: Store, whole: Location, trained: list[str], changes: dict[str, Any], settings: dict[str, Any], said: str
) -> None:
    before = written(whole)
    with pytest.raises(RunError, match=said) as caught:
        follow(visit_recipe(**changes), store, whole, **settings)
    assert "\n" not in str(caught.value)
    assert trained == []
    assert written(whole) == before


def test_another_store_at_the_same_location_is_refused_with_both_digests(whole: Location, tmp_path: Path) -> None:
    other = write_visits(tmp_path / "other", default_visits(30))
    digest = json.loads(whole.read("protocol.json"))["index_sha256"]
    with pytest.raises(RunError, match=f"index_sha256 is {digest}, .* has {other.manifest.index_sha256}"):
        follow(visit_recipe(), other, whole)


def test_metrics_of_another_division_and_damaged_ones_are_refused(
    store: Store, whole: Location, tmp_path: Path
) -> None:
    location = Location(tmp_path / "cv")
    for name in ("protocol.json", "folds/repeat-00-fold-00.json"):
        location.write(name, whole.read(name))
    found = json.loads(location.read("folds/repeat-00-fold-00.json"))
    location.write("folds/repeat-00-fold-00.json", json.dumps({**found, "split_sha256": "0" * 64}).encode())
    with pytest.raises(RunError, match="its split is 000000000000"):
        follow(visit_recipe(), store, location)
    location.write("folds/repeat-00-fold-00.json", b"{}")
    with pytest.raises(RunError, match="not what this version writes"):
        follow(visit_recipe(), store, location)
    old = whole.read("protocol.json").replace(b'"task"', b'"target"')
    for data, message in ((b"{}", "no recipe, .* damaged; put back a copy of it, or use"), (old, "now called task")):
        location.write("protocol.json", data)
        with pytest.raises(RunError, match=rf"protocol\.json: .*{message}"):
            follow(visit_recipe(), store, location)


def test_several_processes_are_refused(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="WORLD_SIZE is 2"):
        follow(visit_recipe(), store, Location(tmp_path / "cv"))


def test_metrics_that_a_fold_lacks_are_named_and_not_averaged() -> None:
    def fold(number: int, **values: float | None) -> FoldMetrics:
        metrics = {name: Metric(value=value, chance=0.1 * number, num=3) for name, value in values.items()}
        return FoldMetrics(repeat=0, fold=number, split_sha256="", num_train=9, num_test=3, metrics=metrics)

    metrics, incomplete = summarise(
        [fold(0, a=1.0, b=2.0, c=None), fold(1, a=3.0, c=1.0), fold(2, a=8.0, b=1.0, c=2.0)]
    )
    assert metrics.keys() == {"a"}
    assert (metrics["a"].value, metrics["a"].chance) == (pytest.approx(4.0), pytest.approx(0.1))
    assert incomplete == {"b": 2, "c": 2}


def test_true_labels_beat_chance_and_labels_of_other_people_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    visits = default_visits(60)
    shown = {visit.subject_id: replace(visit, impaired=0.3 * (visit.impaired or 0.0)) for visit in visits}
    stored_of = tiny_visits.stored_of
    # Arrays show the true class, faintly; in the second store only the table's classes change hands.
    monkeypatch.setattr(tiny_visits, "stored_of", lambda visit, name: stored_of(shown[visit.subject_id], name))
    shuffled = np.random.default_rng(0).permutation([visit.impaired for visit in visits])
    swapped = [replace(visit, impaired=float(label)) for visit, label in zip(visits, shuffled, strict=True)]
    recipe = visit_recipe(optim={"epochs": 4, "learning_rate": 1e-2})
    areas = []
    for name, chosen in (("true", visits), ("shuffled", swapped)):
        found = follow(recipe, write_visits(tmp_path / name, chosen), Location(tmp_path / f"{name}_cv"), num_folds=4)
        areas.append(found.metrics["class_auc"])
    true, false = areas
    assert true.low is not None
    assert true.low > true.chance == 0.5
    assert false.low is not None
    assert false.low < 0.5 < false.high


def graded_scans() -> list[TinyScan]:
    """Grades 0 to 2 in turn, one picture a subject, shown in its middle."""
    return [
        TinyScan(f"sub-{subject:02d}", "ses-01", 0.0, float(subject % 3), shown=10.0 + 10 * (subject % 3))
        for subject in range(18)
    ]


@pytest.mark.parametrize(
    ("task", "scans", "names"),
    [
        ("progression", lambda: default_scans(num_subjects=18), {"macro_f1", "accuracy", "mae", "retrieval_at_1"}),
        ("regression", lambda: default_scans(num_subjects=18), {"probe_mae", "probe_spearman", "mae"}),
        ("severity", graded_scans, {"severity_macro_f1", "severity_maee", "severity_tau_b"}),
    ],
)
def test_the_other_tasks_are_cross_validated_with_their_metrics(
    tmp_path: Path, task: str, scans: Callable[[], list[TinyScan]], names: set[str]
) -> None:
    store = write_store(tmp_path / "store", scans())
    single = {"data": {"sampling": "scans"}, "objective": [{"name": "learner"}]} if task == "severity" else {}
    recipe = tiny_recipe(task=task, optim={"epochs": 1}, **single)
    found = follow(recipe, store, Location(tmp_path / "cv"), num_repeats=1)
    assert names <= found.metrics.keys()
    assert found.num_test == pytest.approx(found.num_subjects / FOLDS)
    table = found.table().splitlines()
    assert all(any(line.startswith(f"{name} ") for line in table) for name in found.metrics)
