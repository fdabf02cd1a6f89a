"""The sub-verbs of `interscan synth`: one a cohort, each with the options of that cohort alone."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from preprocess.console import EXIT_DONE, JsonFlag, emit, progress
from preprocess.errors import UsageError

if TYPE_CHECKING:
    from interscan.synthetic.brain.cohort import CohortSummary
    from interscan.synthetic.folder import TableCohort

_COHORTS = ("brain", "lung", "severity", "connectome")

Switch = Annotated[bool, Parameter(negative="")]
"""An option that is off unless it is given."""


def brain(
    out: Path,
    *,
    subjects: int = 24,
    visits: int = 3,
    seed: int = 0,
    spacing_mm: float = 1.0,
    ageing: Switch = False,
    score_noise: float = 0.6,
    workers: int | None = None,
    json: JsonFlag = False,
) -> int:
    """Write T1w heads with atrophy, scores, two scanners and rescans, as a BIDS folder to give to preprocess.

    Args:
        out: new folder to write.
        subjects: number of people.
        visits: visits per person, rescans not counted.
        seed: the same seed gives the same bytes.
        spacing_mm: voxel edge of the finer scanner, in mm.
        ageing: let age thin the cortex and widen sulci and ventricles, besides atrophy.
        score_noise: standard deviation of the test behind the score, in points; 2.8 as of the MMSE in patients.
        workers: processes; one per core when not given.
        json: print the result as one JSON object on stdout.
    """
    from interscan.synthetic.brain.cohort import write_brain_cohort

    write = partial(
        write_brain_cohort,
        out,
        num_subjects=subjects,
        num_visits=visits,
        seed=seed,
        spacing_mm=spacing_mm,
        ageing=ageing,
        score_noise=score_noise,
        workers=workers,
    )
    return _write("brain", write, seed=seed, json=json)


def lung(
    out: Path,
    *,
    subjects: int = 40,
    visits: int | None = None,
    seed: int = 0,
    size_px: int = 96,
    frames: int = 32,
    json: JsonFlag = False,
) -> int:
    """Write ultrasound clips with S/F ratios, and a table scans.csv to give to preprocess.

    Args:
        out: new folder to write.
        subjects: number of people.
        visits: visits per person; 3 to 5 when not given.
        seed: the same seed gives the same bytes.
        size_px: height and width in pixels.
        frames: frames of a clip.
        json: print the result as one JSON object on stdout.
    """
    from interscan.synthetic.lung.cohort import write_lung_cohort

    write = partial(
        write_lung_cohort,
        out,
        num_subjects=subjects,
        num_visits=visits,
        seed=seed,
        size_px=size_px,
        num_frames=frames,
    )
    return _write("lung", write, seed=seed, json=json)


def severity(
    out: Path,
    *,
    subjects: int = 120,
    seed: int = 0,
    size_px: int = 96,
    balanced: Switch = False,
    json: JsonFlag = False,
) -> int:
    """Write graded pictures of eyes, most of them normal, and a table scans.csv to give to preprocess.

    Args:
        out: new folder to write.
        subjects: number of people.
        seed: the same seed gives the same bytes.
        size_px: height and width in pixels.
        balanced: make all grades equally frequent.
        json: print the result as one JSON object on stdout.
    """
    from interscan.synthetic.eyes.cohort import write_severity_cohort

    write = partial(write_severity_cohort, out, num_subjects=subjects, seed=seed, size_px=size_px, balanced=balanced)
    return _write("severity", write, seed=seed, json=json)


def connectome(
    out: Path,
    *,
    subjects: int = 60,
    seed: int = 0,
    missing: float = 0.3,
    json: JsonFlag = False,
) -> int:
    """Write SC, FC, radiomics, T2 and clinical scores with a class, and a table scans.csv to give to preprocess.

    Args:
        out: new folder to write.
        subjects: number of people.
        seed: the same seed gives the same bytes.
        missing: share of the people who lack one modality, 0 to 1.
        json: print the result as one JSON object on stdout.
    """
    from interscan.synthetic.connectome.cohort import write_connectome_cohort

    write = partial(write_connectome_cohort, out, num_subjects=subjects, seed=seed, missing=missing)
    return _write("connectome", write, seed=seed, json=json)


def _write(cohort: str, write: Callable[..., "CohortSummary | TableCohort"], *, seed: int, json: bool) -> int:
    """Run a generator under a progress bar and print what is now on disk."""
    with progress("synth") as advance:
        summary = write(progress=advance)
    text = f"{summary.num_scans} scans of {summary.num_subjects} subjects in {summary.root} ({cohort}, seed {seed})"
    emit({"cohort": cohort, "out": str(summary.root), **asdict(summary)}, text, as_json=json)
    return EXIT_DONE


def _refuse(*words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)]) -> int:
    """Say what comes first; without this, `interscan synth` alone would print help and end with 0."""
    found = f"{words[0]} stands where the cohort belongs" if words else "no cohort is named"
    raise UsageError(f"{found}; give {', '.join(_COHORTS[:-1])} or {_COHORTS[-1]}, as in interscan synth brain OUT")


def _sub_app() -> App:
    app = App(name="synth", help="Write a synthetic cohort with known truth.", default_command=_refuse)
    app.command(brain)
    app.command(lung)
    # Its tables, its recipe and its results say severity, which is graded; its package says eyes, which are shown.
    app.command(severity, alias="eyes")
    app.command(connectome)
    return app


synth = _sub_app()
"""What `interscan.cli` mounts."""
