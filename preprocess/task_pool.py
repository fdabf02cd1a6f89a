"""Runs tasks of a plan in this process, on worker processes, or on a cluster, as many at once as the memory is for."""

from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait

import torch
from threadpoolctl import threadpool_limits

from preprocess.cluster import Cluster
from preprocess.memory_plan import MemoryPlan, begin_next
from preprocess.plan import Claim
from preprocess.tasks import Work, run_task
from preprocess.workers import WorkerPool

Tasks = Mapping[int, Sequence[Claim]]
"""Claims of each task, by number."""


def run_here(work: Work, tasks: Tasks, memory: MemoryPlan) -> Generator[int, None, None]:
    """Do tasks on this machine.

    Args:
        work: what every task needs.
        tasks: what to do.
        memory: how many workers are begun, and what each task takes.

    Yields:
        Number of each task when it is done.

    Raises:
        StorageError: a bucket refuses, or a worker process was killed.
    """
    if memory.workers == 0:
        for number, claims in tasks.items():
            yield run_task(work, claims, number)
        return
    waiting = dict(tasks)
    with WorkerPool(memory.at_once, where=work.store_uri) as pool:
        running: dict[Future[int], int] = {}
        while waiting or running:
            while len(running) < memory.at_once:
                following = begin_next(waiting, running.values(), memory)
                if following is None:
                    break
                running[pool.submit(run_alone, work, waiting.pop(following), following)] = following
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                del running[future]
                yield future.result()


def run_on_cluster(work: Work, tasks: Tasks, cluster: Cluster) -> Generator[int, None, None]:
    """Do tasks on the machines of a cluster; arguments and errors as `run_here`."""
    for _, number in cluster.map(run_alone, [(work, claims, number) for number, claims in tasks.items()]):
        yield number


def run_alone(work: Work, claims: Sequence[Claim], number: int) -> int:
    """A task in a worker, which shares the cores with the others."""
    torch.set_num_threads(1)
    with threadpool_limits(limits=1, user_api="blas"):
        return run_task(work, claims, number)
