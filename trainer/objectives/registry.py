"""The methods whose objectives a recipe may name, a line for each; a new method is a new file here and its line below.

CONTRIBUTING.md explains how.
"""

from functools import reduce
from importlib import import_module
from operator import or_
from typing import TYPE_CHECKING, Annotated, TypeAlias

from pydantic import Field

from trainer.objectives.base import Term

METHODS = (
    "change",
    "chrono",
    "clinimcl",
    "conpro",
    "joint",
    "learner",
    "rank",
    "simclr",
    "supcon",
    "supremix",
)
"""Files of this folder; the objectives of each are its `TERMS`."""

TERMS: tuple[type[Term], ...] = tuple(
    term for method in METHODS for term in import_module(f"trainer.objectives.{method}").TERMS
)
"""All objectives, distinguished by `name`."""

if TYPE_CHECKING:
    AnyTerm: TypeAlias = Term
else:
    # Made of what is registered, so it cannot be written down for type checkers.
    AnyTerm = Annotated[reduce(or_, TERMS), Field(discriminator="name")]
