"""Writes the synthetic longitudinal brain cohort: BIDS NIfTI with known truth.

What it can show: whether a method finds a known, slow change of ventricles, cortex, sulci and hippocampi under new
head poses, noise, bias and two scanners; whether it orders severity across people whose anatomy differs; whether it
mistakes a scanner change or a second scan of the same day for change. The truth is exact, so errors can be counted.

What it cannot show: anything about patients. Shapes are analytic, atrophy is one number that moves all structures
together, decline and recovery are mirror images (recovery of that size is not seen in people), there are no lesions,
vessels, motion or distortion, and contrast does not vary within a tissue. A method that fails here is broken; one
that succeeds here is not proven.

The same arguments give the same bytes for any number of workers (with one release of NumPy and zlib on one kind of
processor).
"""

import gzip
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nibabel as nib
from threadpoolctl import threadpool_limits

from interscan.synthetic.brain.bids import age_at, image_path, text_files
from interscan.synthetic.brain.phantom import Anatomy, aged, true_ventricle_mm3
from interscan.synthetic.brain.plan import (
    DESIGN,
    PlannedSession,
    PlannedSubject,
    describe_brain_cohort,
    scan_stream,
    subject_anatomy,
)
from interscan.synthetic.brain.scanner import acquire, grid_of
from interscan.synthetic.folder import claimed, put
from interscan.synthetic.planning import Trajectory
from preprocess.errors import UsageError
from preprocess.machine import num_cores
from preprocess.workers import WorkerPool

_VERSION = 1
"""Raise it when the same arguments give other bytes."""

_SPACING_LIMITS_MM = (0.5, 8.0)
"""Finer than 0.5 mm the phantom has nothing more to show; coarser than 8 mm nothing is left of the cortex."""


@dataclass(frozen=True, slots=True)
class CohortSummary:
    """What a call left on disk.

    Attributes:
        root: the cohort.
        truth: its `truth.tsv`.
        num_subjects: people.
        num_scans: pictures, repeats included.
        num_rescans: repeats among them.
        num_written: pictures written by this call; 0 when all were there.
        num_by_trajectory: people per trajectory.
    """

    root: Path
    truth: Path
    num_subjects: int
    num_scans: int
    num_rescans: int
    num_written: int
    num_by_trajectory: dict[Trajectory, int]


@dataclass(frozen=True, slots=True)
class _Job:
    """One scan to make, small enough to send to a worker."""

    path: Path
    seed: int
    number: int
    session: PlannedSession
    spacing_mm: float
    age_years: float | None
    """None where age has no effect."""


