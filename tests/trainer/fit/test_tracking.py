"""The history is published whole each epoch, and TensorBoard reads the same numbers."""

import json
import tempfile
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from preprocess.errors import RunError, StorageError
from preprocess.storage import Location
from trainer.fit.tracking import LOG_NAME, Tracking, read_history

EPOCHS = [{"epoch": float(epoch), "loss": 2.5 - epoch, "retrieval_at_1": 0.25 * epoch} for epoch in range(4)]


def scalars(run: Location) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(run.key("tensorboard"))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_one_line_an_epoch_and_the_same_numbers_in_tensorboard(tmp_path: Path) -> None:
    run = Location(tmp_path)
    with Tracking(run, first_epoch=0) as tracking:
        for count in range(1, 4):
            tracking.record(EPOCHS[:count])
            lines = run.read(LOG_NAME).decode().splitlines()
            assert [json.loads(line) for line in lines] == EPOCHS[:count]
    assert read_history(run) == EPOCHS[:3]
    assert scalars(run) == {
        "loss": [(0, 2.5), (1, 1.5), (2, 0.5)],
        "retrieval_at_1": [(0, 0.0), (1, 0.25), (2, 0.5)],
    }


def test_a_resumed_run_has_no_gap_and_no_repeat(tmp_path: Path) -> None:
    run = Location(tmp_path)
    with Tracking(run, first_epoch=0) as tracking:
        tracking.record(EPOCHS[:1])
        # Epoch 1 of a process that was lost before its checkpoint: the resumed one trains it again.
        tracking.record([EPOCHS[0], {**EPOCHS[1], "loss": 99.0}])
    with Tracking(run, first_epoch=1) as tracking:
        tracking.record(EPOCHS[:2])
        tracking.record(EPOCHS[:3])
    assert read_history(run) == EPOCHS[:3]
    assert scalars(run)["loss"] == [(0, 2.5), (1, 1.5), (2, 0.5)]


def test_an_unpublished_history_is_empty(tmp_path: Path) -> None:
    assert read_history(Location(tmp_path / "none")) == []


def test_no_folder_is_left_behind_even_where_the_bucket_refuses_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run = Location(f"memory://{tmp_path.name}")

    def refuse(name: str, data: bytes) -> None:
        raise StorageError(f"{name}: access refused")

    with pytest.raises(StorageError), Tracking(run, first_epoch=0):
        monkeypatch.setattr(run, "write", refuse)
    assert list(tmp_path.iterdir()) == []


def test_events_without_news_are_not_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Location(tmp_path)
    sent: list[str] = []
    write = run.write
    monkeypatch.setattr(run, "write", lambda name, data: (sent.append(name.partition("/")[0]), write(name, data)))
    with Tracking(run, first_epoch=0) as tracking:
        tracking.record(EPOCHS[:1])
        tracking.record(EPOCHS[:2])
    assert sent == [LOG_NAME, "tensorboard"] * 2


@pytest.mark.parametrize("damage", [b'{"epoch": 1.0, "lo', b"\xff\xfe", b"[1]", b'{"loss": "text"}', b'{"loss": null}'])
def test_a_damaged_line_is_named_with_its_number(tmp_path: Path, damage: bytes) -> None:
    run = Location(tmp_path)
    run.write(LOG_NAME, b'{"epoch": 0.0, "loss": 1.0}\n' + damage + b"\n")
    with pytest.raises(RunError, match=r"log\.jsonl: line 2 of 2 is no JSON object of numbers.*delete log\.jsonl"):
        read_history(run)
