"""The benchmark of preprocessing: what is counted and told; the times themselves decide nothing."""

from pathlib import Path

import pytest

from benchmarks import preprocess
from benchmarks.preprocess import measure_workers, summarise, table, take_turns, ways
from benchmarks.preprocess_ways import MONAI, NILEARN, OURS, PEERS, write_heads


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_heads(tmp_path_factory.mktemp("heads"), 2, coarser=4)


def test_every_way_takes_its_turn_on_every_file_after_a_warm_up(paths: list[Path]) -> None:
    seen: dict[str, list[Path]] = {OURS: [], MONAI: []}
    taken_ms = take_turns({name: read.append for name, read in seen.items()}, paths, rounds=2)
    assert seen == {name: [paths[0], *paths, *paths] for name in seen}
    assert {name: len(found) for name, found in taken_ms.items()} == {OURS: 4, MONAI: 4}


def test_what_is_not_installed_is_skipped_with_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> preprocess.Way:
        raise ImportError("No module named 'torchio'")

    monkeypatch.setitem(PEERS, "TorchIO", missing)
    found, skipped = ways()
    assert {OURS, MONAI, NILEARN} <= set(found)
    assert skipped == {"TorchIO": "not installed (No module named 'torchio')"}


def test_the_ratio_is_the_median_of_the_turns() -> None:
    result = summarise({OURS: [10.0, 30.0, 40.0], MONAI: [40.0, 60.0, 400.0]}, {"TorchIO": "not installed"})
    assert (result["ms_per_scan"], result["monai_ms_per_scan"], result["ratio"]) == (30.0, 60.0, 0.25)
    assert result["ways"][MONAI] == {"ms_per_scan": 60.0, "least": 40.0, "most": 400.0}
    workers = {"workers": 2, "speedup": 1.9, "one": {"ms_per_scan": 30.0}, "several": {"ms_per_scan": 31.0}}
    shown = table(result | {"workers": workers})
    assert "| MONAI | 60 | 40 | 400 | 0.50 |" in shown
    assert "| TorchIO | skipped: not installed |" in shown
    assert shown.endswith("2 workers: 1.90x of one (31 and 30 ms of CPU a scan)")


@pytest.mark.slow
def test_workers_prepare_the_scans(paths: list[Path]) -> None:
    found = measure_workers(paths, 2, 4)
    assert found["speedup"] > 0
    assert found["several"]["scans_per_s"] > 0
