"""What is left for volumes beside training, counted by hand."""

import pytest
import torch

from trainer.data.device_memory import DeviceMemory

GB = 10**9


@pytest.mark.parametrize(
    ("measured", "largest", "room_gb"),
    [
        (16, 16, 30 + 8 - 1.5 * 6),
        (16, 8, 30 + 8 - 1.5 * 6),  # a smaller batch to come frees nothing
        (16, 32, 30 + 8 - 1.5 * 6 * 2),
        (4, 16, 30 + 8 - 1.5 * 6 * 4),
        (1, 16, 0),
    ],
)
def test_room_is_what_is_free_and_held_less_the_reserve(measured: int, largest: int, room_gb: float) -> None:
    memory = DeviceMemory(free_bytes=30 * GB, held_bytes=8 * GB, peak_bytes=6 * GB)
    assert memory.room_bytes(measured=measured, largest=largest) == max(0, room_gb) * GB


def test_a_device_is_queried_for_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5, 80))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 3)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 2)
    assert DeviceMemory.of(torch.device("cuda")) == DeviceMemory(free_bytes=5, held_bytes=3, peak_bytes=2)
