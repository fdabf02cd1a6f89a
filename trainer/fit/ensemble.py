"""Trains the members of an ensemble, each without one part of the training subjects, and joins them to one model.

The run's folder holds a run of its own for each member (members/0, ...), which resumes as any other; what is joined is
written last.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from preprocess.console import LOG
from preprocess.errors import Interrupted
from preprocess.lease import RUN, LeasedLocation, held
from preprocess.storage import Location
from preprocess.store import Store
from trainer.data.splits import Split
from trainer.encoders import Embedder
from trainer.encoders.ensemble import EnsembleEncoder
from trainer.fit.change_head import ScoreDirection, fit_on_unseen, mean_direction, score_direction, unseen_pairs
from trainer.fit.context import score_statistics, training_cohort
from trainer.fit.embedding import embed_cohort
from trainer.fit.model import finished_encoder_for
from trainer.fit.precision import Compute
from trainer.fit.run import Run
from trainer.fit.run_files import Outcome, RunResult
from trainer.fit.run_plan import RunPlan
from trainer.fit.stop import StopRequest
from trainer.fit.supply import SupplyOptions
from trainer.fit.tracking import History, publish_history, read_history
from trainer.recipe import TrainRecipe


class TrainOne(Protocol):
    """Trains one network; `trainer.fit.train.train_run`."""

    def __call__(
        self,
        recipe: TrainRecipe,
        store: Store,
        location: Location,
        *,
        progress: Callable[[int, int], None],
        supply: SupplyOptions | None,
        split: Split | None,
        stop: StopRequest | None,
    ) -> RunResult:
        """See `trainer.fit.train.train_run`."""


@dataclass(frozen=True)
class Member:
    """One trained network of an ensemble.

    Attributes:
        encoder: in evaluation mode, on the CPU.
        direction: what it predicts a score with.
        split: whom it was trained on; its `validation` is the part of the training subjects it has not seen.
    """

    encoder: Embedder
    direction: ScoreDirection
    split: Split


def member_location(location: Location, number: int) -> Location:
    """Folder of a member's run within the ensemble's."""
    return location.child(f"members/{number}")


def train_ensemble(
    recipe: TrainRecipe,
    store: Store,
    location: Location,
    *,
    train_one: TrainOne,
    compute: Compute,
    progress: Callable[[int, int], None],
    supply: SupplyOptions | None,
    split: Split | None,
    stop: StopRequest,
) -> RunResult:
    """Train all members that are not finished, then join them; arguments as `trainer.fit.train.train_run`.

    Raises:
        InterscanError: as `train_run`; Interrupted between two members, too.
    """
    cohort = training_cohort(store, recipe)
    plan = RunPlan.of(recipe, cohort, split)
    members = plan.members(cohort)
    splits = [member.split for member in members]
    run = Run.start(location, plan.recipe, store, plan.split)
    result = run.result()
    if result is not None:
        LOG.info("%s: already finished; nothing to do", location.uri)
        return result
    with held(location, RUN, does="trains") as leased:
        results = []
        for number, own in enumerate(splits):
            if stop.requested:
                raise Interrupted(
                    f"stopped after {number} of {len(splits)} members; run the same command again to go on"
                )
            LOG.info("member %d of %d: %d subjects train, %d are unseen", number + 1, len(splits), len(own.train),
                     len(own.validation))  # fmt: skip

            def advance(done: int, steps: int, number: int = number) -> None:
                progress(number * steps + done, len(splits) * steps)

            results.append(
                train_one(
                    members[number].recipe,
                    store,
                    member_location(leased, number),
                    progress=advance,
                    supply=supply,
                    split=own,
                    stop=stop,
                )
            )
        return _join(Run(leased, run.record), leased, store, plan, splits, results, compute)


def load_members(run: Run, store: Store, splits: Sequence[Split]) -> list[Member]:
    """The finished members of a run.

    Raises:
        RunError: one is not finished, damaged or gone.
    """
    members = []
    for number, split in enumerate(splits):
        own = Run.open(member_location(run.location, number))
        state, result = own.load_model()
        encoder = finished_encoder_for(own.recipe.encoder, own.recipe.data, store)
        encoder.load_state_dict(state["encoder"])
        assert result.score_statistics is not None
        direction = score_direction(state["score_head"], result.score_statistics, run.recipe.outcome)
        members.append(Member(encoder.eval(), direction, split))
    return members


def _join(
    run: Run,
    leased: LeasedLocation,
    store: Store,
    plan: RunPlan,
    splits: Sequence[Split],
    results: Sequence[RunResult],
    compute: Compute,
) -> RunResult:
    """Calibrate on what each member answers for the subjects it has not seen, and write the joined model."""
    members = load_members(run, store, splits)
    exact = Compute(compute.device, torch.float32)
    parts = []
    for member in members:
        unseen = plan.training.of_subjects(member.split.of("validation"))
        embeddings_NE = embed_cohort(member.encoder.to(exact.device), store, plan.recipe.data.arrays, unseen, exact)
        member.encoder.to("cpu")
        parts.append(unseen_pairs(unseen, member.direction.scores(embeddings_NE), plan.recipe))
    direction = mean_direction([member.direction for member in members])
    head = fit_on_unseen(parts, direction, seed=plan.recipe.seed, change_noise=plan.recipe.outcome.change_noise)
    statistics = score_statistics(plan.training)
    assert statistics is not None
    encoder = EnsembleEncoder([member.encoder for member in members])
    histories = [read_history(member_location(leased, number)) for number in range(len(members))]
    history = _mean_history(histories)
    publish_history(leased, history)
    model = {
        "encoder": encoder.state_dict(),
        "projector": None,
        "score_head": direction.score_head(statistics).state_dict(),
        "anchor_E": None,
        "progression_head": None if head is None else head.head.state_dict(),
    }
    seconds = sum(entry["seconds"] for own in histories for entry in own)
    volumes = sum(entry["volumes"] for own in histories for entry in own)
    outcome = Outcome(
        finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        steps=sum(result.steps for result in results),
        precision=results[0].precision,
        volumes_per_s=volumes / seconds,
        last_epoch=history[-1],
        score_statistics=statistics,
        progression_head=None if head is None else head.summary(),
    )
    return run.finish(model, outcome)


def _mean_history(histories: Sequence[History]) -> History:
    """By epoch the mean over members of each number that all have; volumes and seconds are summed."""
    joined = []
    for entries in zip(*histories, strict=True):
        values: defaultdict[str, list[float]] = defaultdict(list)
        for entry in entries:
            for name, value in entry.items():
                values[name].append(value)
        joined.append(
            {
                name: float(np.sum(found) if name in ("volumes", "seconds") else np.mean(found))
                for name, found in values.items()
                if len(found) == len(entries)
            }
        )
    return joined
