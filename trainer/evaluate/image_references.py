"""What image statistics are held against: references fitted to the training scans, and limits from unseen people.

No network decides these statistics, so all training scans set the limits: each person's scans are measured against a
reference fitted to the other training people's, the validation scans against the final one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.covariance import LedoitWolf

from preprocess.image_statistics import CheckName, ImageReferences, ImageStatistics, image_statistics, looks_groups
from preprocess.manifest import Check
from preprocess.store import Store
from preprocess.transforms import unit_scale
from trainer.data.cohort import Cohort

FEWEST_VOXELS = 8
"""Along each axis of a volume; blocks and differences mean little in smaller ones."""
FEWEST_SCANS, FEWEST_PEOPLE, FEWEST_PAIRS = 30, 10, 20
"""In training. Below these a limit would be the largest value of a handful, and nothing is checked."""
SCAN_PERCENTILE = 99.5
"""For each of the six checks of a scan, so that together they flag about 2 % of unseen scans."""
PAIR_PERCENTILE = 99.0
_MOST_COMPONENTS = 40
_NUM_FOLDS = 5

Pairs = npt.NDArray[np.int64]


@dataclass(frozen=True)
class DescribedScans:
    """Scans by their statistics.

    Attributes:
        found: one for each scan.
        people: whose it is.
        pairs_P2: indices of two scans of one person, visits and repeats.
        scanners: by scan; empty where unknown.
    """

    found: Sequence[ImageStatistics]
    people: Sequence[str]
    pairs_P2: Pairs
    scanners: Sequence[str]

    def on_scanners(self, *, same: bool) -> Pairs:
        """The pairs on one scanner or on two; those with an unknown one are neither."""
        names = np.array(self.scanners)
        first_P, second_P = names[self.pairs_P2[:, 0]], names[self.pairs_P2[:, 1]]
        chosen_P2: Pairs = self.pairs_P2[((first_P == second_P) == same) & (first_P != "") & (second_P != "")]
        return chosen_P2

    def of(self, people: Sequence[str]) -> "DescribedScans":
        """The scans of some people."""
        kept: list[int] = np.flatnonzero(np.isin(self.people, people)).tolist()
        index_of = {old: new for new, old in enumerate(kept)}
        pairs = [
            (index_of[first], index_of[second])
            for first, second in self.pairs_P2.tolist()
            if first in index_of and second in index_of
        ]
        return DescribedScans(
            [self.found[index] for index in kept],
            [self.people[index] for index in kept],
            np.array(pairs, dtype=np.int64).reshape(-1, 2),
            [self.scanners[index] for index in kept],
        )


def describe_scans(store: Store, modality: str, cohort: Cohort) -> DescribedScans:
    """Read a cohort's scans and describe each."""
    scale = np.float32(unit_scale(store.manifest.recipe.dtype_of(modality)))
    found = [image_statistics(store.read(int(row), modality) * scale) for row in cohort.rows_N]
    pairs = [
        (first, second)
        for indices in cohort.indices_by_subject.values()
        for number, first in enumerate(indices)
        for second in indices[number + 1 :]
    ]
    return DescribedScans(found, cohort.groups, np.array(pairs, dtype=np.int64).reshape(-1, 2), cohort.scanners)


def fit_checks(
    training: DescribedScans, validation: DescribedScans, *, seed: int
) -> tuple[ImageReferences, tuple[Check, ...]] | None:
    """References and limits; None where there are too few scans or people.

    Args:
        training: what the references are fitted to.
        validation: scans of other people.
        seed: divides the training people into folds.
    """
    names = np.unique(np.asarray(training.people))
    if len(training.found) < FEWEST_SCANS or len(names) < FEWEST_PEOPLE:
        return None
    references = fit_references(training)
    parts = [_measure(references, validation)]
    shuffled = np.random.default_rng([seed, 0x1333]).permutation(names)
    for fold in np.array_split(shuffled, _NUM_FOLDS):
        others = fit_references(training.of(np.setdiff1d(names, fold).tolist()))
        parts.append(_measure(others, training.of(fold.tolist())))
    # Where nobody changed the scanner, nothing shows that a difference in looks is one of scanners.
    scanner_is_known = len(training.on_scanners(same=False)) >= FEWEST_PAIRS
    checks = []
    for name in parts[0]:
        values = np.concatenate([part[name] for part in parts])
        percentile = PAIR_PERCENTILE if name in ("identity", "scanner") else SCAN_PERCENTILE
        if len(values) < FEWEST_PAIRS or (name == "scanner" and not scanner_is_known):
            continue
        limit = float(np.percentile(values, percentile))
        checks.append(Check(name=name, limit=limit, percentile=percentile, num=len(values)))
    return references, tuple(checks)


