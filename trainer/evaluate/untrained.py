"""The control that sees the scans: the network of the same recipe and seed before training, measured alike.

Shapes of heads differ so much that random weights find a person again, and a head fitted on their embeddings tells some
change. What a trained network does not do better, training has not added. It costs one pass over the held-out scans
and, where a head or a probe is fitted, one over the training and validation scans: forward only, so less than an epoch.

Weights are random also where the recipe began with weights from a file. Batch normalisation has the statistics it
begins with. Arrays are standardised as for the trained network, which is no training of weights.
"""

from dataclasses import dataclass, replace

import torch

from preprocess.store import Store
from trainer.data.cohort import Cohort
from trainer.encoders import Embedder
from trainer.encoders.visits import VisitEncoder
from trainer.evaluate.identity import identity_leads
from trainer.evaluate.measure import Measured, can_identify, embed_with, measure_trained
from trainer.fit.embedding import embed_visits
from trainer.fit.fusion import FusionExamples, fit_fusion
from trainer.fit.head import fit_head
from trainer.fit.head_pairs import head_pairs
from trainer.fit.model import new_model
from trainer.fit.precision import Compute
from trainer.fit.trained import Trained
from trainer.metrics.evaluation import ControlResult, Metric
from trainer.metrics.intervals import cluster_bootstrap
from trainer.metrics.progression import macro_f1

NAME = "untrained"
_LISTED = ("retrieval_at_1", "verification_auc", "verification_eer", "macro_f1")
"""Metrics that stand among those of the run too, with `untrained_` in front."""


@dataclass(frozen=True)
class Untrained:
    """What the untrained network shows.

    Attributes:
        control: every metric of the run that it has, and the run's leads over it, paired over subjects.
        metrics: some of them by the names they have among the run's.
    """

    control: ControlResult
    metrics: dict[str, Metric]


def measure_untrained(measured: Measured, store: Store, cohort: Cohort, *, num_resamples: int = 2000) -> Untrained:
    """Measure the untrained network on the held-out subjects of a measured run.

    Args:
        measured: the run as it was measured.
        store: what it was trained on.
        cohort: what its recipe reads of that store.
        num_resamples: number of bootstrap resamples.
    """
    found = measure_trained(untrained(measured.trained, store, cohort), store, cohort, num_resamples=num_resamples)
    seed, held_out = measured.trained.run.recipe.seed, measured.held_out
    leads: dict[str, Metric] = {}
    if can_identify(held_out):
        leads = identity_leads(
            held_out.embeddings_NE,
            found.held_out.embeddings_NE,
            held_out.cohort,
            seed=seed,
            num_resamples=num_resamples,
        )
    control = ControlResult(
        name=NAME, scores=found.metrics, lead=_macro_f1_lead(measured, found, seed, num_resamples), leads=leads
    )
    listed = {f"{NAME}_{name}": found.metrics[name] for name in _LISTED if name in found.metrics}
    return Untrained(control, listed)


def untrained(trained: Trained, store: Store, cohort: Cohort) -> Trained:
    """The run's encoder before training, with the heads that evaluation needs fitted as `train` fits them.

    Args:
        trained: the finished run.
        store: what it was trained on.
        cohort: what its recipe reads of that store.
    """
    network = replace(
        trained,
        encoder=_new_encoder(trained, store),
        score_head=None,
        head=None,
        has_fusion=False,
        projector=None,
    )
    if trained.run.recipe.task == "classification":
        return _with_fusion(network, store, cohort)
    if trained.run.recipe.task == "progression" and trained.head is not None:
        return _with_head(network, store, cohort)
    return network


def _new_encoder(trained: Trained, store: Store) -> Embedder:
    recipe = trained.run.recipe
    random = recipe.model_copy(update={"encoder": recipe.encoder.model_copy(update={"initial_weights": ""})})
    encoder = new_model(random, store).encoder
    if isinstance(encoder, VisitEncoder) and isinstance(trained.encoder, VisitEncoder):
        encoder.take_standards(trained.encoder)
    return encoder.eval()


def _with_head(network: Trained, store: Store, cohort: Cohort) -> Trained:
    recipe, split = network.run.recipe, network.run.split
    training, validation = (cohort.of_subjects(split.of(name)) for name in ("train", "validation"))
    fitted = fit_head(
        *head_pairs(embed_with(network, store, training), training, recipe),
        *head_pairs(embed_with(network, store, validation), validation, recipe),
        hidden=recipe.head.hidden,
        penalties=recipe.head.l2,
        seed=recipe.seed,
    )
    if fitted is None:
        return network
    result = network.result.model_copy(update={"progression_head": fitted.summary()})
    return replace(network, head=fitted.head, result=result)


def _with_fusion(network: Trained, store: Store, cohort: Cohort) -> Trained:
    encoder, fusion = network.encoder, network.result.fusion_head
    assert isinstance(encoder, VisitEncoder)
    assert fusion is not None
    exact = Compute(torch.device("cpu"), torch.float32)
    parts = (cohort.of_subjects(network.run.split.of(name)) for name in ("train", "validation"))
    training, validation = (
        FusionExamples.of(embed_visits(encoder, store, part, exact), part.scores_N, fusion.classes) for part in parts
    )
    fitted = fit_fusion(training, validation, classes=fusion.classes, penalties=network.run.recipe.head.l2)
    encoder.network.fusion.load_state_dict(fitted.head.state_dict())
    return replace(network, has_fusion=True)


def _macro_f1_lead(model: Measured, control: Measured, seed: int, num_resamples: int) -> Metric | None:
    if model.probabilities_P3 is None or control.probabilities_P3 is None:
        return None
    labelled = model.held_out.labelled
    model_P, control_P = model.probabilities_P3.argmax(axis=1), control.probabilities_P3.argmax(axis=1)
    interval = cluster_bootstrap(
        lambda rows: (
            macro_f1(labelled.labels_P[rows], model_P[rows]) - macro_f1(labelled.labels_P[rows], control_P[rows])
        ),
        model.held_out.subjects(labelled),
        seed=seed,
        num_resamples=num_resamples,
    )
    return Metric.from_interval(interval, num=len(labelled), chance=0.0)
