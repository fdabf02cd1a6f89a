"""Measures on people whom no network has seen what an exported model's answers keep; refuses where they must.

Exact are identity, antisymmetry and the additivity of told changes: they follow from how the head is built, so a breach
is a fault and stops the export. All others are figures of this model on this store, which the manifest states.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from preprocess.errors import ArtefactError, ScanError
from preprocess.machine import num_cores
from preprocess.manifest import Guarantee
from preprocess.recipe import VolumeRecipe
from preprocess.store import Store
from preprocess.transforms import grid_affine, to_volume, unit_scale
from preprocess.types import PROGRESSIONS, Image
from trainer.data.cohort import Cohort
from trainer.data.pairs import Pairs, rescan_pairs, visit_pairs
from trainer.encoders.change_head import ChangeHead
from trainer.export.perturbations import PERTURBATIONS
from trainer.fit.embedding import embed_cohort
from trainer.fit.precision import Compute
from trainer.fit.run_files import ChangeSummary
from trainer.fit.trained import PairModel, Trained
from trainer.metrics.tasks import spearman
from trainer.metrics.told_change import slope_through_zero

Floats = npt.NDArray[np.float64]
NUM_EXACT = 8
"""Scans that the exact properties are shown on; they do not depend on the scan."""
NUM_PERTURBED = 6
"""Scans that go the whole way of preprocessing once for each perturbation: both signs of all three axes. Preprocessing,
0.2 to 0.4 s a volume, is nearly all that the measurement costs."""
NUM_COMPARED = 300
"""Scans whose changes are compared with the true ones, at most."""
LEAST_WITHIN = 0.9
"""Share of rescans wanted within the floor, which itself leaves out a twentieth of those it was made from."""
LEAST_PERTURBED = 0.8
"""The same of perturbed scans: one of six may lie outside."""
LEAST_UNCHANGED = 0.95
SLOPE = (0.85, 1.15)
LEAST_SPEARMAN = 0.9
MOST_ADDED = 1e-4
"""Points; sums of float32 in another order differ by less."""


@dataclass(frozen=True)
class _HeldOut:
    """Scans of people whom no network has seen.

    Attributes:
        part: `test` or `validation`.
    """

    part: str
    cohort: Cohort
    embeddings_NE: np.ndarray

    def differences(self, pairs: Pairs) -> np.ndarray:
        """Later minus earlier embedding of each pair."""
        return np.asarray(self.embeddings_NE[pairs.later_P] - self.embeddings_NE[pairs.earlier_P])


def measure_guarantees(trained: Trained, store: Store, cohort: Cohort) -> tuple[Guarantee, ...]:
    """Measure what the answers keep; the exact properties first.

    Args:
        trained: the networks, on the CPU.
        store: what they were trained on.
        cohort: all its scans of the run's modality.

    Returns:
        One entry a property; those that cannot be measured here are left out.

    Raises:
        ArtefactError: an exact property breaks.
    """
    held = _held_out(trained, store, cohort)
    if held is None:
        return ()
    found = _exact(trained, store, held)
    broken = [one for one in found if one.is_exact and one.holds is False]
    if broken:
        one = broken[0]
        raise ArtefactError(
            f"{trained.run.location.uri}: {one.name} breaks: {one.how}: {one.value:.3g}, wanted {one.wanted}; "
            "nothing was exported: train again with this version"
        )
    change = trained.result.progression_head.change if trained.result.progression_head is not None else None
    if not isinstance(trained.head, ChangeHead) or change is None:
        return tuple(found)
    found += _against_truth(trained, held)
    floor, smallest = change.noise_floor, change.smallest_change
    if floor is None or smallest is None:
        return tuple(found)
    found += _of_rescans(trained, held, floor)
    found += _of_perturbed(trained, store, held, floor)
    found.append(_smallest_change(change, floor, smallest))
    return tuple(found)


def guarantee_lines(measured: Sequence[Guarantee]) -> list[str]:
    """One line a property, for a person at a terminal; of those that hold first their number alone."""
    judged = [one for one in measured if one.holds is not None]
    failed = [one for one in judged if not one.holds]
    lines = [f"guarantees: {len(judged) - len(failed)} of {len(judged)} hold"] if judged else []
    lines += [f"  does not hold: {one.name} {one.value:.3g} (wanted {one.wanted}, {one.num} cases)" for one in failed]
    return lines + [
        f"  {one.name}: {one.value:.3g}{' points' if one.unit == 'points' else ''}"
        for one in measured
        if one.holds is None
    ]


def _held_out(trained: Trained, store: Store, cohort: Cohort) -> _HeldOut | None:
    run = trained.run
    for part in ("test", "validation"):
        scans = cohort.of_subjects(run.split.of(part))
        if len(scans):
            chosen = _evenly(scans, NUM_COMPARED)
            compute = Compute(torch.device("cpu"), torch.float32)
            modalities = (run.recipe.data.modality,)
            return _HeldOut(part, chosen, embed_cohort(trained.encoder, store, modalities, chosen, compute))
    return None


def _evenly(cohort: Cohort, most: int) -> Cohort:
    """Whole people, evenly from the list of all, with about as many scans as asked for."""
    people = list(cohort.indices_by_subject)
    step = max(1, -(-len(cohort) // most))
    return cohort.of_subjects(people[::step])


def _exact(trained: Trained, store: Store, held: _HeldOut) -> list[Guarantee]:
    model = trained.pair_model()
    volumes_BCDHW = _volumes(store, trained.run.recipe.data.modality, held.cohort, NUM_EXACT)
    found = [*_identity(trained, model, volumes_BCDHW), _antisymmetry(trained, model, volumes_BCDHW)]
    three = [held.embeddings_NE[start::3][: len(held.cohort) // 3] for start in range(3)]
    if isinstance(trained.head, ChangeHead) and len(three[2]):
        first, second, third = three
        whole, early, late = (_told(trained, d) for d in (third - first, second - first, third - second))
        found.append(
            Guarantee(
                name="additivity", is_exact=True, value=float(np.abs(whole - (early + late)).max()), unit="points",
                at_most=MOST_ADDED, num=len(whole),
                how="largest difference between the change told from a first to a third scan and the sum of the two "
                "steps between them",
            )
        )  # fmt: skip
    return found


@torch.no_grad()
def _identity(trained: Trained, model: PairModel, volumes_BCDHW: torch.Tensor) -> list[Guarantee]:
    # One scan at a time and twice, as the service embeds a pair of equal files.
    differences_BE = torch.cat([model.embed(one[None]) - model.embed(one[None]) for one in volumes_BCDHW])
    told_B = trained.improvements(differences_BE.numpy())
    size = differences_BE.abs().max() if told_B is None else np.abs(told_B).max()
    stable_B3 = model.judge(differences_BE)
    stable = PROGRESSIONS.index("stable")
    others = [number for number in range(len(PROGRESSIONS)) if number != stable]
    lead = float((stable_B3[:, stable] - stable_B3[:, others].amax(dim=1)).min())
    num = len(volumes_BCDHW)
    return [
        Guarantee(
            name="identity", is_exact=True, value=float(size), unit="" if told_B is None else "points", at_most=0.0,
            num=num, how="largest change of a scan against itself",
        ),
        # A head on embeddings learns from the labels alone how likely stable is at no difference.
        Guarantee(
            name="identity_answer", is_exact=told_B is not None, value=lead, at_least=0.0, num=num,
            how="least lead of the probability of stable over the next one, for a scan against itself",
        ),
    ]  # fmt: skip


@torch.no_grad()
def _antisymmetry(trained: Trained, model: PairModel, volumes_BCDHW: torch.Tensor) -> Guarantee:
    earlier, later = volumes_BCDHW, volumes_BCDHW.roll(1, dims=0)
    difference = float((model.compare(earlier, later) - model.compare(later, earlier).flip(1)).abs().max())
    forward_BE = (model.embed(later) - model.embed(earlier)).numpy()
    told_B, back_B = trained.improvements(forward_BE), trained.improvements(-forward_BE)
    if told_B is not None and back_B is not None:
        difference = max(difference, float(np.abs(told_B + back_B).max()))
    return Guarantee(
        name="antisymmetry", is_exact=True, value=difference, at_most=0.0, num=len(volumes_BCDHW),
        how="largest difference of probabilities and told changes when two scans are exchanged, and so improved and "
        "declined",
    )  # fmt: skip


def _against_truth(trained: Trained, held: _HeldOut) -> list[Guarantee]:
    outcome = trained.run.recipe.outcome
    pairs = visit_pairs(held.cohort, outcome, which="consecutive").labelled()
    true_P = pairs.delta_P if outcome.higher_is_better else -pairs.delta_P
    if len(pairs) < 3 or not true_P.any() or not np.ptp(true_P):
        return []
    told_P = _told(trained, held.differences(pairs))
    slope = slope_through_zero(told_P, true_P, change_noise=outcome.change_noise)
    who = f"visits of people of the {held.part} part"
    found = [
        Guarantee(
            name="slope", value=slope, at_least=SLOPE[0], at_most=SLOPE[1],
            num=len(pairs), how=f"slope of told against true change, {who}",
        )
    ]  # fmt: skip
    if np.ptp(told_P):
        found.append(
            Guarantee(
                name="spearman", value=spearman(told_P, true_P), at_least=LEAST_SPEARMAN, num=len(pairs),
                how=f"rank correlation of told and true change, {who}",
            )
        )  # fmt: skip
    return found


def _of_rescans(trained: Trained, held: _HeldOut, floor: float) -> list[Guarantee]:
    pairs = rescan_pairs(held.cohort, trained.run.recipe.outcome)
    if not len(pairs):
        return []
    differences_PE = held.differences(pairs)
    told_P = _told(trained, differences_PE)
    scanner_N = np.array(held.cohort.scanners)
    is_same_P = scanner_N[pairs.earlier_P] == scanner_N[pairs.later_P]
    found = [
        _within(name, told_P[chosen_P], floor, f"two scans of one day on {where}, people of the {held.part} part")
        for name, chosen_P, where in (
            ("rescan_same_scanner", is_same_P, "one scanner"),
            ("rescan_other_scanner", ~is_same_P, "two scanners"),
        )
        if chosen_P.any()
    ]
    stable_P = trained.probabilities(differences_PE).argmax(axis=1) == PROGRESSIONS.index("stable")
    return [
        *found,
        Guarantee(
            name="rescan_answer", value=float(stable_P.mean()), unit="share", at_least=LEAST_UNCHANGED,
            num=len(pairs), how="two scans of one day whose likeliest answer is stable",
        ),
    ]  # fmt: skip


def _of_perturbed(trained: Trained, store: Store, held: _HeldOut, floor: float) -> list[Guarantee]:
    """Scans that go the way of preprocessing anew, as they are and perturbed."""
    modality = trained.run.recipe.data.modality
    recipe = store.manifest.recipe
    if recipe.kind_of(modality) != "volume" or store.layout(modality).shape[0] != 1:
        return []
    images = _images(store, modality, held.cohort, NUM_PERTURBED)
    names = list(PERTURBATIONS)
    with ThreadPoolExecutor(num_cores()) as pool:
        rows = list(pool.map(lambda item: _roads(item[1], item[0], recipe), enumerate(images)))
    found = []
    told = [_told_changes(trained, row) for row in rows]
    for number, name in enumerate(names):
        told_B = np.array([changes[number] for changes in told if not np.isnan(changes[number])])
        if len(told_B):
            words = f"{PERTURBATIONS[name][1]}, then preprocessed"
            found.append(_within(name, told_B, floor, words, at_least=LEAST_PERTURBED))
    return found


def _roads(image: Image, number: int, recipe: VolumeRecipe) -> list[np.ndarray | None]:
    """Volumes of the image itself and of each perturbation; None where preprocessing refuses it."""
    images = [image, *(perturb(image, number) for perturb, _ in PERTURBATIONS.values())]
    volumes: list[np.ndarray | None] = []
    for one in images:
        try:
            volumes.append(to_volume(one, recipe, name="the scan").voxels_CDHW)
        except ScanError:
            volumes.append(None)
    return volumes


@torch.inference_mode()
def _told_changes(trained: Trained, volumes: Sequence[np.ndarray | None]) -> Floats:
    """Told change from the first volume to each other; NaN where either is missing."""
    told = np.full(len(volumes) - 1, np.nan)
    known = [number for number, volume in enumerate(volumes) if volume is not None]
    if known[:1] != [0]:
        return told
    stored = np.stack([volume for volume in volumes if volume is not None])
    unit = torch.from_numpy(stored.astype(np.float32) * np.float32(unit_scale(stored.dtype.name)))
    embeddings_BE = trained.encoder(unit).numpy()
    told[np.array(known[1:], dtype=int) - 1] = _told(trained, embeddings_BE[1:] - embeddings_BE[0])
    return told


def _within(name: str, told_P: Floats, floor: float, how: str, *, at_least: float = LEAST_WITHIN) -> Guarantee:
    size_P = np.abs(told_P)
    return Guarantee(
        name=name, value=float((size_P <= floor).mean()), unit="share", at_least=at_least, num=len(size_P),
        typical=float(np.median(size_P)), how=f"{how}: told change within the noise floor of {floor:.2f} points",
    )  # fmt: skip


def _smallest_change(change: ChangeSummary, floor: float, smallest: float) -> Guarantee:
    return Guarantee(
        name="smallest_change", value=smallest, unit="points", num=change.num_people,
        how=f"true change that is told beyond the noise floor of {floor:.2f} points in 90 % of pairs, where told "
        f"changes err by {change.error_sd:.2f} points (root mean square), the score's own noise included",
    )  # fmt: skip


def _told(trained: Trained, differences_PE: np.ndarray) -> Floats:
    told_P = trained.improvements(differences_PE)
    assert told_P is not None
    return told_P


def _rows(cohort: Cohort, most: int) -> list[int]:
    """Rows of the store, evenly from the cohort."""
    step = max(1, len(cohort) // most)
    return [int(row) for row in cohort.rows_N[::step][:most]]


def _volumes(store: Store, modality: str, cohort: Cohort, most: int) -> torch.Tensor:
    stored = np.stack([store.read(row, modality) for row in _rows(cohort, most)])
    return torch.from_numpy(stored.astype(np.float32) * np.float32(unit_scale(stored.dtype.name)))


def _images(store: Store, modality: str, cohort: Cohort, most: int) -> list[Image]:
    """Stored volumes as images that can go through preprocessing again."""
    recipe = store.manifest.recipe
    affines = {one.row: one.affine for one in store.records if one.modality == modality}
    images = []
    for row in _rows(cohort, most):
        voxels_CDHW = store.read(row, modality)
        given = affines[row]
        affine = (
            np.array(given).reshape(4, 4)
            if len(given) == 16
            else grid_affine(np.zeros(3), recipe.grid, np.full(3, recipe.spacing_mm))
        )
        scaled = voxels_CDHW[0].astype(np.float32) * np.float32(unit_scale(voxels_CDHW.dtype.name))
        images.append(Image(scaled, affine, "float32"))
    return images
