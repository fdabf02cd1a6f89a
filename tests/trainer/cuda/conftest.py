"""The device of a test: the CPU in every run, and CUDA under `make test-cuda`, where a machine has it."""

from collections.abc import Iterator

import pytest
import torch

SKIPPED = "no CUDA device here; run make test-cuda on a machine with one"


@pytest.fixture(autouse=True)
def _cuda_is_there(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("cuda") is not None and not torch.cuda.is_available():
        pytest.skip(SKIPPED)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each in turn, so that what runs on the GPU one day runs on the CPU every day."""
    return torch.device(request.param)


@pytest.fixture
def deterministic(device: torch.device) -> Iterator[None]:
    """Operations that give the same bits every time; one that cannot is an error that names it."""
    if device.type != "cuda":
        yield
        return
    was, benchmarked = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    yield
    torch.use_deterministic_algorithms(was)
    torch.backends.cudnn.benchmark = benchmarked
