"""Kinds of source that are named: each has a lister, and the command line offers exactly these."""

from typing import get_args

from preprocess.sources.studies import STUDIES
from preprocess.types import SourceKind


def test_each_kind_but_auto_has_its_lister() -> None:
    assert set(get_args(SourceKind)) - {"auto"} == set(STUDIES)
