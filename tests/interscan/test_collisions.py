"""Somebody else's `app`, `trainer` or `preprocess` on Python's path is named, with the remedy, and never imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from interscan.collisions import PACKAGES, require_own_packages

ROOT = Path(__file__).resolve().parents[2]


def ask(folder: Path, program: str = "from interscan import open_store") -> subprocess.CompletedProcess[str]:
    """Run a program that starts in `folder`, which comes first on Python's path, as for a user's own script."""
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_nothing_is_said_when_the_packages_are_ours(tmp_path):
    require_own_packages()
    done = ask(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("name", PACKAGES)
@pytest.mark.parametrize("form", ["script", "package"])
def test_a_script_or_package_of_that_name_is_named_and_never_run(tmp_path, name, form):
    file = tmp_path / f"{name}.py" if form == "script" else tmp_path / name / "__init__.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text("print('the other one ran')\n")

    done = ask(tmp_path)

    assert done.returncode == 1
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert str(file) in last
    assert str(ROOT / name / "__init__.py") in last
    assert "rename the other one" in last


def test_a_folder_without_init_does_not_take_the_place_of_ours(tmp_path):
    (tmp_path / "app").mkdir()
    assert ask(tmp_path).returncode == 0


def test_one_that_was_imported_before_is_named_too(tmp_path):
    (tmp_path / "app.py").write_text("")
    program = "import app, sys; sys.path.remove(''); sys.path.pop(0); import interscan; interscan.load_artefact"
    done = ask(tmp_path, program)
    assert f"'app' that Python finds is {tmp_path / 'app.py'}" in done.stderr.splitlines()[-1]


def test_a_module_without_a_spec_is_named_by_its_file(monkeypatch):
    module = type(sys)("trainer")
    monkeypatch.setitem(sys.modules, "trainer", module)
    with pytest.raises(ImportError, match="'trainer' that Python finds is no file"):
        require_own_packages()
    module.__file__ = "elsewhere.py"
    with pytest.raises(ImportError, match=r"'trainer' that Python finds is elsewhere\.py") as caught:
        require_own_packages()
    assert caught.value.name == "trainer"


def test_a_missing_package_is_named(tmp_path):
    with pytest.raises(ImportError, match="interscan needs its own"):
        require_own_packages(tmp_path)
