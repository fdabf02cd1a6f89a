"""Settings of a recipe that are each in range and exclude each other, refused with both values and the remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from preprocess.errors import UsageError

if TYPE_CHECKING:
    from trainer.objectives.base import Term
    from trainer.recipe import TrainRecipe

VOLUME_ENCODERS = ("fast", "reference", "slice-tsm-resnet18")


def refuse_contradictions(recipe: TrainRecipe, *, where: str) -> None:
    """Refuse settings that are each in range and exclude each other.

    Args:
        recipe: every setting.
        where: how messages name it.

    Raises:
        UsageError: with both settings and the remedy.
    """
    if bool(recipe.objective) == bool(recipe.phase):
        raise UsageError(
            f"{where}: {len(recipe.objective)} objectives and {len(recipe.phase)} phases; name [[objective]] tables, "
            "or [[phase]] tables with objectives of their own"
        )
    for phase in recipe.phases:
        names = [term.name for term in phase.objective]
        if len(set(names)) < len(names):
            raise UsageError(
                f"{where}: the objectives are {', '.join(names)}; name each once, with the sum of its weights"
            )
    if recipe.data.views > 1 and recipe.data.sampling != "scans":
        raise UsageError(
            f"{where}: data.views is {recipe.data.views} and data.sampling is {recipe.data.sampling!r}; views are of "
            "single scans: set data.sampling = 'scans', or data.views = 1"
        )
    for term in recipe.terms:
        _refuse_term(term, recipe, where=where)
    if recipe.encoder.residual and recipe.encoder.name != "multimodal":
        raise UsageError(
            f"{where}: encoder.residual is true and encoder.name is {recipe.encoder.name!r}, which has no matrices to "
            "attend over; leave it at false"
        )
    if recipe.data.modalities or recipe.encoder.name == "multimodal":
        _refuse_modalities(recipe, where=where)
    if recipe.optim.cache_chunk > 0 and recipe.encoder.norm == "batch":
        raise UsageError(
            f"{where}: optim.cache_chunk is {recipe.optim.cache_chunk} and encoder.norm is 'batch', whose statistics "
            "of the whole batch no chunk has; set encoder.norm = 'group', or optim.cache_chunk = 0"
        )
    if recipe.optim.cache_chunk > 0 and "tsm" in recipe.encoder.name:
        raise UsageError(
            f"{where}: optim.cache_chunk is {recipe.optim.cache_chunk} and encoder.name is {recipe.encoder.name!r}, "
            "which draws other frames each time it sees a scan; set optim.cache_chunk = 0"
        )
    _refuse_head(recipe, where=where)
    _refuse_best(recipe, where=where)


def _refuse_best(recipe: TrainRecipe, *, where: str) -> None:
    """Refuse a figure that no epoch has, and the best epoch by none."""
    best, held_out = recipe.checkpoint.best, ("retrieval_at_1", "change_error")
    if recipe.checkpoint.finish == "best" and not best:
        raise UsageError(
            f"{where}: checkpoint.finish is 'best' and checkpoint.best is empty; name the figure that decides, such as "
            "'retrieval_at_1', or set checkpoint.finish = 'last'"
        )
    if best == "change_error" and recipe.head.on != "score":
        raise UsageError(
            f"{where}: checkpoint.best is 'change_error' and head.on is {recipe.head.on!r}, which tells no change in "
            "points; set head.on = 'score', or name loss or retrieval_at_1"
        )
    for phase in recipe.phases:
        names = [term.name for term in phase.objective]
        if best not in ("", "loss", *held_out) and best.removesuffix("_over_chance") not in names:
            raise UsageError(
                f"{where}: checkpoint.best is {best!r} and the objectives are {', '.join(names)}; name a "
                "figure of one of them, loss, retrieval_at_1 or change_error"
            )


def _refuse_term(term: Term, recipe: TrainRecipe, *, where: str) -> None:
    """Refuse an objective that the data starve."""
    data = recipe.data
    if term.needs_sampling is not None and data.sampling != term.needs_sampling[0]:
        needed, does = term.needs_sampling
        raise UsageError(
            f"{where}: {term.name} {does}, data.sampling is {data.sampling!r}; set data.sampling = {needed!r}"
        )
    if term.needs_visits and data.sampling == "scans":
        raise UsageError(
            f"{where}: {term.name} compares a subject's scans, data.sampling is 'scans'; set data.sampling = 'pairs'"
        )
    if term.needs_views and data.views != 2:
        raise UsageError(
            f"{where}: {term.name} compares two views of a scan, data.views is {data.views}; set data.views = 2"
        )
    if term.needs_modalities and not data.modalities:
        raise UsageError(
            f"{where}: {term.name} needs the modalities of a visit and data.modalities is empty; name them, with "
            "encoder.name = 'multimodal'"
        )
    if term.compares_modalities and len(data.modalities) < 2:
        raise UsageError(
            f"{where}: {term.name} compares modalities and data.modalities has {len(data.modalities)}; name two or more"
        )


def _refuse_head(recipe: TrainRecipe, *, where: str) -> None:
    """Refuse a head on scores that nothing trains, and members that no head can join."""
    on_score = recipe.head.on == "score"
    if recipe.encoder.shrink > 1 and recipe.encoder.name != "fast":
        raise UsageError(
            f"{where}: encoder.shrink is {recipe.encoder.shrink} and encoder.name is {recipe.encoder.name!r}, which "
            "does not shrink volumes; set encoder.name = 'fast', or encoder.shrink = 1"
        )
    beside = [f"encoder.{name}" for name in ("linear_grid", "mirror") if getattr(recipe.encoder, name)]
    if beside and (not on_score or recipe.encoder.name not in VOLUME_ENCODERS):
        raise UsageError(
            f"{where}: {' and '.join(beside)} set, head.on is {recipe.head.on!r} and encoder.name is "
            f"{recipe.encoder.name!r}; both belong to a head on scores of volumes: set head.on = 'score' and an "
            f"encoder of volumes ({', '.join(VOLUME_ENCODERS)}), or leave them out"
        )
    if on_score and not any(term.trains_score_head for term in recipe.phases[-1].objective):
        raise UsageError(
            f"{where}: head.on is 'score' and no objective of the last phase predicts scores; add pair_change or "
            "learner, or set head.on = 'embedding'"
        )
    if recipe.ensemble.members > 1 and not on_score:
        raise UsageError(
            f"{where}: ensemble.members is {recipe.ensemble.members} and head.on is 'embedding'; members have "
            "embeddings of their own and only predicted scores in common: set head.on = 'score', or members = 1"
        )


def _refuse_modalities(recipe: TrainRecipe, *, where: str) -> None:
    """Refuse what a run of several modalities cannot have."""
    data, names = recipe.data, recipe.data.modalities
    if not names or recipe.encoder.name != "multimodal":
        raise UsageError(
            f"{where}: data.modalities has {len(names)} names and encoder.name is {recipe.encoder.name!r}; "
            "encoder 'multimodal' and data.modalities go together: set both, or neither"
        )
    if len(set(names)) < len(names):
        raise UsageError(f"{where}: data.modalities is {', '.join(names)}; name each once")
    if data.sampling != "scans" or data.views != 1 or data.max_left_out != 0:
        raise UsageError(
            f"{where}: data.sampling is {data.sampling!r}, data.views {data.views} and data.max_left_out "
            f"{data.max_left_out}; with data.modalities a batch holds whole single visits: set data.sampling = "
            "'scans', data.views = 1 and data.max_left_out = 0"
        )
    augments = [f"augment.{name}" for name, value in recipe.augment.model_dump().items() if value]
    if augments:
        raise UsageError(
            f"{where}: {', '.join(augments)} above 0, and with data.modalities nothing is augmented; leave it at 0"
        )
    if recipe.optim.cache_chunk > 0:
        raise UsageError(
            f"{where}: optim.cache_chunk is {recipe.optim.cache_chunk}, and visits with data.modalities are not "
            "embedded in chunks; set optim.cache_chunk = 0"
        )
