"""Writes the synthetic severity cohort: colour pictures of both eyes, graded 0 to 4, and the severity behind the grade.

What it can show: whether a method orders eyes by number, size and kind of small lesions, through two cameras, pigment,
focus and light, when most eyes are normal and few are severe.

What it cannot show: anything about patients. Lesions are discs and lines at random places, larger than life; there is
no cotton wool, oedema, venous beading, laser scar or cataract, no grader errs, and every picture can be graded.

The same arguments give the same bytes (with one release of NumPy, SciPy and Pillow on one kind of processor).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from interscan.synthetic.eyes.plan import GRADES, PlannedEye, PlannedImage, PlannedPerson, describe_severity_cohort
from interscan.synthetic.eyes.render import CAMERAS, draw_fundus, png
from interscan.synthetic.folder import TABLE, TRUTH, PlannedFile, TableCohort, cohort_tables, write_cohort
from interscan.synthetic.planning import check_range, stream

_VERSION = 1
"""Raise it when the same arguments give other bytes."""


@dataclass(frozen=True, slots=True)
class SeveritySummary(TableCohort):
    """People with the pictures of their eyes.

    Attributes:
        num_by_grade: eyes per grade, 0 to 4.
    """

    num_by_grade: tuple[int, ...]


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
