"""Evaluates a finished run on its held-out subjects: reads the store once, then metrics, plots and the report."""

from collections.abc import Mapping

import numpy as np

from preprocess.lease import RUN, held
from preprocess.manifest import Flagged
from preprocess.store import Store
from trainer.data.cohort import Cohort
from trainer.data.pairs import visit_pairs
from trainer.data.splits import SPLITS
from trainer.evaluate.change_map import map_largest_change
from trainer.evaluate.checks import fit_answer_checks, flagged_shares, has_checks
from trainer.evaluate.controls import (
    compare_with_controls,
    control_results,
    fit_controls,
    joined_controls,
    permute_labels,
)
from trainer.evaluate.measure import HeldOut, embed_with, exact_compute, measure_run
from trainer.evaluate.ridge_control import ridge_controls
from trainer.evaluate.tasks import Embedded
from trainer.evaluate.trajectories import embed_epochs, kept_epochs, spread
from trainer.evaluate.turns import Answers, pair_table
from trainer.evaluate.untrained import measure_untrained
from trainer.fit.context import cohort_of
from trainer.fit.run import Run
from trainer.fit.tracking import History, read_history
from trainer.fit.trained import Trained
from trainer.metrics import progression
from trainer.metrics.embedding_space import between_distances
from trainer.metrics.evaluation import ControlResult, Evaluation, HistorySummary, SplitCount
from trainer.metrics.pair_distances import change_correlation, noise_floor
from trainer.recipe import TrainRecipe
from trainer.report import plots
from trainer.report.map_plot import map_plot
from trainer.report.page import render_report
from trainer.report.trajectory_plots import epoch_trajectories

FOLDER = "evaluation"
METRICS_NAME = f"{FOLDER}/metrics.json"
REPORT_NAME = f"{FOLDER}/report.html"
EPOCHS_DRAWN = 5
"""Panels of the paths by epoch, at most; the held-out scans are embedded anew for each."""


def evaluate_run(run: Run, *, store_uri: str | None = None) -> Evaluation:
    """Measure a run and write metrics.json, the plots and report.html into its folder.

    Args:
        run: a finished run.
        store_uri: where its store is now, if it was moved.

    Returns:
        What was found.

    Raises:
        RunError: the run is not finished, or another process writes to it.
        StoreError: the store is another one, or has no scan of the held-out subjects.
    """
    with held(run.location, RUN, does="evaluates") as leased:
        return _evaluate(Run(leased, run.record), store_uri)


def _evaluate(run: Run, store_uri: str | None) -> Evaluation:
    store = run.open_store(store_uri)
    recipe = run.recipe
    cohort = cohort_of(store, recipe.data, recipe.outcome.name)
    measured = measure_run(run, store, cohort, in_turns=True)
    trained, held_out, probabilities_P3 = measured.trained, measured.held_out, measured.probabilities_P3
    history = read_history(run.location)
    drawn = _similarity_plots(held_out, recipe.seed, history)
    drawn |= _epoch_plots(held_out, run, store)
    controls: tuple[ControlResult, ...] = ()
    if probabilities_P3 is not None:
        drawn |= _progression_plots(held_out, probabilities_P3)
    if measured.answers is not None:
        controls = _controls(measured.answers, store, cohort, recipe)
        drawn |= _map_plots(trained, measured.answers, store)
    untrained = measure_untrained(measured, store, cohort)
    evaluation = Evaluation(
        run_uri=run.location.uri,
        recipe=recipe.name,
        fingerprint=store.manifest.fingerprint,
        splits={name: _count(cohort.of_subjects(run.split.of(name)), run) for name in SPLITS},
        metrics=measured.metrics | untrained.metrics,
        controls=(*controls, untrained.control),
        flagged=_flagged(trained, store, cohort),
        history=_summary(history),
        notes=_notes(run, cohort),
        caveats=(*_absent(held_out, trained), *_unshuffled(controls)),
    )
    _write(run, evaluation, drawn, history)
    return evaluation


