"""The bundled example: three visits of one synthetic person, so that the service can be tried without a scan.

Made by `python -m tests.support.example` from a cohort that no model of the demo was trained on; the person was chosen
before any model had answered.
"""

from pathlib import Path
from typing import Literal, get_args

from pydantic import Field

from app.schemas import Schema

VisitName = Literal["earlier", "middle", "later"]
VISIT_NAMES: tuple[VisitName, ...] = get_args(VisitName)
_FOLDER = Path(__file__).resolve().parent / "example_scans"
DAYS: dict[VisitName, float] = {"earlier": 0, "middle": 311, "later": 703}
AGE = 64


class ExampleVisit(Schema):
    """One scan of the example."""

    name: VisitName = Field(description="Last part of its path, /v1/example/{visit}.")
    day: float = Field(description="Days since the first visit.")


class Example(Schema):
    """What there is to try the service with."""

    age: float = Field(description="Years at the first visit.")
    modality: str = Field(description="Which kind of scan it is, by its BIDS suffix.", examples=["T1w"])
    is_synthetic: Literal[True] = Field(default=True, description="A generated head: no person was scanned.")
    visits: list[ExampleVisit] = Field(description="In order of days.")


def example() -> Example:
    """The example without its voxels."""
    visits = [ExampleVisit(name=name, day=DAYS[name]) for name in VISIT_NAMES]
    return Example(age=AGE, modality="T1w", visits=visits)


def example_file(visit: VisitName) -> Path:
    """The NIfTI file of one visit, `.nii.gz`."""
    return _FOLDER / f"{visit}.nii.gz"
