"""A pointer is whole or damaged, never half believed; a state without a pointer is whole by its own checksums."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from preprocess.errors import RunError
from preprocess.storage import Location
from trainer.fit.checkpoint import Checkpoints, dump_state
from trainer.fit.pointers import LATEST, DamagedError, entries_of, read_pointer, state_names, whole_states

STATE = {"weights": torch.arange(64.0), "position": {"step": 8}}
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


def test_a_state_with_a_flipped_bit_is_noticed_without_a_digest_or_is_the_same_state(tmp_path: Path) -> None:
    run = Location(tmp_path)
    data = dump_state(STATE)
    name = ENTRY["name"]
    run.write(name, data)
    assert whole_states(run) == [{"name": name, "sha256": hashlib.sha256(data).hexdigest(), "step": 8}]
    start = data.index(STATE["weights"].numpy().tobytes())
    end = start + 4 * len(STATE["weights"])
    passed = 0
    for index in range(len(data)):
        flipped = bytearray(data)
        flipped[index] ^= 1 << (index % 8)
        run.write(name, bytes(flipped))
        try:
            state = Checkpoints(run, keep=1).load_latest()
        except RunError:
            continue
        if state is None:
            continue
        passed += 1
        assert not start <= index < end
        assert torch.equal(state["weights"], STATE["weights"])
        assert state["position"] == STATE["position"]
    # Bits of the archive's own tables and padding, which no value hangs on.
    assert passed < len(data) / 2


def test_a_state_that_is_cut_short_is_noticed_without_a_digest(tmp_path: Path) -> None:
    run = Location(tmp_path)
    data = dump_state(STATE)
    for length in (0, 1, 100, len(data) // 2, len(data) - 1):
        run.write(ENTRY["name"], data[:length])
        assert whole_states(run) == []


def test_states_are_listed_newest_first_and_nothing_else_is_one(tmp_path: Path) -> None:
    run = Location(tmp_path)
    for name in ("step-00000002-aaaaaaaa.pt", "step-00000010-bbbbbbbb.pt", "latest.json", "step-00000003.pt", "x.pt"):
        run.write(f"checkpoints/{name}", b"")
    assert state_names(run) == [
        (10, "checkpoints/step-00000010-bbbbbbbb.pt"),
        (2, "checkpoints/step-00000002-aaaaaaaa.pt"),
    ]
