"""The shape of the source: direction of imports, size of files, nothing at import, a test for every file."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("preprocess", "trainer", "app", "interscan")
MAY_IMPORT = {
    "preprocess": {"preprocess"},
    "trainer": {"trainer", "preprocess"},
    "app": {"app", "preprocess"},
    "interscan": set(PARTS),
}
LONGEST = 400
VENDOR = "app/static/vendor"
"""What others released, kept byte for byte; tests/app/routes/test_page.py holds it against its digest."""
WITHOUT_TEST = {
    "interscan/__main__.py": "run as a program by tests/trainer/fit/test_train.py",
}
"""Source files without a test file of their name, each with the reason."""


def tracked() -> list[Path]:
    """The files of the project that are, or will be, under version control and still exist."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [path for name in sorted(set(listed.stdout.splitlines())) if (path := ROOT / name).is_file()]


FILES = tracked()
PYTHON = [path for path in FILES if path.suffix == ".py"]
SOURCE = [path for path in PYTHON if path.relative_to(ROOT).parts[0] in PARTS]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(tree: ast.AST) -> set[str]:
    """First names of all modules that are imported anywhere in a file, also by name in a string."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
            names.add(str(node.module).split(".")[0])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            named = re.fullmatch(r"([a-z]+)(\.[a-z_]+)+:[a-z_]+", node.value)
            names |= {named[1]} if named else set()
    return names


def test_there_is_source_to_look_at() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in SOURCE} == set(PARTS)
    assert len(SOURCE) > 50


@pytest.mark.parametrize("path", SOURCE, ids=name_of)
def test_imports_go_in_one_direction_only(path: Path) -> None:
    part = path.relative_to(ROOT).parts[0]
    found = imported(ast.parse(path.read_text(encoding="utf-8"))) & set(PARTS)
    assert found <= MAY_IMPORT[part]


def test_product_code_imports_neither_tests_nor_benchmarks() -> None:
    for path in SOURCE:
        assert not imported(ast.parse(path.read_text(encoding="utf-8"))) & {"tests", "benchmarks", "pytest"}, path


@pytest.mark.parametrize("path", PYTHON, ids=name_of)
def test_a_file_says_its_job_in_its_first_line_and_is_not_too_long(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST
    # Scripts may begin with the line that names their interpreter.
    body = re.sub(r"\A#!.*\n", "", text)
    assert body.startswith(('"""', 'r"""'))
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring
    assert len(docstring.splitlines()[0].split()) >= 2


def test_torchscript_is_named_in_two_functions_of_the_whole_source() -> None:
    """Once where it is written and proven, once where it is served; nowhere at module level."""
    named_in: list[str] = []
    for path in SOURCE:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.jit":
                owners = [one.name for one in functions if one.lineno <= node.lineno <= (one.end_lineno or 0)]
                named_in.append(f"{name_of(path)}:{owners[-1] if owners else 'module'}")
            assert not (isinstance(node, ast.ImportFrom) and str(node.module).startswith("torch.jit"))
    assert len(set(named_in)) <= 2, sorted(set(named_in))
    assert not [one for one in named_in if one.endswith(":module")]


FORBIDDEN_AT_IMPORT = re.compile(
    r"(basicConfig|getLogger\(\)|addHandler|setLevel|Settings$|create_app|signal\.signal|manual_seed|"
    r"set_num_threads|set_num_interop_threads|environ\.setdefault|putenv|open$|read_text|read_bytes|mkdir|"
    r"requests\.|urlopen|subprocess\.|print$|filterwarnings|simplefilter)"
)


def calls_at_import(tree: ast.Module) -> list[str]:
    """Everything that is called while the module loads: function and lambda bodies do not run then."""
    found: list[str] = []

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for part in [*node.decorator_list, *node.args.defaults, *node.args.kw_defaults]:
                if part is not None:
                    visit(part)
            return
        if isinstance(node, ast.Lambda) or (isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)):
            return
        if isinstance(node, ast.Call):
            found.append(ast.unparse(node.func))
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return found


@pytest.mark.parametrize("path", SOURCE, ids=name_of)
def test_nothing_happens_at_import(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = calls_at_import(tree)
    assert not [call for call in calls if FORBIDDEN_AT_IMPORT.search(call)]
    # A bare expression at module level is there for its effect; docstrings are constants.
    assert not [
        ast.unparse(node)
        for node in tree.body
        if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
    ]


def stray_strings(tree: ast.Module) -> list[str]:
    """Strings on a line of their own that are neither a docstring nor below the assignment that they explain."""
    found: list[str] = []
    for owner in ast.walk(tree):
        if isinstance(owner, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for above, node in zip([None, *owner.body], owner.body, strict=False):
                explained = above is None or isinstance(above, ast.Assign | ast.AnnAssign)
                if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and not explained:
                    found += [node.value.value] if isinstance(node.value.value, str) else []
    return found


@pytest.mark.parametrize("path", SOURCE, ids=name_of)
def test_a_string_of_its_own_explains_what_stands_above_it(path: Path) -> None:
    assert not stray_strings(ast.parse(path.read_text(encoding="utf-8")))


def test_a_string_that_explains_nothing_would_be_seen() -> None:
    tree = ast.parse('"""Job."""\nimport os\n"""lost"""\nA = 1\n"""Letter."""\ndef f():\n    """Do."""\n    ...\n')
    assert stray_strings(tree) == ["lost"]


def test_a_forbidden_call_would_be_seen() -> None:
    tree = ast.parse("import logging\nlogging.basicConfig()\nx = Settings()\ndef f():\n    open('x')\n")
    assert [call for call in calls_at_import(tree) if FORBIDDEN_AT_IMPORT.search(call)] == [
        "logging.basicConfig", "Settings"
    ]  # fmt: skip


def test_every_source_file_has_a_test_file_of_its_name_in_the_mirrored_folder() -> None:
    present = {name_of(path) for path in PYTHON}
    missing = []
    for path in SOURCE:
        relative = path.relative_to(ROOT)
        if relative.name == "__init__.py" or relative.as_posix() in WITHOUT_TEST:
            continue
        test = Path("tests") / relative.with_name(f"test_{relative.name}")
        if test.as_posix() not in present:
            missing.append(test.as_posix())
    assert not missing
    assert set(WITHOUT_TEST) <= present


def test_no_place_of_one_machine_and_no_registry_stands_in_a_tracked_file() -> None:
    # Put together here, so that this file does not hold them itself.
    machine = "|".join(("/wo" + r"rk/\w", "/ro" + r"ot/\w", "/ho" + r"me/(?!nonroot|app|user)\w", "/Us" + r"ers/\w"))
    registry = "|".join(
        ("py" + r"pi\.org", "python" + r"hosted\.org", "npm" + r"js\.(org|com)", "huggingface" + r"\.co")
    )
    pattern = re.compile(f"(?<![\\w.])({machine})|({registry})|index-ur" + "l")
    found = []
    for path in FILES:
        if path.relative_to(ROOT).is_relative_to(VENDOR):
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{name_of(path)}: {match[0]}" for match in pattern.finditer(text)]
    assert not found
