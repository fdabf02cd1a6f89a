"""The checks of an artefact's answers: fitted to the training scans, then tried on scans of held-out people.

The table that comes out (`Decision.flagged`) says how many of the held-out people's scans are flagged as they are, how
many of the same scans spoilt on purpose, how many pairs of one and of two people count as not of one person, and how
many on one and on two scanners as of two scanners.
"""

from dataclasses import dataclass, fields

import numpy as np
import torch

from preprocess.distances import OUTSIDE_PERCENTILE, mahalanobis_distances, percentile_rank
from preprocess.image_statistics import CheckName, ImageReferences, image_statistics
from preprocess.manifest import Check, Decision, Flagged
from preprocess.store import Store
from preprocess.transforms import unit_scale
from preprocess.types import FloatArray
from trainer.data.cohort import Cohort
from trainer.encoders import Embedder
from trainer.export.image_references import FEWEST_VOXELS, DescribedScans, describe_scans, fit_checks
from trainer.export.references import embedding_distribution
from trainer.export.stress import corruptions
from trainer.fit.embedding import BATCH

MOST_STRESSED = 32
"""Held-out scans that are spoilt, spread over the cohort: each is spoilt a dozen ways."""
WANTED = 0.95
"""Share of spoilt scans and of pairs of two people that should be flagged; a smaller one is named as a limitation."""
NOT_TO_BE_FLAGGED = frozenset({"held_out", "mirrored", "own_visits", "same_scanner"})


@dataclass(frozen=True)
class Checked:
    """A part with its checks and table, and the arrays that the checks need."""

    decision: Decision
    arrays: dict[str, np.ndarray]

    @property
    def limits(self) -> tuple[str, ...]:
        """What is flagged too seldom, in sentences."""
        return tuple(
            f"Of held-out scans or pairs of the kind {kind}, only {found.share:.0%} of {found.num} are flagged."
            for kind, found in self.decision.flagged.items()
            if kind not in NOT_TO_BE_FLAGGED and found.share < WANTED
        )


@dataclass(frozen=True)
class EmbeddedCohort:
    """Scans with their embeddings."""

    cohort: Cohort
    embeddings_NE: np.ndarray


@dataclass(frozen=True)
class Examiner:
    """Tells whether one volume is flagged: by its image statistics, and only then by its embedding.

    Attributes:
        encoder: in evaluation mode, on the CPU.
        references: what image statistics are held against.
        checks: their limits.
        distribution: the embeddings', from `embedding_distribution`.
    """

    encoder: Embedder
    references: ImageReferences
    checks: tuple[Check, ...]
    distribution: dict[str, np.ndarray]

    def is_flagged(self, volume_CDHW: FloatArray) -> bool:
        """Whether any check of a scan is beyond its limit, or the embedding outside the training distribution."""
        distances = self.references.distances(image_statistics(volume_CDHW))
        if any(distances[check.name] > check.limit for check in self.checks if check.name in distances):
            return True
        distances_Q = self.distribution["ood_distances_Q"]
        if not distances_Q.size:
            return False
        with torch.inference_mode():
            embedding_1E = self.encoder(torch.as_tensor(np.ascontiguousarray(volume_CDHW))[None]).numpy()
        (distance,) = mahalanobis_distances(
            embedding_1E, self.distribution["ood_mean_E"], self.distribution["ood_precision_EE"]
        )
        return percentile_rank(distances_Q, distance) > OUTSIDE_PERCENTILE

    def limit(self, name: CheckName) -> float | None:
        """A check's limit; None where it is not checked."""
        return next((check.limit for check in self.checks if check.name == name), None)


