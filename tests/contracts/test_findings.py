"""docs/findings.md and the code name the same codes: whoever meets one finds its meaning, and no page tells of none."""

import ast
import re
from pathlib import Path

from preprocess.sources.reconciliation import CODES

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
MAKERS = {"Finding", "_refusal"}
"""What makes a finding of a code, its first argument."""


def constants(tree: ast.Module) -> dict[str, object]:
    """Names given a literal value at the top of a module."""
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def codes_of(tree: ast.Module) -> set[object]:
    named = constants(tree)
    found: set[object] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in MAKERS:
            for code in [*node.args[:1], *(word.value for word in node.keywords if word.arg == "code")]:
                if isinstance(code, ast.Constant):
                    found.add(code.value)
                elif isinstance(code, ast.Name) and code.id in named:
                    found.add(named[code.id])
    return found


def codes_in_source() -> set[object]:
    found: set[object] = set(CODES)
    for part in ("preprocess", "app"):
        for path in (ROOT / part).rglob("*.py"):
            found |= codes_of(ast.parse(path.read_text(encoding="utf-8")))
    return {code for code in found if isinstance(code, str) and re.fullmatch(r"[a-z0-9_]+", code)}


def test_every_code_stands_on_the_page_and_every_code_of_the_page_in_the_source() -> None:
    on_page = re.findall(r"^\| `([a-z0-9_]+)` \|", PAGE, re.MULTILINE)
    assert set(on_page) == codes_in_source()
    assert len(on_page) == len(set(on_page))


def test_a_code_given_by_name_or_by_keyword_is_seen() -> None:
    tree = ast.parse('CODE = "by_name"\nFinding(CODE, "x")\nFinding(code="by_keyword", message="y")\n')
    assert codes_of(tree) == {"by_name", "by_keyword"}


def test_every_row_has_a_meaning_and_a_remedy() -> None:
    rows = [line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("| `")]
    assert rows
    assert all(len(row) == 3 and all(cell.strip() for cell in row) for row in rows)
