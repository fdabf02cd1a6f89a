"""Evaluates a finished run on its held-out subjects: reads the store once, then numbers, figures and the report."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from preprocess.errors import StoreError
from preprocess.store import Store
from preprocess.types import PROGRESSIONS
from trainer.data.cohort import Cohort
from trainer.data.pairs import Pairs, rescan_pairs, visit_pairs
from trainer.data.splits import SPLITS
from trainer.encoders.visits import VisitEncoder
from trainer.evaluate import figures, metrics, similarity
from trainer.evaluate.controls import PairTable, compare_with_controls, control_results, fit_controls, permute_labels
from trainer.evaluate.evaluation import ControlResult, Evaluation, HistorySummary, Metric, SplitCount
from trainer.evaluate.intervals import cluster_bootstrap
from trainer.evaluate.probes import best_threshold
from trainer.evaluate.published import binary_figures
from trainer.evaluate.report import render_report
from trainer.evaluate.targets import Embedded, accuracy, stranger_correlation, target_metrics
from trainer.fit.context import cohort_of
from trainer.fit.embedding import embed_cohort, embed_visits
from trainer.fit.precision import Compute, choose_compute
from trainer.fit.run import Run
from trainer.fit.tracking import History, read_history
from trainer.fit.trained import Trained, load_trained
from trainer.recipe_terms import MarginContrastTerm, PreferenceTerm

FOLDER = "evaluation"
METRICS_NAME = f"{FOLDER}/metrics.json"
REPORT_NAME = f"{FOLDER}/report.html"


@dataclass(frozen=True)
class HeldOut:
    """The held-out subjects' scans, embedded, and their pairs."""

    cohort: Cohort
    embeddings_NE: np.ndarray
    pairs: Pairs
    labelled: Pairs
    repeats: Pairs

    def distances(self, pairs: Pairs) -> np.ndarray:
        """Cosine distance of each pair."""
        return similarity.cosine_distances(self.embeddings_NE, pairs.earlier_P, pairs.later_P)

    def subjects(self, pairs: Pairs) -> np.ndarray:
        """Subject of each pair."""
        return np.array(self.cohort.subject_ids)[pairs.earlier_P]


def evaluate_run(run: Run, *, store_uri: str | None = None) -> Evaluation:
    """Measure a run and write metrics.json, the figures and report.html into its folder.

    Args:
        run: a finished run.
        store_uri: where its store is now, if it was moved.

    Returns:
        What was found.

    Raises:
        RunError: the run is not finished.
        StoreError: the store is another one, or has no scan of the held-out subjects.
    """
    store = run.open_store(store_uri)
    recipe = run.recipe
    trained = load_trained(run, store)
    cohort = cohort_of(store, recipe.data, recipe.outcome.name)
    held_out = _embed_held_out(trained, store, cohort)
    history = read_history(run.location)
    found = _similarity_metrics(held_out, recipe.seed)
    found |= _score_metrics(held_out, trained, recipe.seed)
    found |= _published_metrics(held_out, trained, store, cohort)
    drawn = _similarity_figures(held_out, recipe.seed, history)
    controls: tuple[ControlResult, ...] = ()
    if recipe.target == "progression" and trained.head is not None and len(held_out.labelled):
        probabilities_P3 = _probabilities(held_out, trained)
        found |= _progression_metrics(held_out, probabilities_P3, recipe.seed)
        drawn |= _progression_figures(held_out, probabilities_P3)
        training = cohort.of_subjects(run.split.of("train"))
        known = visit_pairs(training, recipe.outcome, which="consecutive").labelled()
        table, held_table = _pair_table(training, known), _pair_table(held_out.cohort, held_out.labelled)
        controls = _controls(table, held_table, probabilities_P3.argmax(axis=1), recipe.seed)
    evaluation = Evaluation(
        run_uri=run.location.uri,
        recipe=recipe.name,
        fingerprint=store.manifest.fingerprint,
        splits={name: _count(cohort.of_subjects(run.split.of(name)), run) for name in SPLITS},
        metrics=found,
        controls=controls,
        history=_summary(history),
        notes=_notes(run),
        caveats=_absent(held_out, trained),
    )
    _write(run, evaluation, drawn, history)
    return evaluation


