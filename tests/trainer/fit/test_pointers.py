"""A pointer is whole or damaged, never half believed; a state without a pointer is whole by its own checksums."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from preprocess.storage import Location
from trainer.fit.checkpoint import dump_state
from trainer.fit.pointers import LATEST, DamagedError, entries_of, read_pointer, state_names, whole_states

STATE = {"weights": torch.arange(2000.0), "position": {"step": 8}}
ENTRY = {"name": "checkpoints/step-00000008-0a1b2c3d.pt", "sha256": "ab" * 32, "step": 8}


def test_a_pointer_names_its_states_newest_first(tmp_path: Path) -> None:
    run = Location(tmp_path)
    assert read_pointer(run, LATEST) == {}
    assert entries_of({}) == []
    earlier = {**ENTRY, "step": 4}
    run.write(LATEST, json.dumps({**ENTRY, "earlier": [earlier]}).encode())
    assert entries_of(read_pointer(run, LATEST)) == [ENTRY, earlier]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (json.dumps(ENTRY).encode()[:40], "holds 40 bytes that are no pointer"),
        (b"\xff\xfe\x00\x01", "holds 4 bytes that are no pointer"),
        (b"[]", "no pointer"),
        (b"null", "no pointer"),
        (b"{}", "no pointer"),
        (b'{"name": 3, "sha256": "ab", "step": 1}', "no pointer"),
        (json.dumps({**ENTRY, "step": "8"}).encode(), "no pointer"),
        (json.dumps({**ENTRY, "earlier": [{"name": "x"}]}).encode(), "no pointer"),
        (json.dumps({**ENTRY, "earlier": 7}).encode(), "no pointer"),
    ],
)
def test_anything_else_is_damaged_and_named(tmp_path: Path, data: bytes, says: str) -> None:
    run = Location(tmp_path)
    run.write(LATEST, data)
    with pytest.raises(DamagedError, match=f"{LATEST} .*{says}.*damaged"):
        read_pointer(run, LATEST)


def test_every_flipped_bit_and_every_cut_of_a_state_is_noticed_without_a_digest(tmp_path: Path) -> None:
    run = Location(tmp_path)
    data = dump_state(STATE)
    name = ENTRY["name"]
    run.write(name, data)
    assert whole_states(run) == [{"name": name, "sha256": hashlib.sha256(data).hexdigest(), "step": 8}]
    start = data.index(STATE["weights"].numpy().tobytes())
    for place in range(start, start + 8000, 97):
        flipped = bytearray(data)
        flipped[place] ^= 1 << (place % 8)
        run.write(name, bytes(flipped))
        assert whole_states(run) == []
    for length in (0, 1, 100, len(data) // 2, len(data) - 1):
        run.write(name, data[:length])
        assert whole_states(run) == []


def test_states_are_listed_newest_first_and_nothing_else_is_one(tmp_path: Path) -> None:
    run = Location(tmp_path)
    for name in ("step-00000002-aaaaaaaa.pt", "step-00000010-bbbbbbbb.pt", "latest.json", "step-00000003.pt", "x.pt"):
        run.write(f"checkpoints/{name}", b"")
    assert state_names(run) == [
        (10, "checkpoints/step-00000010-bbbbbbbb.pt"),
        (2, "checkpoints/step-00000002-aaaaaaaa.pt"),
    ]