def _controls(answers: Answers, store: Store, cohort: Cohort, recipe: TrainRecipe) -> tuple[ControlResult, ...]:
    """The controls, fitted for each turn on the people whom its networks saw."""
    turns = []
    for turn in answers.turns:
        training = cohort.of_subjects(turn.training)
        known = visit_pairs(training, recipe.outcome, which="consecutive").labelled()
        if not len(known):
            return ()
        turns.append(fit_controls(pair_table(training, known), turn.table(), recipe.seed))
    table, predicted_P = answers.table(), answers.probabilities_P3.argmax(axis=1)
    fitted = joined_controls(turns, table.label)
    fitted += ridge_controls(answers, store, cohort, recipe, exact_compute(recipe))
    compared = compare_with_controls(
        fitted, table, predicted_P, seed=recipe.seed, probabilities_P3=answers.probabilities_P3
    )
    shuffled = permute_labels(table.label, predicted_P, table.subject_id, seed=recipe.seed)
    return control_results(fitted, compared, shuffled, labels=table.label)


def _flagged(trained: Trained, store: Store, cohort: Cohort) -> dict[str, Flagged]:
    """What the checks of an answer flag among the held-out people's scans; none where nothing is checked."""
    if not has_checks(trained, store):
        return {}
    recipe, split = trained.run.recipe, trained.run.split
    training, validation = (
        Embedded(part, embed_with(trained, store, part))
        for part in (cohort.of_subjects(split.of(name)) for name in ("train", "validation"))
    )
    modality = recipe.data.modality
    checks = fit_answer_checks(
        trained.encoder, store, modality, training=training, validation=validation, seed=recipe.seed
    )
    return {} if checks is None else flagged_shares(checks, store, modality, cohort.of_subjects(split.of("test")))


def _similarity_plots(held_out: HeldOut, seed: int, history: History) -> dict[str, bytes]:
    drawn: dict[str, bytes] = {}
    pairs, repeats = held_out.pairs, held_out.repeats
    if len(pairs) and len(set(held_out.cohort.subject_ids)) > 1:
        between = between_distances(held_out.embeddings_NE, held_out.cohort.subject_ids, num=2000, seed=seed)
        rescans = held_out.distances(repeats) if len(repeats) else None
        drawn["distances"] = plots.distance_histogram(held_out.distances(pairs), between, rescans)
        drawn["trajectories"] = plots.trajectories(
            held_out.embeddings_NE, pairs.earlier_P, pairs.later_P, pairs.labels_P, seed=seed
        )
    if len(held_out.labelled):
        distance_P, delta_P = held_out.distances(held_out.labelled), held_out.labelled.delta_P
        rho = change_correlation(distance_P, delta_P).rho
        noise_95 = noise_floor(held_out.distances(repeats)).percentile_95 if len(repeats) else None
        drawn["change"] = plots.change_scatter(distance_P, delta_P, rho=rho, noise_95=noise_95)
    if history:
        losses = {
            name.removesuffix("_over_chance"): [entry.get(name, float("nan")) for entry in history]
            for name in history[0]
            if name.endswith("_over_chance")
        }
        retrieval = [entry["retrieval_at_1"] for entry in history if "retrieval_at_1" in entry]
        drawn["training"] = plots.training_curves(
            [entry["epoch"] for entry in history],
            losses,
            retrieval or None,
            retrieval_chance=history[-1].get("retrieval_chance"),
        )
    return drawn


def _epoch_plots(held_out: HeldOut, run: Run, store: Store) -> dict[str, bytes]:
    """The paths at several epochs, where the run kept at least two of them."""
    epochs = kept_epochs(run)
    has_paths = len(held_out.pairs) > 0 and len(held_out.cohort.indices_by_subject) > 1
    if run.recipe.task != "progression" or not has_paths or sum(epoch > 0 for epoch in epochs) < 2:
        return {}
    cohort, last = held_out.cohort, run.recipe.epochs
    shown = spread(epochs, EPOCHS_DRAWN)
    embeddings = embed_epochs(run, store, cohort, [epoch for epoch in shown if epoch != last])
    if last in shown:  # the finished model's, which are there already
        embeddings[last] = held_out.embeddings_NE
    return {"epochs": epoch_trajectories(embeddings, cohort.labels, cohort.days_N, seed=run.recipe.seed)}


