"""Writes the synthetic lung-ultrasound cohort: clips of several zones a day with a noisy S/F ratio and its truth.

What it can show: whether a method reads the loss of aeration (A-lines fade, B-lines multiply and merge) through
speckle, depth, gain and two probes, and finds a patient's change over days.

What it cannot show: anything about patients. Every zone follows one number, breathing says nothing about disease, and
there are no ribs, effusions, pneumothorax, dynamic air bronchograms or lung pulse.

The same arguments give the same bytes (with one release of NumPy and SciPy on one kind of processor).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from interscan.synthetic.folder import TABLE, TRUTH, PlannedFile, TableCohort, cohort_tables, npy_bytes, write_cohort
from interscan.synthetic.lung.plan import ZONES, PlannedClip, PlannedDay, PlannedPatient, describe_lung_cohort
from interscan.synthetic.lung.render import PROBES, draw_clip
from interscan.synthetic.planning import Trajectory, check_range, stream

_VERSION = 1
"""Raise it when the same arguments give other bytes."""


@dataclass(frozen=True, slots=True)
class LungSummary(TableCohort):
    """Patients with their clips.

    Attributes:
        num_by_trajectory: patients per trajectory.
    """

    num_by_trajectory: dict[Trajectory, int]


def write_lung_cohort(
    out: Path,
    *,
    num_subjects: int = 40,
    num_visits: int | None = None,
    seed: int = 0,
    size_px: int = 96,
    num_frames: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> LungSummary:
    """Write a cohort, or finish one that an earlier call with the same arguments left unfinished.

    Args:
        out: folder; new, empty, or a cohort of the same arguments.
        num_subjects: patients, from 1.
        num_visits: visits of each; None for 3 to 5. Three clips a visit.
        seed: picks the cohort.
        size_px: height and width of a clip, 32 to 512.
        num_frames: frames of a clip at 12 a second, 2 to 256.
        progress: called with (clips done, clips in all) after each clip.

    Returns:
        What is now on disk: uint8 (T, H, W) clips as `.npy`, `scans.csv` and `truth.tsv`.

    Raises:
        UsageError: an argument is out of range, or `out` holds something else.
    """
    plan = describe_lung_cohort(num_subjects=num_subjects, num_visits=num_visits, seed=seed)
    check_range("size_px", size_px, 32, 512)
    check_range("num_frames", num_frames, 2, 256)
    shots = [(patient, day, clip) for patient in plan for day in patient.days for clip in day.clips]
    files = [
        PlannedFile(
            clip_path(patient, day, clip),
            partial(_clip_bytes, patient, day, clip, seed=seed, size_px=size_px, num_frames=num_frames),
        )
        for patient, day, clip in shots
    ]
    scans, truth = _tables(shots)
    parameters = {
        "cohort": "lung",
        "version": _VERSION,
        "num_subjects": num_subjects,
        "num_visits": num_visits,
        "seed": seed,
        "size_px": size_px,
        "num_frames": num_frames,
    }
    num_written = write_cohort(out, parameters=parameters, files=files, scans=scans, truth=truth, progress=progress)
    counts = Counter(patient.trajectory for patient in plan)
    return LungSummary(out, out / TABLE, out / TRUTH, len(plan), len(shots), num_written, dict(counts))


def clip_path(patient: PlannedPatient, day: PlannedDay, clip: PlannedClip) -> str:
    """Where a clip lies, relative to the root."""
    stem = f"{patient.subject_id}_{day.session_id}_{clip.run}_LUS"
    return f"{patient.subject_id}/{day.session_id}/{stem}.npy"


def _clip_bytes(
    patient: PlannedPatient, day: PlannedDay, clip: PlannedClip, *, seed: int, size_px: int, num_frames: int
) -> bytes:
    rng = stream(seed, "lung clip", patient.number, day.day, ZONES.index(clip.zone))
    frames_THW = draw_clip(
        PROBES[day.probe],
        patient.wall,
        day.setting,
        zone_loss=clip.zone_loss,
        num_b_lines=clip.num_b_lines,
        rng=rng,
        num_frames=num_frames,
        size_px=size_px,
    )
    return npy_bytes(frames_THW)


def _tables(shots: Sequence[tuple[PlannedPatient, PlannedDay, PlannedClip]]) -> tuple[str, str]:
    scans: list[Sequence[object]] = []
    truth: list[Sequence[object]] = []
    for patient, day, clip in shots:
        who = (patient.subject_id, day.session_id, clip.run)
        path = clip_path(patient, day, clip)
        scans.append((path, *who, day.day, "LUS", PROBES[day.probe].name, day.sf_ratio))
        latent = (f"{day.sf_true:.3f}", day.sf_ratio, f"{clip.zone_loss:.5f}", clip.num_b_lines)
        nuisance = (f"{day.setting.depth_mm:.2f}", f"{day.setting.gain_db:.3f}", f"{patient.wall.pleura_mm:.2f}")
        truth.append((*who, day.day, patient.trajectory, clip.zone, *latent, *nuisance))
    truth_columns = (
        *("subject_id", "session_id", "run", "day", "trajectory", "zone"),
        *("sf_true", "sf_ratio", "zone_loss", "num_b_lines", "depth_mm", "gain_db", "pleura_mm"),
    )
    return cohort_tables("sf_ratio", scans, truth_columns, truth)