def with_checks(
    decision: Decision,
    encoder: Embedder,
    store: Store,
    modality: str,
    *,
    training: EmbeddedCohort,
    validation: EmbeddedCohort,
    held_out: Cohort,
    seed: int,
) -> Checked:
    """Fit the checks and try them; the part as it is where the cohort is too small for checks.

    Args:
        decision: without checks.
        encoder: what embeds scans, in evaluation mode, on the CPU.
        store: where the scans are.
        modality: one of volumes.
        training: what the references are fitted to.
        validation: people who set limits and were not trained on.
        held_out: people whom the checks are tried on.
        seed: divides the training people into folds.
    """
    if min(store.layout(modality).shape[1:]) < FEWEST_VOXELS:
        return Checked(decision, {})
    fitted = fit_checks(
        describe_scans(store, modality, training.cohort),
        describe_scans(store, modality, validation.cohort),
        seed=seed,
    )
    if fitted is None:
        return Checked(decision, {})
    references, checks = fitted
    # Mirror images belong to the distribution too: nobody can tell one by looking.
    both = [
        np.concatenate([part.embeddings_NE, _mirrored_embeddings(encoder, store, modality, part.cohort)])
        for part in (training, validation)
    ]
    distribution = embedding_distribution(*both)
    examiner = Examiner(encoder, references, checks, distribution)
    flagged = _flagged_scans(examiner, store, modality, held_out)
    flagged |= _flagged_pairs(examiner, describe_scans(store, modality, held_out))
    own = {field.name: getattr(references, field.name).astype(np.float32) for field in fields(references)}
    return Checked(decision.model_copy(update={"checks": checks, "flagged": flagged}), own | distribution)


@torch.inference_mode()
def _mirrored_embeddings(encoder: Embedder, store: Store, modality: str, cohort: Cohort) -> np.ndarray:
    scale = np.float32(unit_scale(store.manifest.recipe.dtype_of(modality)))
    parts = []
    for start in range(0, len(cohort), BATCH):
        rows = cohort.rows_N[start : start + BATCH]
        volumes_BCDHW = np.stack([store.read(int(row), modality)[:, ::-1] for row in rows]) * scale
        parts.append(encoder(torch.as_tensor(volumes_BCDHW)).numpy())
    return np.concatenate(parts)


def _flagged_scans(examiner: Examiner, store: Store, modality: str, held_out: Cohort) -> dict[str, Flagged]:
    recipe = store.manifest.recipe
    scale = np.float32(unit_scale(recipe.dtype_of(modality)))
    spoilt = set(np.linspace(0, len(held_out) - 1, min(MOST_STRESSED, len(held_out))).round().astype(int).tolist())
    kinds = corruptions(recipe.spacing_mm)
    found: dict[str, list[bool]] = {"held_out": [], **{kind: [] for kind in kinds}}
    for index, row in enumerate(held_out.rows_N):
        volume_CDHW = store.read(int(row), modality) * scale
        found["held_out"].append(examiner.is_flagged(volume_CDHW))
        if index in spoilt:
            for kind, corrupt in kinds.items():
                bad_CDHW = np.stack([corrupt(channel_DHW, recipe.spacing_mm) for channel_DHW in volume_CDHW])
                found[kind].append(examiner.is_flagged(bad_CDHW))
    return {kind: _share(flags) for kind, flags in found.items()}


def _flagged_pairs(examiner: Examiner, held_out: DescribedScans) -> dict[str, Flagged]:
    looks, references = held_out.found, examiner.references
    someone_else, other_scanner = examiner.limit("identity"), examiner.limit("scanner")
    found: dict[str, list[bool]] = {}
    firsts = list({person: index for index, person in reversed(list(enumerate(held_out.people)))}.values())
    strangers = [(first, second) for number, first in enumerate(firsts) for second in firsts[number + 1 :]]
    if someone_else is not None:
        for kind, pairs in (("own_visits", held_out.pairs_P2.tolist()), ("another_person", strangers)):
            found[kind] = [references.identity(looks[a], looks[b]) > someone_else for a, b in pairs]
    if other_scanner is not None:
        for kind, is_same in (("same_scanner", True), ("other_scanner", False)):
            pairs = held_out.on_scanners(same=is_same).tolist()
            found[kind] = [references.scanner(looks[a], looks[b]) > other_scanner for a, b in pairs]
    return {kind: _share(flags) for kind, flags in found.items() if flags}


def _share(flags: list[bool]) -> Flagged:
    return Flagged(share=float(np.mean(flags)), num=len(flags))
