"""The checks of an artefact's answers: fitted to the training scans, then tried on scans of held-out people.

The table that comes out says how many of the held-out people's scans are flagged as they are, how many of the same
scans spoilt on purpose, how many pairs of one and of two people count as not of one person, and how many on one and on
two scanners as of two scanners.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields

import numpy as np
import torch
from sklearn.covariance import LedoitWolf

from preprocess.distances import OUTSIDE_PERCENTILE, mahalanobis_distances, percentile_rank
from preprocess.image_statistics import CheckName, ImageReferences, image_statistics
from preprocess.machine import num_cores
from preprocess.manifest import Check, Flagged
from preprocess.store import Store
from preprocess.transforms import unit_scale
from preprocess.types import FloatArray
from trainer.data.cohort import Cohort
from trainer.encoders import Embedder
from trainer.encoders.change_head import ChangeHead
from trainer.evaluate.image_references import FEWEST_VOXELS, DescribedScans, describe_scans, fit_checks
from trainer.evaluate.stress import corruptions
from trainer.evaluate.tasks import Embedded
from trainer.fit.embedding import BATCH
from trainer.fit.trained import Trained

MOST_STRESSED = 32
"""Held-out scans that are spoilt, spread over the cohort: each is spoilt a dozen ways."""


@dataclass(frozen=True)
class AnswerChecks:
    """Tells whether one volume is flagged: by its image statistics, and only then by its embedding.

    Attributes:
        encoder: in evaluation mode, on the CPU.
        references: what image statistics are held against.
        checks: their limits.
        distribution: the embeddings', from `embedding_distribution`, mirror images among them.
    """

    encoder: Embedder
    references: ImageReferences
    checks: tuple[Check, ...]
    distribution: dict[str, np.ndarray]

    def arrays(self) -> dict[str, np.ndarray]:
        """What references.npz holds of them, float32: `IMAGE_REFERENCE_ARRAYS` and the embeddings' distribution."""
        own = {field.name: getattr(self.references, field.name).astype(np.float32) for field in fields(self.references)}
        return own | self.distribution

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


def has_checks(trained: Trained, store: Store) -> bool:
    """Whether a run's answers are checked: those of a head on the score, from one modality of volumes."""
    modality = trained.run.recipe.data.modality
    return isinstance(trained.head, ChangeHead) and store.manifest.recipe.kind_of(modality) == "volume"


def fit_answer_checks(
    encoder: Embedder, store: Store, modality: str, *, training: Embedded, validation: Embedded, seed: int
) -> AnswerChecks | None:
    """Fit the checks; None where the cohort is too small for any.

    Args:
        encoder: what embeds scans, in evaluation mode, on the CPU.
        store: where the scans are.
        modality: one of volumes.
        training: what the references are fitted to.
        validation: people who set limits and were not trained on.
        seed: divides the training people into folds.
    """
    if min(store.layout(modality).shape[1:]) < FEWEST_VOXELS:
        return None
    fitted = fit_checks(
        describe_scans(store, modality, training.cohort),
        describe_scans(store, modality, validation.cohort),
        seed=seed,
    )
    if fitted is None:
        return None
    # Mirror images belong to the distribution too: nobody can tell one by looking.
    both = [
        np.concatenate([part.embeddings_NE, _mirrored_embeddings(encoder, store, modality, part.cohort)])
        for part in (training, validation)
    ]
    return AnswerChecks(encoder, *fitted, embedding_distribution(*both))


def flagged_shares(checks: AnswerChecks, store: Store, modality: str, held_out: Cohort) -> dict[str, Flagged]:
    """Try the checks: how many are flagged, by kind of scan or pair.

    Args:
        checks: fitted.
        store: where the scans are.
        modality: the checks'.
        held_out: people whom neither networks nor limits have seen.
    """
    return _flagged_scans(checks, store, modality, held_out) | _flagged_pairs(
        checks, describe_scans(store, modality, held_out)
    )


def embedding_distribution(training_NE: np.ndarray, validation_NE: np.ndarray) -> dict[str, np.ndarray]:
    """Centre and inverse covariance of the training embeddings, and how far validation scans lie from them.

    Args:
        training_NE: what the distribution is fitted to.
        validation_NE: embeddings of other people's scans.
    """
    # Ledoit and Wolf 2004: the covariance of E features from N of the same order is singular without shrinkage.
    precision_EE = LedoitWolf().fit(training_NE).precision_
    mean_E = training_NE.mean(axis=0)
    return {
        "ood_mean_E": mean_E.astype(np.float32),
        "ood_precision_EE": precision_EE.astype(np.float32),
        "ood_distances_Q": np.sort(mahalanobis_distances(validation_NE, mean_E, precision_EE)).astype(np.float32),
    }


@torch.inference_mode()
def _mirrored_embeddings(encoder: Embedder, store: Store, modality: str, cohort: Cohort) -> np.ndarray:
    scale = np.float32(unit_scale(store.manifest.recipe.dtype_of(modality)))
    parts = []
    for start in range(0, len(cohort), BATCH):
        rows = cohort.rows_N[start : start + BATCH]
        volumes_BCDHW = np.stack([store.read(int(row), modality)[:, ::-1] for row in rows]) * scale
        parts.append(encoder(torch.as_tensor(volumes_BCDHW)).numpy())
    return np.concatenate(parts)


def _flagged_scans(checks: AnswerChecks, store: Store, modality: str, held_out: Cohort) -> dict[str, Flagged]:
    recipe = store.manifest.recipe
    scale = np.float32(unit_scale(recipe.dtype_of(modality)))
    spoilt = set(np.linspace(0, len(held_out) - 1, min(MOST_STRESSED, len(held_out))).round().astype(int).tolist())
    kinds = corruptions(recipe.spacing_mm)

    def flags(index: int) -> dict[str, bool]:
        volume_CDHW = store.read(int(held_out.rows_N[index]), modality) * scale
        found = {"held_out": checks.is_flagged(volume_CDHW)}
        for kind, corrupt in kinds.items() if index in spoilt else ():
            bad_CDHW = np.stack([corrupt(channel_DHW, recipe.spacing_mm) for channel_DHW in volume_CDHW])
            found[kind] = checks.is_flagged(bad_CDHW)
        return found

    with ThreadPoolExecutor(num_cores()) as pool:
        found = list(pool.map(flags, range(len(held_out))))
    return {kind: _share([one[kind] for one in found if kind in one]) for kind in ("held_out", *kinds)}


def _flagged_pairs(checks: AnswerChecks, held_out: DescribedScans) -> dict[str, Flagged]:
    looks, references = held_out.found, checks.references
    someone_else, other_scanner = checks.limit("identity"), checks.limit("scanner")
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
