"""The verb forget: caches lose their copies, and runs that knew the person are refused with one line."""

from pathlib import Path

import pytest

from interscan.cli import run
from preprocess.storage import Location
from preprocess.store import Store
from tests.support.cohorts import default_scans, recipe_toml, tiny_recipe, write_store


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, a run on it that was read through a cache."""
    root = tmp_path_factory.mktemp("forget")
    write_store(Location(root / "store"), default_scans())
    (root / "tiny.toml").write_text(recipe_toml(tiny_recipe()), encoding="utf-8")
    arguments = ["train", str(root / "tiny.toml"), "--store", str(root / "store"), "--run", str(root / "run")]
    assert run([*arguments, "--cache", str(root / "cache")]) == 0
    return root


def test_a_person_leaves_the_cache_and_the_run_is_refused(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = Store.open(trained / "store").records
    person = records[0].subject_id
    mine = {one.content_sha256 for one in records if one.subject_id == person and one.present}
    cached = {path.stem for path in (trained / "cache").rglob("*") if path.is_file()}
    assert any(digest in name for digest in mine for name in cached)

    code = run(["forget", str(trained / "store"), "--subject", person, "--cache", str(trained / "cache")])

    out = capsys.readouterr().out
    assert code == 0
    assert f"{len([one for one in records if one.subject_id == person])} rows of {person} are gone" in out
    left = {path.stem for path in (trained / "cache").rglob("*") if path.is_file()}
    assert not any(digest in name for digest in mine for name in left)
    assert left  # other people's copies stay
    assert run(["evaluate", str(trained / "run")]) == 3
    assert "1 of its persons were deleted from the store on request; train anew" in capsys.readouterr().err
    arguments = ["train", str(trained / "tiny.toml"), "--store", str(trained / "store"), "--run", str(trained / "run")]
    assert run([*arguments, "--set", "optim.epochs=9"]) in (2, 3)
