"""Decides how severe each eye is, which lesions it has and how often it is photographed; draws no picture."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import NormalDist
from typing import Literal

from interscan.synthetic.eyes.lesions import Lesions, draw_lesions
from interscan.synthetic.eyes.render import CAMERAS, Person
from interscan.synthetic.planning import check_range, even_share, stream

Side = Literal["right", "left"]
SIDES: tuple[Side, Side] = ("right", "left")
GRADES = 5


@dataclass(frozen=True, slots=True)
class SeverityDesign:
    """The parameters of the cohort, fixed before the first comparison of methods; a change is recorded in docs/log.md.

    Numbers and sizes of lesions are in `interscan.synthetic.eyes.lesions.DESIGN`, looks and cameras in
    `interscan.synthetic.eyes.render`.

    Attributes:
        shares: how frequent each grade, 0 to 4, is among eyes; about as in the large published sets of diabetic
            retinopathy.
        eye_correlation: correlation of the normal scores behind the severities of a person's two eyes, which mostly
            agree.
        second_image: chance that an eye is photographed twice.
        camera_change: chance that a second picture of an eye is taken with the other camera.
    """

    shares: tuple[float, float, float, float, float] = (0.73, 0.07, 0.15, 0.025, 0.025)
    eye_correlation: float = 0.85
    second_image: float = 0.15
    camera_change: float = 0.3


DESIGN = SeverityDesign()


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """One picture.

    Attributes:
        run: `run-1`, ... over both eyes of a person.
        repeat: 0 for an eye's first picture, 1 for its second.
        camera: index into `CAMERAS`.
    """

    run: str
    repeat: int
    camera: int


@dataclass(frozen=True, slots=True)
class PlannedEye:
    """One eye.

    Attributes:
        side: right or left.
        severity: 0 for a normal eye; else grade plus the eye's rank within it, 1 to below 5.
        lesions: what is drawn.
        images: one or two pictures.
    """

    side: Side
    severity: float
    lesions: Lesions
    images: tuple[PlannedImage, ...]

    @property
    def grade(self) -> int:
        """The whole part of the severity, 0 to 4."""
        return int(self.severity)


@dataclass(frozen=True, slots=True)
class PlannedPerson:
    """One person.

    Attributes:
        number: 0, 1, ...; keys the random streams.
        subject_id: `sub-001` for number 0.
        person: what both eyes share.
        eyes: right and left.
    """

    number: int
    subject_id: str
    person: Person
    eyes: tuple[PlannedEye, PlannedEye]


def describe_severity_cohort(
    *, num_subjects: int = 120, seed: int = 0, balanced: bool = False
) -> tuple[PlannedPerson, ...]:
    """Plan a cohort; draws nothing. A longer cohort starts with the shorter one.

    Args:
        num_subjects: people, from 1.
        seed: any whole number from 0.
        balanced: whether all grades are equally frequent among eyes.

    Raises:
        UsageError: a number is below its limit.
    """
    check_range("num_subjects", num_subjects, 1)
    check_range("seed", seed, 0)
    shares = (1 / GRADES,) * GRADES if balanced else DESIGN.shares
    return tuple(_plan_person(number, shares, seed) for number in range(num_subjects))


def _severity(share: float, shares: Sequence[float]) -> float:
    """The severity of the eye that has this share of all eyes below it."""
    low = 0.0
    for grade, high in enumerate(accumulate(shares)):
        if share < high or grade == len(shares) - 1:
            break
        low = high
    return 0.0 if grade == 0 else grade + min(max((share - low) / shares[grade], 0.0), 1 - 1e-9)


def _plan_person(number: int, shares: Sequence[float], seed: int) -> PlannedPerson:
    # Two evenly drawn normal scores, turned so that the eyes' scores have the intended correlation: any prefix of the
    # cohort holds close to its share of each grade.
    normal = NormalDist()
    common, apart = (
        normal.inv_cdf(min(max(even_share(seed, "severity eyes", number, axis), 1e-9), 1 - 1e-9)) for axis in (0, 1)
    )
    with_common = math.sqrt((1 + DESIGN.eye_correlation) / 2)
    with_apart = math.sqrt((1 - DESIGN.eye_correlation) / 2)
    rng = stream(seed, "severity person", number)
    person = Person.draw(rng)
    home = int(rng.integers(len(CAMERAS)))

    eyes: list[PlannedEye] = []
    num_images = 0
    for side, sign in zip(SIDES, (1, -1), strict=True):
        severity = _severity(normal.cdf(with_common * common + sign * with_apart * apart), shares)
        again, moves = rng.random() < DESIGN.second_image, rng.random() < DESIGN.camera_change
        images = [PlannedImage(f"run-{num_images + 1}", 0, home)]
        if again:
            images.append(PlannedImage(f"run-{num_images + 2}", 1, (home + int(moves)) % len(CAMERAS)))
        num_images += len(images)
        lesions = draw_lesions(severity, stream(seed, "severity lesions", number, side))
        eyes.append(PlannedEye(side, severity, lesions, tuple(images)))
    return PlannedPerson(number, f"sub-{number + 1:03d}", person, (eyes[0], eyes[1]))
