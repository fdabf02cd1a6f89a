"""What is fitted to the trained networks, and the model and result that a run ends with."""

import copy
import time

import torch

from preprocess.console import LOG
from trainer.encoders import Embedder, Encoder, ScoreHead
from trainer.encoders.linear_score import CoarseBrightness, LinearScore, WithLinearScore, mirrored_features
from trainer.encoders.mirrored import MirroredEncoder
from trainer.encoders.visits import VisitEncoder
from trainer.fit.change_head import (
    FittedChangeHead,
    blended_head,
    fit_linear_score,
    fit_on_unseen,
    score_direction,
    unseen_pairs,
)
from trainer.fit.context import two_classes
from trainer.fit.embedding import embed_visits
from trainer.fit.fusion import FittedFusion, FusionExamples, fit_fusion, judge_fusion
from trainer.fit.head import FittedHead, fit_head
from trainer.fit.head_pairs import head_pairs
from trainer.fit.loop import Loop
from trainer.fit.parts import Parts
from trainer.fit.precision import Compute
from trainer.fit.run import Run
from trainer.fit.run_files import Outcome, RunResult


def finish(parts: Parts, run: Run, loop: Loop) -> RunResult:
    """Fit the heads that the recipe asks for to the trained networks, and write model and result.

    Args:
        parts: what was trained on what.
        run: whose lease this process holds.
        loop: trained to its end.
    """
    recipe = parts.plan.recipe
    fusion = _fit_fusion(parts)
    if recipe.data.modalities and recipe.task == "classification":
        return _write(parts, run, loop, None, fusion)
    if recipe.head.on == "score":
        return _finish_on_score(parts, run, loop)
    head = _fit_progression(parts)
    if head is None:
        LOG.warning("no progression head: the training pairs show no two kinds of change in score and embedding")
    return _write(parts, run, loop, head, fusion)


def _fit_progression(parts: Parts) -> FittedHead | None:
    recipe = parts.plan.recipe
    # In float32, as the exported model will compute.
    exact = Compute(parts.compute.device, torch.float32)
    pairs = [
        head_pairs(parts.supply.embed(parts.model.encoder, cohort, exact), cohort, recipe)
        for cohort in (parts.plan.training, parts.plan.validation)
    ]
    return fit_head(*pairs[0], *pairs[1], hidden=recipe.head.hidden, penalties=recipe.head.l2, seed=recipe.seed)


def _finish_on_score(parts: Parts, run: Run, loop: Loop) -> RunResult:
    """Calibrate the predicted change on the validation subjects, the linear score with it where there is one."""
    recipe, statistics = parts.plan.recipe, parts.statistics
    assert statistics is not None
    # In float32, as the exported model will compute.
    exact = Compute(parts.compute.device, torch.float32)
    network, grid = parts.model.encoder, recipe.encoder.linear_grid
    encoder: Embedder = network
    score_head = parts.model.score_head
    if recipe.encoder.mirror and isinstance(network, Encoder):
        encoder = MirroredEncoder(network)
    if grid > 0 and isinstance(network, Encoder):
        features_NF = parts.supply.embed(CoarseBrightness(grid, network.in_channels), parts.plan.training, exact)
        if recipe.encoder.mirror:
            # Symmetric features give symmetric weights.
            features_NF = (features_NF + mirrored_features(torch.from_numpy(features_NF), grid).numpy()) / 2
        empty = LinearScore(grid, network.in_channels)
        linear = fit_linear_score(parts.plan.training, features_NF, recipe, statistics, empty)
        encoder = WithLinearScore(encoder, linear.to(exact.device))
        score_head = blended_head(score_head, linear)
    state = {name: value.cpu() for name, value in score_head.state_dict().items()}
    direction = score_direction(state, statistics, recipe.outcome)
    unseen = parts.plan.validation
    scores_N = direction.scores(parts.supply.embed(encoder, unseen, exact))
    head = fit_on_unseen(
        [unseen_pairs(unseen, scores_N, recipe)],
        direction,
        seed=recipe.seed,
        change_noise=recipe.outcome.change_noise,
    )
    return _write(parts, run, loop, head, None, encoder=encoder, score_head=score_head)


def _fit_fusion(parts: Parts) -> FittedFusion | None:
    """The fusion head on frozen encoders; where it was trained with them, that one, with its metrics."""
    recipe, encoder = parts.plan.recipe, parts.model.encoder
    if not isinstance(encoder, VisitEncoder):
        return None
    classes = two_classes(parts.plan.training.scores_N)
    if classes is None:
        LOG.warning("no fusion head: the training subjects' %s has not just two values", recipe.outcome.name)
        return None
    exact = Compute(parts.compute.device, torch.float32)
    training, validation = (
        FusionExamples.of(
            embed_visits(encoder, parts.store, cohort, exact, readers=parts.supply.readers), cohort.scores_N, classes
        )
        for cohort in (parts.plan.training, parts.plan.validation)
    )
    if any(term.trains_fusion for term in recipe.phases[-1].objective):
        return judge_fusion(copy.deepcopy(encoder.network.fusion).cpu(), training, validation, classes=classes)
    return fit_fusion(training, validation, classes=classes, penalties=recipe.head.l2)


def _write(
    parts: Parts,
    run: Run,
    loop: Loop,
    head: FittedHead | FittedChangeHead | None,
    fusion: FittedFusion | None,
    *,
    encoder: Embedder | None = None,
    score_head: ScoreHead | None = None,
) -> RunResult:
    """Write model and result; with another encoder and score head than the loop's, where more was fitted to them."""
    history = loop.position.history
    # The projector takes what the network alone embeds.
    is_network = encoder is None or encoder is loop.model.encoder
    model = {
        "encoder": (encoder or loop.model.encoder).state_dict(),
        "projector": loop.model.projector.state_dict() if is_network else None,
        "score_head": (score_head or loop.model.score_head).state_dict(),
        "anchor_E": loop.model.anchor_E,
        "progression_head": head.head.state_dict() if head else None,
    }
    has_fusion = isinstance(loop.model.encoder, VisitEncoder)
    if has_fusion:
        model["fusion_head"] = fusion.head.state_dict() if fusion else None
    outcome = Outcome(
        finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        steps=loop.position.step,
        precision=loop.precision,
        volumes_per_s=sum(entry["volumes"] for entry in history) / sum(entry["seconds"] for entry in history),
        last_epoch=history[-1],
        score_statistics=parts.statistics,
        progression_head=head.summary() if head else None,
        **({"fusion_head": fusion.summary() if fusion else None} if has_fusion else {}),
    )
    return run.finish(model, outcome)
