"""What varies from run to run is masked in every format, and the smallest other change is seen."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import nn

from benchmarks.behaviour_files import MASK, Normaliser, page_lines, unique_names

PLAIN = Normaliser({"/place/work": "WORK", "/place": "CHECKOUT"})


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("/place/work/run: finished 2026-11-26T22:15:16Z", f"WORK/run: finished {MASK}"),
        ("/place/trainer/fit/loop.py:31: UserWarning: odd", "CHECKOUT/*.py: UserWarning: odd"),
        ("checkpoints/step-00000012-1a2b3c4d.pt", "checkpoints/step-00000012.pt"),
        ("events.out.tfevents.1795731315.vm.2614.0", "events.out.tfevents"),
        ("2 epochs, loss 1.55 to 1.5, best epoch 0, 1,204 s", f"2 epochs, loss 1.55 to 1.5, best epoch 0, {MASK} s"),
        ("1 steps, 204 volumes/s; seconds 0.049", f"1 steps, {MASK} volumes/s; seconds {MASK}"),
        ("volumes 10.000, seconds 0.049, steps 3", f"volumes 10.000, seconds {MASK}, steps 3"),
    ],
)  # fmt: skip
def test_times_rates_drawn_names_and_folders_are_masked_in_text(text: str, plain: str) -> None:
    assert PLAIN.text(text) == plain


@pytest.mark.parametrize(
    "text", ["voxel spacing 5.0 mm is coarser than 4.5 mm", "33 scans of 10 subjects", "gap of 365 days", "loss 1.547"]
)
def test_measures_of_scans_and_people_are_no_times(text: str) -> None:
    assert PLAIN.text(text) == text


def test_a_printed_object_keeps_its_masked_keys() -> None:
    assert PLAIN.printed('{"seconds": 3.5, "loss": 1.5, "head": null, "store": "/place/work/s", "finished": null}') == {
        "json": {"seconds": MASK, "loss": "1.5", "head": None, "store": "WORK/s", "finished": None}
    }
    assert PLAIN.printed("two\nlines\n") == ["two", "lines"]


def read(folder: Path, name: str, write: Callable[[Path], Any]) -> Any:
    """What is read of a file just written, as it comes back from a JSON file."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path)
    return json.loads(json.dumps(PLAIN.file(path, name)))


def test_json_is_told_apart_by_values_and_by_layout(tmp_path: Path) -> None:
    def seen(value: Any, indent: int | None = 1) -> Any:
        return read(tmp_path, "result.json", lambda path: path.write_text(json.dumps(value, indent=indent)))

    assert seen({"seconds": 1.25, "loss": 2.0}) == seen({"seconds": 17, "loss": 2.0})
    assert seen({"seconds": 1.25, "loss": 2.0}) != seen({"seconds": 1.25, "loss": 2.0000000000000004})
    assert seen({"loss": 2.0}) != seen({"loss": 2})
    assert seen({"loss": 2.0}) != seen({"loss": 2.0}, indent=2)


def test_digests_vary_only_in_the_pointers_to_checkpoints(tmp_path: Path) -> None:
    def seen(name: str, digest: str) -> Any:
        return read(tmp_path, name, lambda path: path.write_text(json.dumps({"sha256": digest})))

    assert seen("run/checkpoints/latest.json", "a") == seen("run/checkpoints/latest.json", "b")
    assert seen("store/store.json", "a") != seen("store/store.json", "b")


