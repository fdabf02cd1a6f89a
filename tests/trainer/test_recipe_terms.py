"""Every term is named by its own word, has only sane settings, and says what it needs of a batch."""

from typing import get_args

import pydantic
import pytest

from trainer.recipe_terms import LearnerTerm, SupReMixTerm, Term

CLASSES = get_args(get_args(Term)[0])
ADAPTER: pydantic.TypeAdapter[Term] = pydantic.TypeAdapter(Term)


@pytest.mark.parametrize("kind", CLASSES)
def test_a_name_alone_makes_the_term_with_its_defaults(kind: type[pydantic.BaseModel]) -> None:
    (name,) = get_args(kind.model_fields["name"].annotation)
    term = ADAPTER.validate_python({"name": name})
    assert type(term) is kind
    assert term.weight == 1.0


@pytest.mark.parametrize("kind", CLASSES)
def test_weight_and_temperature_are_above_zero(kind: type[pydantic.BaseModel]) -> None:
    (name,) = get_args(kind.model_fields["name"].annotation)
    for setting in {"weight", "temperature"} & kind.model_fields.keys():
        with pytest.raises(pydantic.ValidationError, match="greater than 0"):
            ADAPTER.validate_python({"name": name, setting: 0.0})


def test_names_are_unique_and_what_learns_from_scores_says_so() -> None:
    names = [get_args(kind.model_fields["name"].annotation)[0] for kind in CLASSES]
    assert len(set(names)) == len(names)
    without = {name for name, kind in zip(names, CLASSES, strict=True) if not kind.needs_scores}
    assert {"info_nce", "nt_xent", "chrono_contrast"} <= without
    assert LearnerTerm.needs_scores
    assert SupReMixTerm.needs_views
