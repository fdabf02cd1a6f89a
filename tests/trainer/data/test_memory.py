"""A stream takes a part of the memory that is there."""

from pathlib import Path

from trainer.data.memory import STREAM_FRACTION, default_budget_bytes


def test_a_stream_takes_a_part_of_what_this_machine_offers() -> None:
    total = next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line)
    assert 0 < default_budget_bytes() <= total * 1024 * STREAM_FRACTION