def fit_references(scans: DescribedScans) -> ImageReferences:
    """Fit to scans and their mirror images, so that a mirrored scan lies as far away as the scan itself."""
    both = [*scans.found, *(found.mirrored() for found in scans.found)]
    coarse_NF = np.stack([found.coarse_DHW.ravel() for found in both])
    mean_F = coarse_NF.mean(axis=0)
    _, singular, axes = np.linalg.svd(coarse_NF - mean_F, full_matrices=False)
    kept = max(1, min(_MOST_COMPONENTS, len(scans.found) // 3, int((singular > 1e-6 * singular[0]).sum())))
    along_NK = (coarse_NF - mean_F) @ axes[:kept].T
    looks_NS = np.stack([found.looks_S for found in both])
    return ImageReferences(
        image_mean_DHW=mean_F.reshape(both[0].coarse_DHW.shape),
        image_axes_KF=axes[:kept],
        image_sd_K=along_NK.std(axis=0),
        visit_precision_KK=_visit_precision(along_NK, scans.pairs_P2),
        looks_mean_S=looks_NS.mean(axis=0),
        looks_precision_SS=_looks_precision(looks_NS),
        scanner_precision_SS=_scanner_precision(looks_NS, scans.on_scanners(same=True)),
    )


def _visit_precision(along_NK: np.ndarray, pairs_P2: Pairs) -> np.ndarray:
    if len(pairs_P2) < FEWEST_PAIRS:
        return np.zeros((along_NK.shape[1],) * 2)
    half = len(along_NK) // 2
    first_P, second_P = (np.concatenate([index, index + half]) for index in pairs_P2.T)
    difference_PK = along_NK[first_P] - along_NK[second_P]
    # Ledoit and Wolf 2004: a few dozen pairs do not fill as many directions.
    return np.asarray(LedoitWolf(assume_centered=True).fit(difference_PK).precision_)


def _looks_precision(looks_NS: np.ndarray) -> np.ndarray:
    """Block by block, since shrinkage draws towards equal variances: each number is standardised before."""
    precision_SS = np.zeros((looks_NS.shape[1],) * 2)
    sd_S = looks_NS.std(axis=0) + 1e-6
    for group in looks_groups().values():
        standard_NS = (looks_NS[:, group] - looks_NS[:, group].mean(axis=0)) / sd_S[group]
        fitted = LedoitWolf(assume_centered=True).fit(standard_NS).precision_
        precision_SS[group, group] = fitted / np.outer(sd_S[group], sd_S[group])
    return precision_SS


def _scanner_precision(looks_NS: np.ndarray, pairs_P2: Pairs) -> np.ndarray:
    """Only brightness and detail count: anatomy and the box, which the other numbers show, are not the scanner's."""
    precision_SS = np.zeros((looks_NS.shape[1],) * 2)
    if len(pairs_P2) < FEWEST_PAIRS:
        return precision_SS
    groups = looks_groups()
    chosen = np.r_[groups["brightness"], groups["detail"]]
    difference_PC = looks_NS[pairs_P2[:, 0]][:, chosen] - looks_NS[pairs_P2[:, 1]][:, chosen]
    sd_C = difference_PC.std(axis=0) + 1e-6
    fitted = LedoitWolf(assume_centered=True).fit(difference_PC / sd_C).precision_
    precision_SS[np.ix_(chosen, chosen)] = fitted / np.outer(sd_C, sd_C)
    return precision_SS


def _measure(references: ImageReferences, scans: DescribedScans) -> dict[CheckName, np.ndarray]:
    measured = [references.distances(found) for found in scans.found]
    names: list[CheckName] = [*looks_groups(), "layout", "residual"]
    values: dict[CheckName, np.ndarray] = {name: np.array([one[name] for one in measured]) for name in names}
    values["identity"] = np.array(
        [references.identity(scans.found[first], scans.found[second]) for first, second in scans.pairs_P2]
    )
    values["scanner"] = np.array(
        [references.scanner(scans.found[first], scans.found[second]) for first, second in scans.on_scanners(same=True)]
    )
    return values