def _published_metrics(held_out: HeldOut, trained: Trained, store: Store, cohort: Cohort) -> dict[str, Metric]:
    """What the paper of the recipe's method reports, beyond progression."""
    recipe, held = trained.run.recipe, Embedded(held_out.cohort, held_out.embeddings_NE)
    has_scores = not np.isnan(held_out.cohort.scores_N).all()
    found = {"stranger_correlation": stranger_correlation(held, recipe.seed)} if has_scores else {}
    if recipe.target == "progression" or not has_scores:
        return found
    if recipe.target == "classification":
        return found | _classified(trained, store, cohort, held.cohort)
    training, validation = (
        Embedded(part, _embed(trained, store, part))
        for part in (cohort.of_subjects(trained.run.split.of(name)) for name in ("train", "validation"))
    )
    normal = next((term.normal for term in recipe.terms if isinstance(term, MarginContrastTerm | PreferenceTerm)), 0.0)
    return found | target_metrics(recipe.target, training, validation, held, normal=normal, seed=recipe.seed)


def _classified(trained: Trained, store: Store, cohort: Cohort, held: Cohort) -> dict[str, Metric]:
    """Two classes by the fusion head, whose threshold comes from the validation subjects."""
    assert isinstance(trained.encoder, VisitEncoder)
    negative, positive = trained.result["fusion_head"]["classes"]
    answers = []
    for part in (cohort.of_subjects(trained.run.split.of("validation")), held):
        known = part.at(np.flatnonzero(np.isin(part.scores_N, (negative, positive))).tolist())
        visits = embed_visits(trained.encoder, store, known, Compute(torch.device("cpu"), torch.float32))
        answers.append((known, known.scores_N == positive, trained.class_probability(visits)))
    (_, chosen_N, chosen_probability_N), (known, positive_N, probability_N) = answers
    threshold = best_threshold(chosen_N, chosen_probability_N) if 0 < chosen_N.mean() < 1 else 0.5
    figures = binary_figures(
        positive_N, probability_N, probability_N >= threshold, known.subject_ids, seed=trained.run.recipe.seed
    )
    return {
        "class_balanced_accuracy": figures.balanced_accuracy,
        "class_auc": figures.auc,
        "class_sensitivity": figures.sensitivity,
        "class_specificity": figures.specificity,
    }


def _embed(trained: Trained, store: Store, cohort: Cohort) -> np.ndarray:
    recipe = trained.run.recipe
    compute = Compute(choose_compute(recipe.device, "float32").device, torch.float32)
    embeddings_NE = embed_cohort(trained.encoder.to(compute.device), store, recipe.data.modality, cohort, compute)
    trained.encoder.to("cpu")
    return embeddings_NE


def _embed_held_out(trained: Trained, store: Store, cohort: Cohort) -> HeldOut:
    run = trained.run
    held = cohort.of_subjects(run.split.of("test"))
    if len(held) == 0:
        raise StoreError(
            f"{store.location.uri}: no scan of the run's held-out subjects; give the store it was trained on"
        )
    embeddings_NE = _embed(trained, store, held)
    pairs = visit_pairs(held, run.recipe.outcome, which="consecutive")
    return HeldOut(held, embeddings_NE, pairs, pairs.labelled(), rescan_pairs(held, run.recipe.outcome))


def _probabilities(held_out: HeldOut, trained: Trained) -> np.ndarray:
    labelled = held_out.labelled
    return trained.probabilities(held_out.embeddings_NE[labelled.later_P] - held_out.embeddings_NE[labelled.earlier_P])


