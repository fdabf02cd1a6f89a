"""Several processes that train one model on one plan, as torchrun starts them; one process is the group of one.

Every process embeds its part of each global batch; the embeddings of all are gathered, and each process computes the
same loss on the same whole batch. So a gradient with respect to a process's own scans is already that of the global
loss: gradients of the encoder are added up, gradients of the heads, equal everywhere, are averaged.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from preprocess.errors import RunError, UsageError

_TIMEOUT = timedelta(hours=2)
"""Longest wait for the others: while the first process validates or fits the head, they wait. A process that ends is
noticed at once, by its connection."""


@dataclass(frozen=True, slots=True)
class Group:
    """The processes that train together.

    Attributes:
        rank: number of this process, from 0.
        world_size: how many there are.
        device: where tensors lie that are exchanged.
    """

    rank: int = 0
    world_size: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - immutable

    @property
    def is_first(self) -> bool:
        """Whether this process writes the run."""
        return self.rank == 0

    def shares(self, num_subjects: int) -> list[int]:
        """Subjects of a batch that each process takes, in order; they differ by one at most."""
        return [len(part) for part in np.array_split(np.arange(num_subjects), self.world_size)]

    def share(self, num_subjects: int) -> slice:
        """This process's slice of a batch of so many subjects."""
        shares = self.shares(num_subjects)
        start = sum(shares[: self.rank])
        return slice(start, start + shares[self.rank])

    def gather(self, rows_NE: torch.Tensor, num_rows: Sequence[int]) -> torch.Tensor:
        """The rows of all processes in their order, with the gradient of this process's own.

        Args:
            rows_NE: this process's rows.
            num_rows: rows of each process.
        """
        if self.world_size == 1:
            return rows_NE
        gathered: torch.Tensor = _Gather.apply(rows_NE, tuple(num_rows), self)  # type: ignore[no-untyped-call]
        return gathered

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, with a gradient that is summed the same way."""
        if self.world_size == 1:
            return tensor
        total: torch.Tensor = _Sum.apply(tensor)  # type: ignore[no-untyped-call]
        return total

    def add_gradients(self, partial: Sequence[nn.Parameter], whole: Sequence[nn.Parameter]) -> None:
        """Make all gradients those of the global batch.

        Args:
            partial: parameters whose gradients here are of this process's scans only.
            whole: parameters whose gradients are those of the whole batch already; their mean keeps them alike on
                machines that round differently.
        """
        if self.world_size == 1:
            return
        scaled = [(parameter.grad, 1.0) for parameter in partial]
        scaled += [(parameter.grad, 1 / self.world_size) for parameter in whole]
        present = [(gradient, factor) for gradient, factor in scaled if gradient is not None]
        # One exchange for all: a message of 5 MB costs hardly more than one of 1 kB.
        flat = torch.cat([(gradient * factor).reshape(-1) for gradient, factor in present])
        with _peers():
            dist.all_reduce(flat)
        start = 0
        for gradient, _ in present:
            gradient.copy_(flat[start : start + gradient.numel()].view(gradient.shape))
            start += gradient.numel()

    def any(self, flag: bool) -> bool:
        """Whether the flag is true in any process; all processes get the same answer."""
        return self.total(float(flag)) > 0

    def total(self, value: float) -> float:
        """The sum of a number over all processes."""
        if self.world_size == 1:
            return value
        numbers = torch.tensor([value], dtype=torch.float64, device=self.device)
        with _peers():
            dist.all_reduce(numbers)
        return float(numbers)

    def from_first(self, data: bytes | None) -> bytes:
        """The first process's bytes, in all of them.

        Args:
            data: what the first process sends; ignored in the others.
        """
        if self.world_size == 1:
            return data or b""
        sent = np.frombuffer(data or b"", dtype=np.uint8).copy()
        size = torch.tensor([len(sent)], dtype=torch.int64, device=self.device)
        with _peers():
            dist.broadcast(size, src=0)
            content = torch.empty(int(size), dtype=torch.uint8, device=self.device)
            if self.is_first:
                content.copy_(torch.from_numpy(sent))
            if len(content):
                dist.broadcast(content, src=0)
        return content.cpu().numpy().tobytes()

    def require_enough(self, num_subjects: int) -> None:
        """Refuse more processes than the smallest batch has subjects.

        Raises:
            UsageError: with both numbers.
        """
        if self.world_size > num_subjects:
            raise UsageError(
                f"{self.world_size} processes share batches of {num_subjects} subjects, and one would have none; "
                f"start {num_subjects} at most, or raise data.batch_size"
            )


ALONE = Group()
"""One process, without torchrun."""


def world_of(environment: dict[str, str]) -> tuple[int, int, int] | None:
    """Rank, world size and local rank that torchrun gave; None where it started nothing.

    Raises:
        UsageError: a part of them is missing or no number.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    found = {name: environment[name] for name in names if name in environment}
    if "WORLD_SIZE" not in found or found["WORLD_SIZE"] == "1":
        return None
    wrong = [name for name in names if not found.get(name, "").isdecimal()]
    if wrong:
        raise UsageError(
            f"WORLD_SIZE is {found['WORLD_SIZE']} and {', '.join(wrong)} is not a number; start with torchrun, "
            "or unset WORLD_SIZE"
        )
    rank, world_size, local_rank = (int(found[name]) for name in names)
    return rank, world_size, local_rank


def is_first_process() -> bool:
    """Whether this process, alone or under torchrun, is the one that prints and writes."""
    world = world_of(dict(os.environ))
    return world is None or world[0] == 0


@contextmanager
def joined(device: torch.device) -> Iterator[Group]:
    """The group that torchrun started, joined while the block runs: nccl on CUDA, gloo on the CPU.

    Args:
        device: the type that training runs on; of several GPUs each process takes its own.

    Raises:
        UsageError: torchrun's environment is incomplete, or there are fewer GPUs than processes.
        RunError: the other processes do not answer.
    """
    world = world_of(dict(os.environ))
    if world is None:
        yield ALONE
        return
    rank, world_size, local_rank = world
    if device.type == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise UsageError(
                f"process {local_rank} of this machine needs a GPU of its own and there are "
                f"{torch.cuda.device_count()}; lower --nproc-per-node, or set device = 'cpu'"
            )
        torch.cuda.set_device(local_rank)
    with _peers():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield Group(rank, world_size, device)
    finally:
        dist.destroy_process_group()


@contextmanager
def _peers() -> Iterator[None]:
    """One line for an exchange that failed: torch's own speaks of sockets."""
    try:
        yield
    except RuntimeError as error:  # torch.distributed's errors are RuntimeErrors
        reason = " ".join(str(error).split())[:160]
        raise RunError(
            f"another process of this training ended or cannot be reached ({reason}); its own message says why; "
            "run the same command again to go on"
        ) from error


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows_NE: torch.Tensor, num_rows: tuple[int, ...], group: Group) -> torch.Tensor:
        ctx.own = slice(sum(num_rows[: group.rank]), sum(num_rows[: group.rank + 1]))
        # All send as many rows as the longest part has: gloo exchanges equal shapes only.
        padded = rows_NE.new_zeros(max(num_rows), *rows_NE.shape[1:])
        padded[: len(rows_NE)] = rows_NE
        parts = [torch.empty_like(padded) for _ in num_rows]
        with _peers():
            dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, num_rows, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        # Every process has the whole gradient of the one global loss, so nothing is exchanged.
        return gradients[0][ctx.own].contiguous(), None, None


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        total = tensor.clone()
        with _peers():
            dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].clone().contiguous()
        with _peers():
            dist.all_reduce(total)
        return total
