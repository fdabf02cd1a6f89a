"""Recipes as files, and the one line in which a wrong one is refused."""

from pathlib import Path

import pytest

from preprocess.errors import UsageError
from trainer.recipe import load_recipe

HEAD = 'name = "mine"\n'
OBJECTIVE = '[[objective]]\nname = "info_nce"\n'


def write(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text)
    return str(path)


def refusal(source: str, *settings: str) -> str:
    with pytest.raises(UsageError) as raised:
        load_recipe(source, settings)
    message = str(raised.value)
    assert "\n" not in message
    return message
