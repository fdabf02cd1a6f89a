"""Writes the synthetic connectome cohort: five modalities a person, one class, and the parts of the risk behind it.

What it can show: whether a method brings together what several modalities know. The risk is a sum of three independent
parts; each modality shows one of them (FC two) through noise of its own, so no single one suffices.

What it cannot show: anything about patients. Effects are linear in the risk, each sits in one place, the modalities
agree on nothing but the parts, and what is missing is missing by chance.

The same arguments give the same bytes (with one release of NumPy on one kind of processor).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path

from interscan.synthetic.connectome.plan import MODALITIES, Modality, PlannedPerson, describe_connectome_cohort
from interscan.synthetic.connectome.render import (
    CLINICAL_COLUMNS,
    MACHINES,
    Population,
    draw_features,
    draw_function,
    draw_head,
    draw_population,
    draw_scores,
    draw_structure,
)
from interscan.synthetic.folder import (
    TABLE,
    TRUTH,
    PlannedFile,
    TableCohort,
    cohort_tables,
    npy_bytes,
    table_text,
    write_cohort,
)
from interscan.synthetic.planning import stream

_VERSION = 1
"""Raise it when the same arguments give other bytes."""

_ENDINGS: dict[Modality, str] = {"SC": "npy", "FC": "npy", "radiomics": "npy", "T2": "nii.gz", "clinical": "csv"}

_SESSION = "ses-01"


@dataclass(frozen=True, slots=True)
class ConnectomeSummary(TableCohort):
    """Persons with their measurements.

    Attributes:
        num_impaired: persons of class 1.
        num_lacking: persons without a modality, by modality.
    """

    num_impaired: int
    num_lacking: dict[Modality, int]


def write_connectome_cohort(
    out: Path,
    *,
    num_subjects: int = 60,
    seed: int = 0,
    missing: float = 0.3,
    progress: Callable[[int, int], None] | None = None,
) -> ConnectomeSummary:
    """Write a cohort, or finish one that an earlier call with the same arguments left unfinished.

    Args:
        out: folder; new, empty, or a cohort of the same arguments.
        num_subjects: persons, from 1; each is measured once.
        seed: picks the cohort, its regions included.
        missing: share of the persons who lack one modality, each of the five in turn; 0 to 1.
        progress: called with (files done, files in all) after each file.

    Returns:
        What is now on disk: `SC` and `FC` (87, 87) and `radiomics` (87, 20) as float32 `.npy`, `T2` as `.nii.gz` of
        4 mm, `clinical` as `.csv` of one row, `scans.csv` with the outcome `impaired`, and `truth.tsv`.

    Raises:
        UsageError: an argument is out of range, or `out` holds something else.
    """
    plan = describe_connectome_cohort(num_subjects=num_subjects, seed=seed, missing=missing)
    people = draw_population(stream(seed, "connectome population"))
    files = [
        PlannedFile(measurement_path(person, modality), partial(_content, people, person, modality, seed))
        for person in plan
        for modality in person.has
    ]
    scans, truth = _tables(plan)
    parameters = {
        "cohort": "connectome",
        "version": _VERSION,
        "num_subjects": num_subjects,
        "seed": seed,
        "missing": missing,
    }
    num_written = write_cohort(out, parameters=parameters, files=files, scans=scans, truth=truth, progress=progress)
    lacking = Counter(person.lacks for person in plan if person.lacks is not None)
    return ConnectomeSummary(
        root=out,
        table=out / TABLE,
        truth=out / TRUTH,
        num_subjects=len(plan),
        num_scans=len(files),
        num_written=num_written,
        num_impaired=sum(person.impaired for person in plan),
        num_lacking={modality: lacking[modality] for modality in MODALITIES},
    )


def measurement_path(person: PlannedPerson, modality: Modality) -> str:
    """Where a measurement lies, relative to the root."""
    stem = f"{person.subject_id}_{_SESSION}_{modality}"
    return f"{person.subject_id}/{_SESSION}/{stem}.{_ENDINGS[modality]}"


def _content(people: Population, person: PlannedPerson, modality: Modality, seed: int) -> bytes:
    rng = stream(seed, f"connectome {modality}", person.number)
    shown, machine = person.shown, MACHINES[person.machine]
    if modality == "T2":
        return draw_head(people, shown.t2_b, machine, rng)
    if modality == "clinical":
        scores = [f"{score:g}" for score in draw_scores(shown.clinical_c, rng)]
        return table_text(CLINICAL_COLUMNS, [scores], delimiter=",").encode()
    if modality == "SC":
        return npy_bytes(draw_structure(people, shown.sc_a, machine, rng))
    if modality == "FC":
        return npy_bytes(draw_function(people, shown.fc_a, shown.fc_c, machine, rng))
    return npy_bytes(draw_features(people, shown.radiomics_b, machine, rng))


def _tables(plan: Sequence[PlannedPerson]) -> tuple[str, str]:
    scans: list[Sequence[object]] = []
    truth: list[Sequence[object]] = []
    for person in plan:
        machine = MACHINES[person.machine].name
        for modality in person.has:
            path = measurement_path(person, modality)
            scans.append((path, person.subject_id, _SESSION, "", 0, modality, machine, person.impaired))
        numbers = (person.risk, *person.parts, *astuple(person.shown))
        cells = (f"{number:.5f}" for number in numbers)
        truth.append((person.subject_id, person.impaired, machine, person.lacks or "n/a", *cells))
    truth_columns = (
        *("subject_id", "impaired", "scanner", "lacks", "risk", "part_a", "part_b", "part_c"),
        *("sc_a", "fc_a", "fc_c", "radiomics_b", "t2_b", "clinical_c"),
    )
    return cohort_tables("impaired", scans, truth_columns, truth)
