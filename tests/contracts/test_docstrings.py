"""What docstrings begin with: each of them, and each entry of a section, says what it is about and not only whose."""

import ast
import re
from pathlib import Path

import pytest

from tests.contracts.test_architecture import SOURCE, name_of

SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):")
ENTRY = re.compile(r"[^\W\d][\w.*, ]*: +(.*)")
BEGINS_WITH_OF = re.compile(r"of\b", re.IGNORECASE)


def entries(docstring: str) -> list[tuple[int, str]]:
    """The texts that a reader may meet on their own, each with the number of its line, counted from 0.

    The docstring itself, every entry of its sections, and what a section without names, such as Returns, begins with.
    """
    lines = docstring.splitlines()
    found = [next(((number, line.strip()) for number, line in enumerate(lines) if line.strip()), (0, ""))]
    section, depth, is_first = -1, -1, False
    for number, line in enumerate(lines):
        text = line.lstrip()
        if not text:
            continue
        indent = len(line) - len(text)
        if SECTION.fullmatch(text):
            section, depth, is_first = indent, -1, True
        elif section >= 0 and indent <= section:
            section = -1
        elif section >= 0:
            depth = indent if depth < 0 else depth
            # Deeper lines go on with an entry, and what stands there is the middle of a sentence.
            if indent == depth:
                entry = ENTRY.match(text)
                if entry is not None:
                    found.append((number, entry[1]))
                elif is_first:
                    found.append((number, text))
            is_first = False
    return found


def terse(tree: ast.Module) -> list[tuple[int, str]]:
    """Line and text of every docstring or entry that begins with `of`, those below assignments included."""
    return [
        (node.lineno + number, text)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for number, text in entries(node.value.value)
        if BEGINS_WITH_OF.match(text)
    ]


@pytest.mark.parametrize("path", SOURCE, ids=name_of)
def test_no_docstring_and_no_entry_begins_with_of(path: Path) -> None:
    found = terse(ast.parse(path.read_text(encoding="utf-8")))
    assert not found, "\n".join(f"{name_of(path)}:{line}: say what it is: {text!r}" for line, text in found)


def test_one_that_begins_with_of_would_be_seen_with_its_line() -> None:
    text = '''"""Job."""
LIMIT = 1
"""Of a batch."""


class Reader:
    """Reads: of all stations the slowest.

    Attributes:
        seed: of the run.
        kept: rows that stay; they are
            those: of the first epoch.
    """

    def rows(self, count):
        """Of each batch the rows.

        Args:
            count: of rows.

        Returns:
            Of equal ones the first.

        Raises:
            ValueError: of none.
        """
'''
    assert [line for line, _ in terse(ast.parse(text))] == [3, 10, 16, 19, 22, 25]


def test_of_in_the_middle_of_a_sentence_is_plain_english() -> None:
    text = '"""Counts.\n\n    An edge: of it one voxel is lost.\n\n    Args:\n        n: number of rows.\n    """\n'
    assert terse(ast.parse(text)) == []
