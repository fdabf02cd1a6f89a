"""Decides the risk of each person, what each modality shows of it, and which modality is missing; draws nothing."""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

from interscan.synthetic.connectome.render import MACHINES
from interscan.synthetic.planning import check_range, even_share, stream

Modality = Literal["SC", "FC", "radiomics", "T2", "clinical"]
MODALITIES: tuple[Modality, ...] = ("SC", "FC", "radiomics", "T2", "clinical")


@dataclass(frozen=True, slots=True)
class ConnectomeDesign:
    """The parameters of the cohort, fixed before the first comparison of methods; a change is recorded in docs/log.md.

    A part has standard deviation 1. What a modality shows of it is the part plus noise: variation of that tissue,
    network or faculty that has nothing to do with the outcome, and that no method can take away. With the values here
    the best linear use of all six numbers has a correlation of 0.92 with the risk, that of one modality 0.49 to 0.58.

    Attributes:
        impaired_share: share of the subjects above the threshold of the risk.
        noise_sc_a: sd of that noise for part a in SC.
        noise_fc_a: for part a in FC; more, since FC sees two parts.
        noise_fc_c: for part c in FC.
        noise_radiomics_b: for part b in the radiomics.
        noise_t2_b: for part b in T2; drawn apart from that of the radiomics.
        noise_clinical_c: for part c in the clinical scores.
    """

    impaired_share: float = 0.4
    noise_sc_a: float = 0.5
    noise_fc_a: float = 1.0
    noise_fc_c: float = 1.0
    noise_radiomics_b: float = 0.6
    noise_t2_b: float = 0.6
    noise_clinical_c: float = 0.5


DESIGN = ConnectomeDesign()


@dataclass(frozen=True, slots=True)
class Shown:
    """How strongly each modality shows a part of one person's risk: the part plus noise, sd 1.1 to 1.4."""

    sc_a: float
    fc_a: float
    fc_c: float
    radiomics_b: float
    t2_b: float
    clinical_c: float


@dataclass(frozen=True, slots=True)
class PlannedPerson:
    """One subject.

    Attributes:
        number: 0, 1, ...; keys the random streams.
        subject_id: `sub-001` for number 0.
        impaired: 1 when the risk is above the threshold, else 0.
        risk: (a + b + c) / sqrt(3), standard normal over the subjects.
        parts: a, b and c, independent of each other.
        shown: what the modalities show of them.
        machine: index into `MACHINES`, by chance.
        lacks: the modality that was not taken, if any.
    """

    number: int
    subject_id: str
    impaired: int
    risk: float
    parts: tuple[float, float, float]
    shown: Shown
    machine: int
    lacks: Modality | None

    @property
    def has(self) -> tuple[Modality, ...]:
        """The modalities on disk."""
        return tuple(modality for modality in MODALITIES if modality != self.lacks)


def describe_connectome_cohort(
    *, num_subjects: int = 60, seed: int = 0, missing: float = 0.3
) -> tuple[PlannedPerson, ...]:
    """Plan a cohort; draws no modality. A longer cohort starts with the shorter one.

    Args:
        num_subjects: persons, from 1.
        seed: any whole number from 0.
        missing: share of the persons who lack one modality, 0 to 1.

    Raises:
        UsageError: an argument is out of range.
    """
    check_range("num_subjects", num_subjects, 1)
    check_range("seed", seed, 0)
    check_range("missing", missing, 0, 1)
    plan: list[PlannedPerson] = []
    num_lacking = 0
    for number in range(num_subjects):
        # The other axis than that of the risk: what is missing must say nothing about the class.
        is_whole = even_share(seed, "connectome missing", number, axis=1) >= missing
        plan.append(_plan_person(number, seed, None if is_whole else _lacks(num_lacking, seed)))
        num_lacking += not is_whole
    return tuple(plan)


def _lacks(index: int, seed: int) -> Modality:
    """What the person at this index among those who lack something lacks: all five in every five, in a drawn order."""
    order = stream(seed, "connectome lacks", index // len(MODALITIES)).permutation(len(MODALITIES))
    return MODALITIES[int(order[index % len(MODALITIES)])]


def _plan_person(number: int, seed: int, lacks: Modality | None) -> PlannedPerson:
    rng = stream(seed, "connectome person", number)
    # The risk is a quantile of the normal distribution, spread evenly over the subjects, so that the share of the
    # classes holds in small cohorts too. Projecting three free draws onto that sum leaves the parts independent.
    share = min(max(even_share(seed, "connectome risk", number), 1e-6), 1 - 1e-6)
    risk = NormalDist().inv_cdf(share)
    free = rng.normal(size=3)
    a, b, c = (float(part) for part in free - free.mean() + risk / math.sqrt(3))
    noise = [float(draw) for draw in rng.normal(size=6)]
    shown = Shown(
        sc_a=a + DESIGN.noise_sc_a * noise[0],
        fc_a=a + DESIGN.noise_fc_a * noise[1],
        fc_c=c + DESIGN.noise_fc_c * noise[2],
        radiomics_b=b + DESIGN.noise_radiomics_b * noise[3],
        t2_b=b + DESIGN.noise_t2_b * noise[4],
        clinical_c=c + DESIGN.noise_clinical_c * noise[5],
    )
    return PlannedPerson(
        number=number,
        subject_id=f"sub-{number + 1:03d}",
        impaired=int(share >= 1 - DESIGN.impaired_share),
        risk=risk,
        parts=(a, b, c),
        shown=shown,
        machine=int(rng.integers(len(MACHINES))),
        lacks=lacks,
    )
