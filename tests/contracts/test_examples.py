"""Every documented example of Python is run as it stands, and none imports our insides."""

import ast
import json
import math
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import interscan
from app.cli import predict
from preprocess.store import Store
from tests.support.artefacts import decision_part, write_artefact
from tests.support.cohorts import write_store
from tests.support.heads import head_nifti
from tests.support.service import listening

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "docs" / "library.md"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
MAY_BE_IMPORTED = {"interscan", "interscan.objectives", "torch", "numpy"}
"""Beside the standard library. Of interscan no other module: those may move."""


def blocks_of(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def one_liners_of(page: str) -> list[str]:
    """The programs of `python -c "..."` lines."""
    return [shlex.split(line)[2] for line in re.findall(r"^python -c .*", page, re.MULTILINE)]


def imported_by(program: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    return {name for name in names if name.split(".")[0] not in sys.stdlib_module_names}


BLOCKS = blocks_of(LIBRARY.read_text(encoding="utf-8"))
ALL_BLOCKS = [(page, block) for page in PAGES for block in blocks_of(page.read_text(encoding="utf-8"))]


def block_with(*words: str) -> str:
    """The one block that holds all the words."""
    found = [block for block in BLOCKS if all(word in block for word in words)]
    assert len(found) == 1, (words, found)
    return found[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples name: a store, a model and two scans, beside each other."""
    folder = tmp_path_factory.mktemp("examples")
    write_store(folder / "store")
    write_artefact(folder / "model")
    write_artefact(folder / "demo" / "artefact")
    write_artefact(folder / "line", decision=decision_part(), judges=True)
    (folder / "earlier.nii.gz").write_bytes(head_nifti(15, seed=1))
    (folder / "later.nii.gz").write_bytes(head_nifti(22, seed=2))
    return folder


@pytest.fixture(autouse=True)
def _beside_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[tuple[str, str]]:
    """What the examples of the client ask: address and key of a running service."""
    key = "a-key-of-more-than-sixteen-characters"
    with listening(folder / "line", api_keys=(key,)) as (url, _, _):
        yield url, key


@pytest.fixture
def _asked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the service where an example asks one."""
    if "SERVICE_URL" in request.node.callspec.params["block"]:
        url, key = request.getfixturevalue("service")
        monkeypatch.setenv("SERVICE_URL", url)
        monkeypatch.setenv("SERVICE_KEY", key)


def run_block(block: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(block, str(LIBRARY), "exec"), names)
    return names


@pytest.mark.usefixtures("_asked")
@pytest.mark.parametrize(("page", "block"), ALL_BLOCKS, ids=lambda part: getattr(part, "name", ""))
def test_each_block_runs_as_it_stands(page: Path, block: str) -> None:
    run_block(block)


def test_the_first_block_names_the_whole_public_interface() -> None:
    assert {name for name in run_block(BLOCKS[0]) if not name.startswith("__")} == set(interscan.__all__)


def test_the_training_loop_ends_with_the_weights_of_a_loop_that_reads_each_row_by_itself() -> None:
    torch.manual_seed(3)
    ran = run_block(block_with("VolumeStream(store", "optimiser.step()"))

    torch.manual_seed(3)
    store = Store.open("store")
    scores = {record.row: record.outcomes["mmse"] for record in store.records if record.outcomes and record.present}
    model = torch.nn.Sequential(torch.nn.AdaptiveAvgPool3d(4), torch.nn.Flatten(), torch.nn.Linear(64, 1))
    optimiser = torch.optim.AdamW(model.parameters())
    for rows in ran["batches"]:
        volumes = torch.from_numpy(np.stack([store.read(int(row), "T1w") for row in rows])).float() / 255
        wanted = torch.tensor([scores[int(row)] for row in rows])
        loss = (model(volumes)[:, 0] - wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert len(ran["batches"]) == 3 * 4
    assert sorted(np.concatenate(ran["batches"][:4]).tolist()) == sorted(scores)
    torch.testing.assert_close(ran["model"][2].weight, model[2].weight)


def test_one_row_is_what_its_record_says(capsys: pytest.CaptureFixture[str]) -> None:
    run_block(block_with("voxels_CDHW.shape"))

    assert capsys.readouterr().out == f"(1, 16, 16, 16) uint8 {Store.open('store').manifest.fingerprint}\n"


def test_the_objective_is_its_formula() -> None:
    ran = run_block(block_with("objectives.info_nce("))

    first, second = (
        (vectors / vectors.norm(dim=1, keepdim=True)).tolist()
        for vectors in (ran["earlier_BE"].detach().double(), ran["later_BE"].double())
    )
    logits = [[sum(a * b for a, b in zip(x, y, strict=True)) / 0.1 for y in second] for x in first]

    def mean_loss(table: list[list[float]]) -> float:
        return sum(math.log(sum(map(math.exp, row))) - row[i] for i, row in enumerate(table)) / len(table)

    expected = (mean_loss(logits) + mean_loss([list(column) for column in zip(*logits, strict=True)])) / 2
    assert ran["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert ran["earlier_BE"].grad.abs().sum() > 0


def test_an_answer_for_two_files_is_that_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    answer = run_block(block_with("predict_pair(load_artefact"))["answer"]
    capsys.readouterr()
    predict("model", "earlier.nii.gz", "later.nii.gz", gap_days=365, json=True)

    assert answer.model_dump(mode="json") == json.loads(capsys.readouterr().out)


def test_an_answer_for_visits_is_that_of_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    line = run_block(block_with("predict_trajectory(load_artefact"))["line"]
    capsys.readouterr()
    predict("line", "earlier.nii.gz", "later.nii.gz", days="0,365", age=71, json=True)

    assert line.model_dump(mode="json") == json.loads(capsys.readouterr().out)


def test_the_service_gives_the_answers_of_the_command_line(
    service: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SERVICE_URL", service[0])
    monkeypatch.setenv("SERVICE_KEY", service[1])
    answer = run_block(block_with("Client(os.environ"))["answer"]
    assert capsys.readouterr().out == f"ready ['tiny']\n{answer.decision} {answer.reasons}\n8\n"
    predict("line", "earlier.nii.gz", "later.nii.gz", gap_days=365, json=True)

    assert answer.model_dump(mode="json") == json.loads(capsys.readouterr().out)


def test_an_answer_for_two_arrays_is_about_these_rows_of_the_store(capsys: pytest.CaptureFixture[str]) -> None:
    ran = run_block(block_with("require_fingerprint"))

    printed = json.loads(capsys.readouterr().out)
    digests = {record.row: record.content_sha256 for record in ran["store"].records}
    assert [printed[which]["sha256"] for which in ("earlier", "later")] == [digests[0], digests[1]]
    volumes = [ran["store"].read(row, "T1w")[None] for row in (0, 1)]
    expected = ran["artefact"].engine.compare(*volumes)[0]
    assert list(printed["probabilities"].values()) == pytest.approx(expected.tolist())


def test_embeddings_of_several_volumes_are_those_of_each() -> None:
    ran = run_block(block_with("embeddings_BE"))

    singles = [ran["artefact"].engine.embed(volume[None])[0] for volume in ran["volumes_BCDHW"]]
    np.testing.assert_allclose(ran["embeddings_BE"], np.stack(singles), rtol=1e-6)


def test_the_error_is_one_line_with_its_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    run_block(block_with("except InterscanError"))

    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "no manifest.json" in said
    assert "interscan export" in said


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_documented_example_imports_anything_of_ours_but_the_public_interface(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for program in (*blocks_of(text), *one_liners_of(text)):
        assert imported_by(program) <= MAY_BE_IMPORTED, program


def test_an_import_of_our_insides_would_be_seen() -> None:
    page = '```python\nfrom app.registry import load_artefact\nimport os\n```\npython -c "import trainer.data.stream"\n'
    found = [imported_by(program) for program in (*blocks_of(page), *one_liners_of(page))]
    assert found == [{"app.registry"}, {"trainer.data.stream"}]