def _progression_plots(held_out: HeldOut, probabilities_P3: np.ndarray) -> dict[str, bytes]:
    labels_P = held_out.labelled.labels_P
    return {
        "confusion": plots.confusion_plot(progression.confusion_counts(labels_P, probabilities_P3.argmax(axis=1))),
        "reliability": plots.reliability_plot(progression.reliability_bins(labels_P, probabilities_P3)),
    }


def _map_plots(trained: Trained, answers: Answers, store: Store) -> dict[str, bytes]:
    found = map_largest_change(trained, answers, store)
    if found is None:
        return {}
    score = trained.run.recipe.outcome.name
    return {"map": map_plot(found.later_DHW, found.density_DHW, told=found.told, true=found.true, score=score)}


def _count(cohort: Cohort, run: Run) -> SplitCount:
    pairs = visit_pairs(cohort, run.recipe.outcome, which="consecutive").labelled()
    return SplitCount(subjects=len(cohort.indices_by_subject), scans=len(cohort), pairs=len(pairs))


def _summary(history: History) -> HistorySummary:
    if not history:
        return HistorySummary(num_epochs=0)
    losses = [entry["loss"] for entry in history]
    return HistorySummary(
        num_epochs=len(history),
        first_loss=losses[0],
        last_loss=losses[-1],
        best_epoch=int(np.argmin(losses)),
        seconds=sum(entry["seconds"] for entry in history),
    )


def _notes(run: Run, cohort: Cohort) -> tuple[str, ...]:
    outcome = run.recipe.outcome
    good = "rise" if outcome.higher_is_better else "fall"
    why = f" ({outcome.source})" if outcome.source else ""
    return (
        f"Progression: a {good} of {outcome.name} by at least {outcome.threshold:g}{why} between consecutive visits is "
        "improved, the opposite declined, anything between stable.",
        "Subjects were split before pairs were made; intervals resample held-out subjects.",
        "Progression head and its temperature were fitted on training and validation subjects only.",
        *((f"{cohort.note}.",) if cohort.note else ()),
    )


def _absent(held_out: HeldOut, trained: Trained) -> tuple[str, ...]:
    """What could not be measured on these subjects, and why."""
    outcome = trained.run.recipe.outcome.name
    reasons = {
        "One subject is held out: no retrieval, and no distances between subjects.": len(
            held_out.cohort.indices_by_subject
        )
        == 1,
        "No held-out subject has visits on two known days: no distances between visits.": not len(held_out.pairs),
        "No held-out subject was scanned twice on one day: no noise floor.": not len(held_out.repeats),
        f"No held-out pair of visits has {outcome} at both: no figures of change.": not len(held_out.labelled),
        f"The training pairs show fewer than two kinds of change in {outcome}: no progression head.": (
            trained.head is None
        ),
    }
    return tuple(reason for reason, holds in reasons.items() if holds)


def _unshuffled(controls: tuple[ControlResult, ...]) -> tuple[str, ...]:
    if not controls or any(control.name == "shuffled_labels" for control in controls):
        return ()
    return ("No two held-out people have equally many pairs: labels cannot be shuffled between them.",)


def _write(run: Run, evaluation: Evaluation, drawn: Mapping[str, bytes], history: History) -> None:
    for name, png in drawn.items():
        run.location.write(f"{FOLDER}/{name}.png", png)
    run.location.write(REPORT_NAME, render_report(evaluation, drawn, history).encode())
    # Last, so that whoever finds the numbers finds the report too.
    run.location.write(METRICS_NAME, evaluation.model_dump_json(indent=2).encode())
