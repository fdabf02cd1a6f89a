"""An artefact that breaks its contract in any way is not served, and the reason names the file and the remedy."""

import json
import sys
import threading

import fsspec
import numpy as np
import pytest

from app.errors import ProblemError
from app.registry import Registry, load_artefact
from preprocess.errors import ArtefactError, StorageError
from preprocess.manifest import GOLDEN_NAME, MANIFEST_NAME, PROGRAM_NAME, REFERENCES_NAME
from preprocess.recipe import VolumeRecipe
from tests.support.artefacts import PICTURES, RECIPE, WIDTH, rewrite_file, write_artefact, write_severity_artefact


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


@pytest.mark.parametrize("recipe", [RECIPE, PICTURES])
def test_an_artefact_of_severity_loads_whatever_its_modality_is(tmp_path, recipe):
    model = load_artefact(str(write_severity_artefact(tmp_path / "far", recipe=recipe)))

    scans = np.full((2, *recipe.row_shape(recipe.modalities[0])), 90, np.uint8)
    assert model.severity is not None
    np.testing.assert_allclose(
        model.severity.distances(model.engine.embed(scans)), model.engine.severity(scans), atol=1e-6
    )


@pytest.mark.parametrize("file", [PROGRAM_NAME, GOLDEN_NAME, REFERENCES_NAME])
def test_one_flipped_bit_is_found_in_an_artefact_of_severity_too(tmp_path, file):
    folder = write_severity_artefact(tmp_path / "far")
    data = bytearray((folder / file).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / file).write_bytes(data)

    with pytest.raises(ArtefactError, match=f"{file}: SHA-256 .* copy the artefact again"):
        load_artefact(str(folder))


def test_a_severity_of_pictures_is_not_served_and_embed_is_named(tmp_path):
    registry = Registry([str(write_severity_artefact(tmp_path / "far" / "1", recipe=PICTURES))])

    registry.load()

    reason = registry.statuses[0].reason or ""
    assert reason.startswith("far/1: modality fundus is of kind image, and answers are given for volumes only")
    assert reason.endswith("use interscan embed on a store")
    assert "\n" not in reason


def test_a_model_of_severity_refuses_to_compare_and_one_of_progression_does_not(folder, tmp_path):
    load_artefact(str(folder)).require_progression("tiny", "predict")
    severe = load_artefact(str(write_severity_artefact(tmp_path / "far")))

    with pytest.raises(ArtefactError, match=r"^far: an artefact of kind severity, and predict compares two scans"):
        severe.require_progression("far", "predict")


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


def test_an_artefact_that_is_not_there_yet_is_loaded_once_it_is(tmp_path):
    registry = Registry([str(tmp_path / "model")], first_pause_s=0.01)
    loading = threading.Thread(target=registry.keep_loading)
    loading.start()
    assert registry.finished.wait(30)
    assert registry.statuses[0].status == "failed"
    assert "no manifest.json" in (registry.statuses[0].reason or "")

    write_artefact(tmp_path / "beside")
    (tmp_path / "beside").rename(tmp_path / "model")

    loading.join(30)
    assert not loading.is_alive()
    assert registry.is_ready
    assert registry.statuses[0].reason is None


def test_a_failure_that_stays_is_logged_once(tmp_path, caplog):
    registry = Registry([str(tmp_path / "gone")])

    with caplog.at_level("ERROR"):
        registry.load()
        registry.load()

    logged = {id(record) for record in caplog.records if "not ready" in record.getMessage()}
    assert len(logged) == 1


def test_a_registry_that_waits_for_its_next_try_stops_at_once(tmp_path):
    registry = Registry([str(tmp_path / "gone")], first_pause_s=1000.0)
    loading = threading.Thread(target=registry.keep_loading)
    loading.start()
    assert registry.finished.wait(30)

    registry.stop()

    loading.join(30)
    assert not loading.is_alive()


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ({"registration": "subject"}, 'registration = "subject", which needs all scans of a person at once'),
        ({"brain_mask": "given"}, 'brain_mask = "given", and requests carry no masks'),
        ({"bias_field": "n4"}, "needs SimpleITK, of the extra 'imaging'"),
    ],
)
def test_a_model_whose_scans_cannot_be_prepared_alone_is_not_served(steps, says, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    recipe = RECIPE.model_copy(update=steps)
    inputs = {"modality": "T1w", "volume_recipe": recipe.model_dump(mode="json"), "fingerprint": recipe.fingerprint()}
    folder = write_artefact(tmp_path / "prepared", changes={"inputs": inputs})
    registry = Registry([str(folder)])
    registry.load()
    (status,) = registry.statuses
    assert status.status == "failed"
    assert says in (status.reason or "")
    assert load_artefact(str(folder)).manifest.inputs.fingerprint == recipe.fingerprint()