def _similarity_metrics(held_out: HeldOut, seed: int) -> dict[str, Metric]:
    cohort, embeddings_NE = held_out.cohort, held_out.embeddings_NE
    subjects = np.array(cohort.subject_ids)
    found = {"embedding_spread": Metric(value=similarity.embedding_spread(embeddings_NE), num=len(cohort))}
    if len(held_out.pairs) and len(set(cohort.subject_ids)) > 1:
        hits = similarity.same_subject_hits(embeddings_NE, cohort.subject_ids, cohort.days_N)
        interval = cluster_bootstrap(lambda rows: float(hits.hit_Q[rows].mean()), subjects[hits.row_Q], seed=seed)
        found["retrieval_at_1"] = Metric.from_interval(interval, num=len(hits.row_Q), chance=hits.summary().chance)
        apart = similarity.within_between(embeddings_NE, cohort.subject_ids, cohort.days_N)
        found["within_distance"] = Metric(value=apart.within, num=apart.num_within)
        found["between_distance"] = Metric(value=apart.between, num=apart.num_between)
        found["within_between_ratio"] = Metric(value=apart.ratio, num=apart.num_within)
    if len(held_out.repeats):
        floor = metrics.noise_floor(held_out.distances(held_out.repeats))
        found["noise_floor_median"] = Metric(value=floor.median, num=floor.num)
        found["noise_floor_95"] = Metric(value=floor.percentile_95, num=floor.num)
    if len(held_out.labelled):
        distance_P, delta_P = held_out.distances(held_out.labelled), held_out.labelled.delta_P
        interval = cluster_bootstrap(
            lambda rows: metrics.change_correlation(distance_P[rows], delta_P[rows]).rho,
            held_out.subjects(held_out.labelled),
            seed=seed,
        )
        found["change_correlation"] = Metric.from_interval(interval, num=len(delta_P), chance=0.0)
    return found


def _score_metrics(held_out: HeldOut, trained: Trained, seed: int) -> dict[str, Metric]:
    predicted_N = trained.predicted_scores(held_out.embeddings_NE)
    known_N = ~np.isnan(held_out.cohort.scores_N)
    if predicted_N is None or not known_N.any():
        return {}
    guess, true = predicted_N[known_N], held_out.cohort.scores_N[known_N]
    subjects = np.array(held_out.cohort.subject_ids)[known_N]
    mean = trained.result["score_statistics"]["mean"]
    mae = cluster_bootstrap(lambda rows: metrics.score_regression(guess[rows], true[rows]).mae, subjects, seed=seed)
    rho = cluster_bootstrap(
        lambda rows: metrics.score_regression(guess[rows], true[rows]).spearman, subjects, seed=seed
    )
    return {
        "mae": Metric.from_interval(mae, num=len(true), chance=float(np.abs(true - mean).mean())),
        "spearman": Metric.from_interval(rho, num=len(true), chance=0.0),
    }


def _progression_metrics(held_out: HeldOut, probabilities_P3: np.ndarray, seed: int) -> dict[str, Metric]:
    labels_P = held_out.labelled.labels_P
    predicted_P = probabilities_P3.argmax(axis=1)
    scores = metrics.progression_scores(labels_P, probabilities_P3)
    interval = cluster_bootstrap(
        lambda rows: metrics.macro_f1(labels_P[rows], predicted_P[rows]),
        held_out.subjects(held_out.labelled),
        seed=seed,
    )
    num = scores.num
    num_classes = len(np.unique(labels_P))
    found = {
        "macro_f1": Metric.from_interval(interval, num=num, chance=scores.macro_f1_chance),
        "accuracy": accuracy(labels_P, predicted_P, held_out.subjects(held_out.labelled), seed),
        "balanced_accuracy": Metric(value=scores.balanced_accuracy, num=num, chance=1 / num_classes),
        "log_loss": Metric(value=scores.log_loss, num=num, chance=metrics.label_entropy(labels_P)),
        "brier": Metric(value=scores.brier, num=num),
        "calibration_error": Metric(value=scores.calibration_error, num=num),
    }
    for place, progression in enumerate(PROGRESSIONS):
        found[f"recall_{progression}"] = Metric(value=scores.recall[place], num=int((labels_P == place).sum()))
    return found


def _controls(
    training: PairTable, held_out: PairTable, predicted_P: np.ndarray, seed: int
) -> tuple[ControlResult, ...]:
    if len(training.label) == 0:
        return ()
    fitted = fit_controls(training, held_out, seed)
    compared = compare_with_controls(fitted, held_out, predicted_P, seed=seed)
    shuffled = permute_labels(held_out.label, predicted_P, seed=seed)
    return control_results(fitted, compared, shuffled, num=len(held_out.label))


