"""An artefact that breaks its contract in any way is not served, and the reason names the file and the remedy."""

import io
import json

import fsspec
import numpy as np
import pytest

from app.errors import ProblemError
from app.registry import Registry, load_artefact
from preprocess.errors import ArtefactError, StorageError
from preprocess.manifest import GOLDEN_NAME, MANIFEST_NAME, PROGRAM_NAME, REFERENCES_NAME
from preprocess.recipe import VolumeRecipe
from tests.support.artefacts import RECIPE, WIDTH, rewrite_file, write_artefact


@pytest.fixture
def folder(tmp_path):
    return write_artefact(tmp_path / "tiny" / "1")


def test_a_whole_artefact_loads_from_a_folder_and_from_a_bucket(folder):
    bucket = fsspec.filesystem("memory")
    for file in folder.iterdir():
        bucket.pipe_file(f"/models/tiny/1/{file.name}", file.read_bytes())

    for uri in (str(folder), f"file://{folder}", "memory://models/tiny/1/"):
        model = load_artefact(uri)
        assert model.manifest.name == "tiny"
        assert model.engine.embed(np.zeros((1, 1, *RECIPE.grid), np.uint8)).shape == (1, WIDTH)


@pytest.mark.parametrize("file", [PROGRAM_NAME, GOLDEN_NAME, REFERENCES_NAME])
def test_one_flipped_bit_is_found_in_every_file(folder, file):
    data = bytearray((folder / file).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / file).write_bytes(data)

    with pytest.raises(ArtefactError, match=f"{file}: SHA-256 .* copy the artefact again"):
        load_artefact(str(folder))


def test_a_listed_file_that_the_service_does_not_run_is_checked_too(folder):
    rewrite_file(folder, "embed.pt2", b"program")
    load_artefact(str(folder))
    (folder / "embed.pt2").write_bytes(b"Program")

    with pytest.raises(ArtefactError, match=r"embed\.pt2: SHA-256"):
        load_artefact(str(folder))


@pytest.mark.parametrize("file", [PROGRAM_NAME, GOLDEN_NAME, REFERENCES_NAME])
def test_a_missing_file_is_named(folder, file):
    (folder / file).unlink()

    with pytest.raises(ArtefactError, match=f"{file}: missing"):
        load_artefact(str(folder))


def test_a_folder_without_manifest_is_not_an_artefact(tmp_path):
    with pytest.raises(ArtefactError, match=r"no manifest\.json"):
        load_artefact(str(tmp_path / "nothing"))


def test_another_fingerprint_is_refused_with_both_values(tmp_path):
    inputs = {"modality": "T1w", "volume_recipe": RECIPE.model_dump(mode="json"), "fingerprint": "0123456789abcdef"}
    folder = write_artefact(tmp_path / "old", changes={"inputs": inputs})

    with pytest.raises(ArtefactError, match=f"0123456789abcdef.*{RECIPE.fingerprint()}"):
        load_artefact(str(folder))


def test_two_channels_cannot_be_served(tmp_path):
    inputs = {"modality": "T1w", "volume_recipe": RECIPE.model_dump(mode="json"), "channels": 2}
    folder = write_artefact(tmp_path / "two", changes={"inputs": inputs | {"fingerprint": RECIPE.fingerprint()}})

    with pytest.raises(ArtefactError, match="2 channels"):
        load_artefact(str(folder))


def test_a_modality_that_is_no_volume_cannot_be_served(tmp_path):
    recipe = VolumeRecipe(kinds={"LUS": "clip"})
    inputs = {"modality": "LUS", "volume_recipe": recipe.model_dump(mode="json"), "fingerprint": recipe.fingerprint()}
    folder = write_artefact(tmp_path / "clips", changes={"inputs": inputs})

    with pytest.raises(ArtefactError, match="modality LUS is of kind clip, and answers are given for volumes only"):
        load_artefact(str(folder))


@pytest.mark.parametrize("shift", [1e-3, float("nan")])
def test_golden_values_that_come_out_differently_are_refused(tmp_path, shift):
    folder = write_artefact(tmp_path / "drifted", golden_shift=shift)

    with pytest.raises(ArtefactError, match="embed differs from the exported values"):
        load_artefact(str(folder))


def test_golden_volumes_of_another_grid_are_refused(folder):
    buffer = io.BytesIO()
    volume = np.zeros((1, 1, 8, 8, 8), np.uint8)
    arrays = {"embedding_BE": np.zeros((1, WIDTH)), "probabilities_B3": np.zeros((1, 3))}
    np.savez(buffer, earlier_BCDHW=volume, later_BCDHW=volume, **arrays)
    rewrite_file(folder, GOLDEN_NAME, buffer.getvalue())

    with pytest.raises(ArtefactError, match=r"golden\.npz: volumes \(1, 1, 8, 8, 8\)"):
        load_artefact(str(folder))


def test_a_program_that_is_not_torchscript_is_refused(folder):
    rewrite_file(folder, PROGRAM_NAME, b"not a program")

    with pytest.raises(ArtefactError, match=r"model\.ts: not a TorchScript file"):
        load_artefact(str(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"surprise": 1}, "surprise"),
        ({"embedding_width": WIDTH + 1}, "expected"),
        ({"files": {}}, "does not list golden.npz|does not list model.ts"),
    ],
)
def test_a_manifest_that_breaks_the_schema_is_refused_by_the_key(tmp_path, changes, message):
    folder = write_artefact(tmp_path / "bad", changes=changes)

    with pytest.raises(ArtefactError, match=message):
        load_artefact(str(folder))


def test_a_manifest_cannot_have_files_read_from_elsewhere(folder):
    manifest = json.loads((folder / MANIFEST_NAME).read_text())
    manifest["files"]["../other"] = "0" * 64
    (folder / MANIFEST_NAME).write_text(json.dumps(manifest))

    with pytest.raises(ArtefactError, match=r"'\.\./other' is not a file beside it"):
        load_artefact(str(folder))


def test_an_unknown_protocol_is_a_storage_error_in_one_line():
    with pytest.raises(StorageError, match="nosuch://x"):
        load_artefact("nosuch://x")


def test_one_failure_does_not_stop_the_next_artefact_and_hides_the_path(folder, tmp_path):
    registry = Registry([str(tmp_path / "gone" / "3"), "nosuch://host/m/1", f"{folder}/"])

    registry.load()

    statuses = registry.statuses
    assert [status.status for status in statuses] == ["failed", "failed", "ready"]
    assert statuses[0].reason is not None
    assert statuses[0].reason.startswith("gone/3: no manifest.json")
    assert all(str(tmp_path) not in (status.reason or "") for status in statuses)
    assert not registry.is_ready
    assert registry.choose("tiny", None) is registry.models[0]
    with pytest.raises(ProblemError, match="gone/3") as caught:
        registry.choose(None, None)
    assert caught.value.status == 503


def test_the_same_model_twice_is_refused(folder):
    registry = Registry([str(folder), str(folder)])

    registry.load()

    assert [status.status for status in registry.statuses] == ["ready", "failed"]
    assert "loaded already" in (registry.statuses[1].reason or "")


def test_a_stopped_registry_loads_nothing_more_and_is_not_ready(folder):
    registry = Registry([str(folder)])
    registry.stop()

    registry.load()

    assert registry.finished.is_set()
    assert registry.models == []
    assert not registry.is_ready
