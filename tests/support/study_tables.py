"""A study's tables read from texts, with what is said of them."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from preprocess.sources.reconciliation import Reconciliation
from preprocess.sources.sentinels import Choice
from preprocess.sources.study_tables import StudyTable, plain_heading
from preprocess.sources.tables import read_table

T = TypeVar("T")


def read_texts(
    read_clinical: Callable[[list[StudyTable], Reconciliation, Choice], T], tables: Mapping[str, str]
) -> tuple[T, dict[str, list[str]]]:
    """What a study's reader makes of tables by name, and its remarks by code, but for columns that are not used."""
    account = Reconciliation()
    found = []
    for name, text in tables.items():
        read = read_table(f"{name}.csv", text, account)
        account.read.add(read.name)
        found.append(StudyTable(read.name, {plain_heading(one): one for one in read.columns}, read.rows))
    result = read_clinical(found, account, Choice())
    said: dict[str, list[str]] = {}
    for one in account.remarks:
        if one.code != "column_not_used":
            said.setdefault(one.code, []).append(one.message)
    return result, said
