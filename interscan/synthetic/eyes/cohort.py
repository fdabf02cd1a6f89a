"""Writes the synthetic severity cohort: colour pictures of both eyes, graded 0 to 4, and the severity behind the grade.

What it can show: whether a method orders eyes by number, size and kind of small lesions, through two cameras, pigment,
focus and light, when most eyes are normal and few are severe.

What it cannot show: anything about patients. Lesions are discs and lines at random places, larger than life; there is
no cotton wool, oedema, venous beading, laser scar or cataract, no grader errs, and every picture can be graded.

The same arguments give the same bytes (with one release of NumPy, SciPy and Pillow on one kind of processor).
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from statistics import NormalDist
from typing import Literal

from interscan.synthetic.eyes.lesions import Lesions, draw_lesions
from interscan.synthetic.eyes.render import CAMERAS, Person, draw_fundus, png
from interscan.synthetic.folder import (
    TABLE,
    TRUTH,
    PlannedFile,
    TableCohort,
    check_range,
    cohort_tables,
    even_share,
    stream,
    write_cohort,
)

_VERSION = 1
"""Raise it when the same arguments give other bytes."""

Side = Literal["right", "left"]
SIDES: tuple[Side, Side] = ("right", "left")
GRADES = 5


@dataclass(frozen=True, slots=True)
class SeverityDesign:
    """The parameters of the cohort, fixed before the first comparison of methods; a change is recorded in docs/log.md.

    Numbers and sizes of lesions are in `interscan.synthetic.eyes.lesions.DESIGN`, looks and cameras in
    `interscan.synthetic.eyes.render`.

    Attributes:
        shares: of the grades 0 to 4 among eyes, about those of the large published sets of diabetic retinopathy.
        eye_correlation: of the normal scores behind the severities of a person's two eyes, which mostly agree.
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


@dataclass(frozen=True, slots=True)
class SeveritySummary(TableCohort):
    """People with the pictures of their eyes.

    Attributes:
        num_by_grade: eyes per grade, 0 to 4.
    """

    num_by_grade: tuple[int, ...]


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


def write_severity_cohort(
    out: Path,
    *,
    num_subjects: int = 120,
    seed: int = 0,
    size_px: int = 96,
    balanced: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> SeveritySummary:
    """Write a cohort, or finish one that an earlier call with the same arguments left unfinished.

    Args:
        out: folder; new, empty, or a cohort of the same arguments.
        num_subjects: people, from 1; two eyes each, about one of seven photographed twice.
        seed: picks the cohort.
        size_px: height and width of a picture, 48 to 1024.
        balanced: whether all grades are equally frequent among eyes.
        progress: called with (pictures done, pictures in all) after each picture.

    Returns:
        What is now on disk: RGB pictures as `.png`, `scans.csv` and `truth.tsv`.

    Raises:
        UsageError: an argument is out of range, or `out` holds something else.
    """
    plan = describe_severity_cohort(num_subjects=num_subjects, seed=seed, balanced=balanced)
    check_range("size_px", size_px, 48, 1024)
    shots = [(person, eye, image) for person in plan for eye in person.eyes for image in eye.images]
    files = [
        PlannedFile(image_path(person, eye, image), partial(_image_bytes, person, eye, image, seed, size_px))
        for person, eye, image in shots
    ]
    scans, truth = _tables(shots)
    parameters = {
        "cohort": "severity",
        "version": _VERSION,
        "num_subjects": num_subjects,
        "seed": seed,
        "size_px": size_px,
        "balanced": balanced,
    }
    num_written = write_cohort(out, parameters=parameters, files=files, scans=scans, truth=truth, progress=progress)
    counts = Counter(eye.grade for person in plan for eye in person.eyes)
    by_grade = tuple(counts[grade] for grade in range(GRADES))
    return SeveritySummary(out, out / TABLE, out / TRUTH, len(plan), len(shots), num_written, by_grade)


def image_path(person: PlannedPerson, eye: PlannedEye, image: PlannedImage) -> str:
    """Where a picture lies, relative to the root."""
    return f"{person.subject_id}/{person.subject_id}_ses-01_{image.run}_{eye.side}_fundus.png"


def _severity(share: float, shares: Sequence[float]) -> float:
    """The severity of the eye that has this share of all eyes below it."""
    low = 0.0
    for grade, high in enumerate(accumulate(shares)):
        if share < high or grade == len(shares) - 1:
            break
        low = high
    return 0.0 if grade == 0 else grade + min(max((share - low) / shares[grade], 0.0), 1 - 1e-9)


def _plan_person(number: int, shares: Sequence[float], seed: int) -> PlannedPerson:
    # Two evenly drawn normal scores, turned so that the eyes' scores have the wanted correlation: any prefix of the
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


def _image_bytes(person: PlannedPerson, eye: PlannedEye, image: PlannedImage, seed: int, size_px: int) -> bytes:
    picture_HWC = draw_fundus(
        CAMERAS[image.camera],
        person.person,
        eye.lesions,
        is_right=eye.side == "right",
        eye_rng=stream(seed, "severity eye", person.number, eye.side),
        image_rng=stream(seed, "severity image", person.number, eye.side, image.repeat),
        size_px=size_px,
    )
    return png(picture_HWC)


def _tables(shots: Sequence[tuple[PlannedPerson, PlannedEye, PlannedImage]]) -> tuple[str, str]:
    scans: list[Sequence[object]] = []
    truth: list[Sequence[object]] = []
    for person, eye, image in shots:
        who = (person.subject_id, "ses-01", image.run)
        scans.append((image_path(person, eye, image), *who, 0, "fundus", CAMERAS[image.camera].name, eye.grade))
        lesions = eye.lesions
        counts = (len(lesions.dots_N3), lesions.num_blots, len(lesions.exudates_N3), lesions.num_tufts)
        nuisance = (f"{person.person.pigment:.4f}", person.person.num_drusen)
        truth.append((*who, eye.side, eye.grade, f"{eye.severity:.5f}", f"{lesions.area:.6f}", *counts, *nuisance))
    truth_columns = (
        *("subject_id", "session_id", "run", "eye", "grade", "severity", "lesion_area"),
        *("num_microaneurysms", "num_haemorrhages", "num_exudates", "num_tufts", "pigment", "num_drusen"),
    )
    return cohort_tables("grade", scans, truth_columns, truth)
