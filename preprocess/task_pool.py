"""Runs tasks of a plan in this process, on worker processes, or on a cluster, as many at once as the memory is for.

Where a worker dies, the scans that ran are done again one at a time, so that the one which ends its worker is known and
no neighbour of it is blamed: it becomes a finding, and the run goes on. A person's scans that are registered to each
other are done, and blamed, as one.
"""

import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import torch
from threadpoolctl import threadpool_limits

from preprocess.cluster import LOST, TRIES, Cluster
from preprocess.console import LOG
from preprocess.errors import StorageError
from preprocess.index import IndexRecord
from preprocess.memory_plan import MemoryPlan, begin_next
from preprocess.plan import Claim
from preprocess.tasks import Work, ended_worker, in_order, run_task, store_scans, together, write_records
from preprocess.workers import SIGNAL_PAUSE_S, WorkerPool

Tasks = Mapping[int, Sequence[Claim]]
"""Claims of each task, by number."""
_TRIES_ALONE = TRIES - 1
"""Alone, after the death that it may have shared with others."""
_MOST_IN_A_ROW = 16
"""Scans that end their workers with none between them that does not: then it is the machine, or what is installed."""


@dataclass(slots=True)
class _Blame:
    """Counts scans that ended their workers since one was done.

    Attributes:
        where: what messages name.
        in_a_row: the count.
    """

    where: str
    in_a_row: int = 0

    def clear(self) -> None:
        self.in_a_row = 0

    def put_on(self, group: Sequence[Claim], times: int) -> list[IndexRecord]:
        """The records of a scan that ended its worker so often, or of a person's, where they are read together.

        Raises:
            StorageError: too many did, one after the other.
        """
        self.in_a_row += 1
        if self.in_a_row >= _MOST_IN_A_ROW:
            raise StorageError(
                f"{self.where}: {self.in_a_row} scans one after the other ended their workers, each read alone, so it "
                "is not the scans; check memory and installation, and run the same command again"
            )
        for claim in group:
            LOG.warning("%s: ended its worker %d times; left out, the run goes on", claim.scan.name, times)
        return [ended_worker(claim, times) for claim in group]


def run_here(work: Work, tasks: Tasks, memory: MemoryPlan) -> Generator[int, None, None]:
    """Do tasks on this machine.

    Args:
        work: what every task needs.
        tasks: what to do.
        memory: how many workers are begun, and what each task takes.

    Yields:
        Number of each task when it is done.

    Raises:
        StorageError: a bucket refuses, or workers die whatever they read.
    """
    if memory.workers == 0:
        for number, claims in tasks.items():
            yield run_task(work, claims, number)
        return
    waiting, blame = dict(tasks), _Blame(work.store_uri)
    while waiting:
        lost = yield from _together(work, waiting, memory)
        if lost:
            num_scans = sum(len(claims) for claims in lost.values())
            LOG.warning("a worker was killed; the %d scans that may have done it are read one at a time", num_scans)
            yield from _one_by_one(work, lost, blame)


def _together(
    work: Work, waiting: dict[int, Sequence[Claim]], memory: MemoryPlan
) -> Generator[int, None, dict[int, Sequence[Claim]]]:
    """Do tasks until all are done or a worker dies; those that ran then are returned, and the rest still wait."""
    running: dict[Future[int], int] = {}
    ran: dict[int, Sequence[Claim]] = {}
    is_broken = False
    with WorkerPool(memory.at_once, where=work.store_uri) as pool:
        while (waiting or running) and not is_broken:
            while len(running) < memory.at_once:
                following = begin_next(waiting, running.values(), memory)
                if following is None:
                    break
                try:
                    running[pool.submit(run_alone, work, waiting[following], following)] = following
                except BrokenProcessPool:
                    is_broken = True
                    break
                ran[following] = waiting.pop(following)
            # A death ends all that run: each is asked what became of it.
            done = wait(running, return_when=FIRST_COMPLETED).done if not is_broken else wait(running).done
            while done:
                future = done.pop()
                number = running.pop(future)
                try:
                    future.result()
                except BrokenProcessPool:
                    is_broken, done = True, done | wait(running).done
                    continue
                del ran[number]
                yield number
    if is_broken:
        time.sleep(SIGNAL_PAUSE_S)
    return ran


def _one_by_one(work: Work, tasks: Tasks, blame: _Blame) -> Generator[int, None, None]:
    """Do tasks with one worker, scan by scan; one that dies again and again has found its scan."""
    left = [(number, group) for number, claims in tasks.items() for group in together(work.recipe, claims)]
    records: dict[int, list[IndexRecord]] = {number: [] for number in tasks}
    at = num_deaths = 0
    while at < len(left):
        with WorkerPool(1, where=work.store_uri) as pool:
            # A worker that dies before it has read anything blames no scan, but ends the run.
            pool.submit(store_alone, work, ()).result()
            is_alive = True
            while is_alive and at < len(left):
                number, group = left[at]
                try:
                    stored = pool.submit(store_alone, work, group).result()
                    blame.clear()
                except BrokenProcessPool:
                    time.sleep(SIGNAL_PAUSE_S)
                    is_alive, num_deaths = False, num_deaths + 1
                    if num_deaths < _TRIES_ALONE:
                        continue
                    stored = blame.put_on(group, TRIES)
                at, num_deaths = at + 1, 0
                records[number] += stored
                if len(records[number]) == len(tasks[number]):
                    write_records(work, in_order(records.pop(number)), number)
                    yield number


def run_on_cluster(work: Work, tasks: Tasks, cluster: Cluster) -> Generator[int, None, None]:
    """Do tasks on the machines of a cluster; arguments and errors as `run_here`."""
    numbers, lost, blame = list(tasks), list[int](), _Blame(work.store_uri)
    arguments = [(work, tasks[number], number) for number in numbers]
    for place, number in cluster.map(run_alone, arguments, may_lose=True):
        if number is LOST:
            lost.append(numbers[place])
        else:
            yield number
    # When all others are done, and one scan at a time on the whole cluster: nobody else's memory can end it.
    for number in lost:
        records = []
        for group in together(work.recipe, tasks[number]):
            ((_, stored),) = cluster.map(store_alone, [(work, group)], may_lose=True)
            if stored is LOST:
                records += blame.put_on(group, TRIES)
            else:
                blame.clear()
                records += stored
        write_records(work, in_order(records), number)
        yield number


def run_alone(work: Work, claims: Sequence[Claim], number: int) -> int:
    """A task in a worker, which shares the cores with the others."""
    write_records(work, store_alone(work, claims), number)
    return number


def store_alone(work: Work, claims: Sequence[Claim]) -> list[IndexRecord]:
    """Rows in a worker, which shares the cores with the others."""
    torch.set_num_threads(1)
    with threadpool_limits(limits=1, user_api="blas"):
        return store_scans(work, claims)