def _pair_table(cohort: Cohort, pairs: Pairs) -> PairTable:
    scanners = np.array(cohort.scanners)
    return PairTable(
        subject_id=np.array(cohort.subject_ids)[pairs.earlier_P],
        gap_days=pairs.gap_days_P,
        scanner_earlier=scanners[pairs.earlier_P],
        scanner_later=scanners[pairs.later_P],
        label=pairs.labels_P,
    )


def _similarity_figures(held_out: HeldOut, seed: int, history: History) -> dict[str, bytes]:
    drawn: dict[str, bytes] = {}
    pairs, repeats = held_out.pairs, held_out.repeats
    if len(pairs) and len(set(held_out.cohort.subject_ids)) > 1:
        between = similarity.between_distances(held_out.embeddings_NE, held_out.cohort.subject_ids, num=2000, seed=seed)
        rescans = held_out.distances(repeats) if len(repeats) else None
        drawn["distances"] = figures.distance_histogram(held_out.distances(pairs), between, rescans)
        drawn["trajectories"] = figures.trajectories(
            held_out.embeddings_NE, pairs.earlier_P, pairs.later_P, pairs.labels_P, seed=seed
        )
    if len(held_out.labelled):
        distance_P, delta_P = held_out.distances(held_out.labelled), held_out.labelled.delta_P
        rho = metrics.change_correlation(distance_P, delta_P).rho
        noise_95 = metrics.noise_floor(held_out.distances(repeats)).percentile_95 if len(repeats) else None
        drawn["change"] = figures.change_scatter(distance_P, delta_P, rho=rho, noise_95=noise_95)
    if history:
        losses = {
            name.removesuffix("_over_chance"): [entry.get(name, float("nan")) for entry in history]
            for name in history[0]
            if name.endswith("_over_chance")
        }
        retrieval = [entry["retrieval_at_1"] for entry in history if "retrieval_at_1" in entry]
        drawn["training"] = figures.training_curves(
            [entry["epoch"] for entry in history],
            losses,
            retrieval or None,
            retrieval_chance=history[-1].get("retrieval_chance"),
        )
    return drawn


def _progression_figures(held_out: HeldOut, probabilities_P3: np.ndarray) -> dict[str, bytes]:
    labels_P = held_out.labelled.labels_P
    return {
        "confusion": figures.confusion_figure(metrics.confusion_counts(labels_P, probabilities_P3.argmax(axis=1))),
        "reliability": figures.reliability_figure(metrics.reliability_bins(labels_P, probabilities_P3)),
    }


def _count(cohort: Cohort, run: Run) -> SplitCount:
    pairs = visit_pairs(cohort, run.recipe.outcome, which="consecutive").labelled()
    return SplitCount(subjects=len(cohort.places_by_subject), scans=len(cohort), pairs=len(pairs))


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


def _notes(run: Run) -> tuple[str, ...]:
    outcome = run.recipe.outcome
    good = "rise" if outcome.higher_is_better else "fall"
    return (
        f"Progression: a {good} of {outcome.name} by at least {outcome.threshold:g} between consecutive visits is "
        "improved, the opposite declined, anything between stable.",
        "Subjects were split before pairs were made; intervals resample held-out subjects.",
        "Progression head and its temperature were fitted on training and validation subjects only.",
    )


def _absent(held_out: HeldOut, trained: Trained) -> tuple[str, ...]:
    """What could not be measured on these subjects, and why."""
    outcome = trained.run.recipe.outcome.name
    reasons = {
        "One subject is held out: no retrieval, and no distances between subjects.": len(
            held_out.cohort.places_by_subject
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


def _write(run: Run, evaluation: Evaluation, drawn: Mapping[str, bytes], history: History) -> None:
    for name, png in drawn.items():
        run.location.write(f"{FOLDER}/{name}.png", png)
    run.location.write(REPORT_NAME, render_report(evaluation, drawn, history).encode())
    # Last, so that whoever finds the numbers finds the report too.
    run.location.write(METRICS_NAME, evaluation.model_dump_json(indent=2).encode())
