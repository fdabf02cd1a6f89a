"""`interscan card` prints a card or writes it, and refuses what is no artefact or no file."""

import json
from pathlib import Path

import fsspec
import pytest

from app.card import render_card
from app.card_cli import card
from app.registry import read_manifest
from preprocess.errors import ArtefactError, UsageError
from preprocess.storage import Location


def test_without_a_file_the_card_is_printed(artefact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert card(str(artefact)) == 0
    assert capsys.readouterr().out == render_card(read_manifest(Location(artefact)))


def test_the_file_holds_what_would_be_printed(
    artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert card(str(artefact), out=str(tmp_path / "card.md"), json=True) == 0
    assert json.loads(capsys.readouterr().out)["out"] == str(tmp_path / "card.md")
    assert (tmp_path / "card.md").read_text() == render_card(read_manifest(Location(artefact)))


def test_a_card_can_be_written_to_a_bucket(artefact: Path) -> None:
    card(str(artefact), out="memory://card-test/card.md")
    assert fsspec.filesystem("memory").cat_file("/card-test/card.md").startswith(b"# tiny 1\n")


def test_json_holds_the_card(artefact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card(str(artefact), json=True)
    assert json.loads(capsys.readouterr().out)["card"].startswith("# tiny 1\n")


def test_what_is_no_artefact_or_no_file_is_refused(artefact: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"no manifest\.json"):
        card(str(tmp_path))
    with pytest.raises(UsageError, match=r"not a file; name one, for example card\.md"):
        card(str(artefact), out="folder/")