def write_brain_cohort(
    out: Path,
    *,
    num_subjects: int = 24,
    num_visits: int = 3,
    seed: int = 0,
    spacing_mm: float = 1.0,
    ageing: bool = False,
    score_noise: float = DESIGN.noise_points,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CohortSummary:
    """Write a cohort, or finish one that an earlier call with the same arguments left unfinished.

    Args:
        out: folder; new, empty, or a cohort of the same arguments.
        num_subjects: people, from 1.
        num_visits: visits of each, from 1; every third subject gets one more scan on the day of a visit.
        seed: picks the cohort; more subjects or visits leave earlier pictures as they are.
        spacing_mm: multiplies the voxel edges of the scanners (1.0 x 1.0 x 1.0 and 1.2 x 1.0 x 1.0 mm), 0.5 to 8.
        ageing: whether a person's age thins the cortex and widens sulci and ventricles, besides atrophy.
        score_noise: standard deviation of the test behind the score, in points before rounding, 0 to 10. Pictures and
            true scores stay as they are.
        workers: processes; None for one per processor, 0 or 1 for none besides this one. Others are spawned, so a
            script that calls this needs `if __name__ == "__main__":`.
        progress: called in this process with (scans done, scans in all) after each scan.

    Returns:
        What is now on disk. Pictures have RAS axes, int16, and a pose that differs per scan in the voxels, not in the
        affine.

    Raises:
        UsageError: an argument is out of range, or `out` holds something else.
    """
    plan = describe_brain_cohort(num_subjects=num_subjects, num_visits=num_visits, seed=seed, score_noise=score_noise)
    low_mm, high_mm = _SPACING_LIMITS_MM
    if not low_mm <= spacing_mm <= high_mm:
        raise UsageError(f"spacing_mm is {spacing_mm}, outside {low_mm} to {high_mm}; choose a value in that range")
    if workers is not None and workers < 0:
        raise UsageError(
            f"workers is {workers}, below 0; give 0 for this process alone or leave it out for one per processor"
        )
    parameters = {
        "cohort": "brain",
        "version": _VERSION,
        "num_subjects": num_subjects,
        "num_visits": num_visits,
        "seed": seed,
        "spacing_mm": float(spacing_mm),
        # Not named by cohorts without them, so that those of earlier versions are still known as what they are.
        "ageing": ageing or None,
        "score_noise": None if score_noise == DESIGN.noise_points else float(score_noise),
    }
    with claimed(out, parameters):
        visits = [(subject, session) for subject in plan for session in subject.sessions]
        jobs = [
            _Job(
                out / image_path(subject, session),
                seed,
                subject.number,
                session,
                spacing_mm,
                age_at(subject, session) if ageing else None,
            )
            for subject, session in visits
        ]
        num_missing = sum(not job.path.exists() for job in jobs)
        texts = partial(text_files, plan, num_visits=num_visits, ageing=ageing)
        names = texts({(a.subject_id, b.session_id): 0.0 for a, b in visits})
        if num_missing or not all((out / name).exists() for name in names):
            volumes_mm3: dict[tuple[str, str], float] = {}
            for (subject, session), volume_mm3 in zip(visits, _run(out, jobs, num_missing, workers), strict=True):
                volumes_mm3[subject.subject_id, session.session_id] = volume_mm3
                if progress is not None:
                    progress(len(volumes_mm3), len(jobs))
            for name, text in texts(volumes_mm3).items():
                put(out / name, text.encode())
    return _summary(out, plan, num_missing)


def _summary(out: Path, plan: Sequence[PlannedSubject], num_written: int) -> CohortSummary:
    counts = Counter(subject.trajectory for subject in plan)
    sessions = [session for subject in plan for session in subject.sessions]
    return CohortSummary(
        root=out,
        truth=out / "truth.tsv",
        num_subjects=len(plan),
        num_scans=len(sessions),
        num_rescans=sum(bool(session.rescan_of) for session in sessions),
        num_written=num_written,
        num_by_trajectory=dict(counts),
    )


def _run(out: Path, jobs: Sequence[_Job], num_missing: int, workers: int | None) -> Iterator[float]:
    """True ventricle volumes in the order of the jobs, each picture being on disk when its volume is answered."""
    processes = num_cores() if workers is None else workers
    processes = min(processes, num_missing)
    if processes <= 1:
        yield from map(_make, jobs)
        return
    with WorkerPool(processes, where=str(out)) as pool:
        yield from pool.map(_make, jobs)


def _make(job: _Job) -> float:
    """Write one picture unless it exists; answer the true volume of its ventricles in mm3."""
    anatomy = subject_anatomy(job.seed, job.number)
    if job.age_years is not None:
        anatomy = aged(anatomy, job.age_years)
    # One BLAS thread: the workers already use the cores, and the rounding must not depend on how many there are.
    with threadpool_limits(limits=1, user_api="blas"):
        volume_mm3 = true_ventricle_mm3(anatomy, job.session.atrophy)
        if not job.path.exists():
            _write_picture(job, anatomy)
    return volume_mm3


def _write_picture(job: _Job, anatomy: Anatomy) -> None:
    grid = grid_of(job.session.machine, job.spacing_mm)
    rng = scan_stream(job.seed, job.number, job.session)
    voxels_XYZ = acquire(anatomy, job.session.atrophy, job.session.machine, grid, rng)
    image = nib.Nifti1Image(voxels_XYZ, grid.affine)
    image.set_qform(grid.affine, code=1)
    image.set_sform(grid.affine, code=1)
    image.header.set_xyzt_units("mm", "sec")
    # Level 1: noise does not compress further, and higher levels cost several times as long.
    put(job.path, gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))