def test_of_a_checkpoint_every_tensor_and_value_is_seen_but_not_the_time(tmp_path: Path) -> None:
    def seen(state: dict[str, Any]) -> Any:
        return read(tmp_path, "run/model.pt", lambda path: torch.save(state, path))

    def state(last: float = 2.0, seconds: float = 1.0, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
        weight = torch.tensor([[1.0, last]], dtype=dtype)
        return {"weight": weight, "step": 3, "history": [{"loss": 0.5, "seconds": seconds}], "git_revision": "abc"}

    assert seen(state()) == seen(state(seconds=9.0) | {"git_revision": "def"})
    assert seen(state()) != seen(state(last=2.0000002))
    assert seen(state()) != seen(state(dtype=torch.bfloat16))
    assert seen(state()) != seen(state() | {"step": 4})
    assert seen(state()) != seen({"weights" if key == "weight" else key: part for key, part in state().items()})


def test_arrays_tables_and_bytes_are_told_apart(tmp_path: Path) -> None:
    def arrays(last: float) -> Any:
        return read(tmp_path, "golden.npz", lambda path: np.savez(path, x=np.array([1.0, last])))

    def table(last: float) -> Any:
        return read(
            tmp_path, "index.parquet", lambda path: pq.write_table(pa.table({"a": [1.0, last], "b": [1, 2]}), path)
        )

    def data(last: bytes) -> Any:
        return read(tmp_path, "volumes.zarr/c/0", lambda path: path.write_bytes(b"1" + last))

    for one in (arrays, table):
        assert one(2.0) == one(2.0)
        assert one(2.0) != one(3.0)
    assert data(b"2") == data(b"2")
    assert data(b"2") != data(b"3")
    left, right = table(2.0)["columns"], table(3.0)["columns"]
    assert [name for name in left if left[name] != right[name]] == ["a"]


def picture(grey: int, software: str) -> bytes:
    sink, note = io.BytesIO(), PngInfo()
    note.add_text("Software", software)
    Image.new("L", (4, 3), grey).save(sink, "png", pnginfo=note)
    return sink.getvalue()


def test_pictures_are_compared_by_pixels(tmp_path: Path) -> None:
    def seen(data: bytes) -> Any:
        return read(tmp_path, "change.png", lambda path: path.write_bytes(data))

    assert picture(9, "one") != picture(9, "two")
    assert seen(picture(9, "one")) == seen(picture(9, "two"))
    assert seen(picture(9, "one")) != seen(picture(8, "one"))


def test_of_a_report_words_numbers_and_pictures_are_seen_but_not_the_speed_of_an_epoch() -> None:
    def page(
        loss: str = "1.5", seconds: str = "0.3", word: str = "Evaluation", grey: int = 9, software: str = "x"
    ) -> str:
        image = base64.b64encode(picture(grey, software)).decode()
        return (
            f'<h1>{word}</h1><img src="data:image/png;base64,{image}">\n'
            '<table><thead><tr><th scope="col">loss</th><th scope="col">seconds</th></tr></thead>\n'
            f"<tr><td>{loss}</td><td>{seconds}</td></tr></table>\n"
        )

    plain = page_lines(page(), PLAIN)
    assert plain[-1] == f"<tr><td>1.5</td><td>{MASK}</td></tr></table>"
    assert plain == page_lines(page(seconds="0.4", software="y"), PLAIN)
    for changed in (page(loss="1.6"), page(word="Measurement"), page(grey=8)):
        assert plain != page_lines(changed, PLAIN)


def test_events_are_read_and_their_speeds_masked(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    def seen(name: str, loss: float, seconds: float) -> Any:
        with SummaryWriter(str(tmp_path / name)) as writer:
            writer.add_scalar("loss", loss, 0)
            writer.add_scalar("seconds", seconds, 0)
        path = next((tmp_path / name).iterdir())
        return PLAIN.file(path, f"run/tensorboard/{path.name}")

    first = seen("a", 1.5, 0.1)
    assert first == {"loss": [[0, "1.5"]], "seconds": MASK}
    assert first == seen("b", 1.5, 0.2)
    assert first != seen("c", 1.25, 0.1)


class Model(nn.Module):
    """What an artefact's program offers."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, scale]))

    @torch.jit.export
    def embed(self, volumes: torch.Tensor) -> torch.Tensor:
        return volumes.flatten(1)[:, :2] * self.weight

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        return self.embed(volumes)


class Moved(Model):
    """The same from another path, as after a module was moved."""


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    np.savez(tmp_path / "golden.npz", scans_B=np.zeros((1, 1, 2, 2, 2), np.uint8))
    return tmp_path


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_programs_are_compared_by_what_they_answer_wherever_their_code_lay(golden: Path) -> None:
    def script(model: nn.Module) -> Any:
        return read(golden, "model.ts", lambda path: torch.jit.script(model.eval()).save(str(path)))

    assert script(Model(2.0)) == script(Moved(2.0))
    assert script(Model(2.0)) != script(Model(2.5))
    assert set(script(Model(2.0))["answers"]) == {"embed"}


def test_exported_programs_are_compared_by_what_they_answer(golden: Path) -> None:
    def program(model: nn.Module) -> Any:
        def write(path: Path) -> None:
            torch.export.save(torch.export.export(model.eval(), (torch.zeros(3, 1, 2, 2, 2),)), path)

        return read(golden, "embed.pt2", write)

    assert program(Model(2.0)) == program(Moved(2.0))
    assert program(Model(2.0)) != program(Model(2.5))


def test_two_files_of_one_normalised_name_are_kept_apart() -> None:
    assert unique_names([("a-1", "a"), ("b", "b"), ("a-2", "a")]) == {"a-1": "a", "b": "b", "a-2": "a (2)"}
