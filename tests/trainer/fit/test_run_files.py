"""A run's files are read by schema: what is missing or of another type is one line, what is unknown is passed over."""

import json
from typing import Any

import pytest

from preprocess.errors import RunError
from trainer.data.splits import Split
from trainer.fit.run_files import HeadSummary, RunRecord, RunResult, parse_file
from trainer.objectives.base import ScoreStatistics

RECORD: dict[str, Any] = {
    "recipe": {"name": "demo", "seed": 3},
    "store_uri": "gs://bucket/store",
    "fingerprint": "0123456789abcdef",
    "index_sha256": "ab" * 32,
    "split": {"train": ["a", "b"], "validation": ["c"], "test": ["d"]},
    "git_revision": "0a1b2c3d4e5f",
}
RESULT: dict[str, Any] = {
    "finished": "2026-11-26T12:00:00Z",
    "steps": 24,
    "precision": "bfloat16",
    "volumes_per_s": 31.5,
    "last_epoch": {"epoch": 2.0, "loss": 0.25},
    "score_statistics": {"mean": 27.0, "sd": 2.5, "range": 9.0},
    "progression_head": {"temperature": 1.5, "l2": 0.01, "num_train": 40, "num_validation": 8},
    "model_sha256": "cd" * 32,
}


def file_of(content: object) -> bytes:
    return json.dumps(content, indent=2).encode()


def test_what_is_read_is_written_again_to_the_same_bytes() -> None:
    for schema, content in ((RunRecord, RECORD), (RunResult, RESULT)):
        read = parse_file(schema, file_of(content), where="run/file.json", remedy="train again")
        assert read.to_json() == file_of(content)


def test_the_parts_have_types() -> None:
    record = parse_file(RunRecord, file_of(RECORD), where="x", remedy="y")
    assert record.split == Split(train=("a", "b"), validation=("c",), test=("d",))
    result = parse_file(RunResult, file_of(RESULT), where="x", remedy="y")
    assert result.score_statistics == ScoreStatistics(mean=27.0, sd=2.5, range=9.0)
    assert result.progression_head == HeadSummary(temperature=1.5, l2=0.01, num_train=40, num_validation=8)


def test_files_of_earlier_and_of_later_versions_are_read() -> None:
    earlier = {key: value for key, value in RESULT.items() if key != "precision"}
    assert parse_file(RunResult, file_of(earlier), where="x", remedy="y").precision is None
    assert parse_file(RunResult, file_of({**RESULT, "colour": "blue"}), where="x", remedy="y").steps == 24
    assert "fusion_head" not in parse_file(RunResult, file_of(RESULT), where="x", remedy="y").to_dict()


def test_a_run_of_several_modalities_without_a_fusion_head_says_so_in_its_file() -> None:
    content = {**RESULT, "fusion_head": None}
    assert parse_file(RunResult, file_of(content), where="x", remedy="y").to_dict()["fusion_head"] is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "x: is empty, it is damaged; y"),
        (b'{"steps": 2', "x: holds 11 bytes that are not JSON, it is damaged; y"),
        (b"[1]", "x: no finished, steps, volumes_per_s, last_epoch, score_statistics, .* in it, it is damaged; y"),
        (file_of({**RESULT, "steps": "many"}), "x: steps: .*integer.*, it is damaged; y"),
        (file_of({**RESULT, "progression_head": {"l2": 1.0}}), r"x: progression_head\.temperature: .*required.*; y"),
    ],
)
def test_a_damaged_file_is_one_line_with_the_remedy(data: bytes, message: str) -> None:
    with pytest.raises(RunError, match=f"^{message}$") as raised:
        parse_file(RunResult, data, where="x", remedy="y")
    assert "\n" not in str(raised.value)
