"""Real processes over gloo or nccl, started as torchrun starts them, each running one function of a test."""

import os
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp

from trainer.fit.distributed import Group, joined


def free_port() -> int:
    """A port of this machine that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def in_processes(
    num: int,
    work: Callable[..., Any],
    folder: Path,
    *arguments: Any,
    device: torch.device = torch.device("cpu"),  # noqa: B008 - immutable
) -> list[Any]:
    """What `work(group, *arguments)` answers in each of `num` processes, in the order of their ranks.

    Args:
        num: processes.
        work: a function of a module, so that it can be sent to them.
        folder: an empty one for the answers.
        arguments: sent along.
        device: of the group: nccl on CUDA, where each process has a GPU of its own, gloo on the CPU.
    """
    folder.mkdir(parents=True)
    mp.spawn(_enter, args=(num, free_port(), work, folder, arguments, device), nprocs=num)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(num)]


def _enter(
    rank: int,
    num: int,
    port: int,
    work: Callable[..., Any],
    folder: Path,
    arguments: tuple[Any, ...],
    device: torch.device,
) -> None:
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(num), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    try:
        with joined(device) as group:
            answer = work(group, *arguments)
    except BaseException:
        traceback.print_exc()
        raise
    torch.save(answer, folder / f"{rank}.pt")


def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """The same work in this process."""
    return work(Group(), *arguments)


def changed_since(path: Path, moment: float) -> bool:
    """Whether a file was written after a moment."""
    try:
        return path.stat().st_mtime >= moment
    except FileNotFoundError:
        return False
