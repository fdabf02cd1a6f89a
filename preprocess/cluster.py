"""Tasks on a Ray cluster: the same functions as on this machine, and what a lost worker was doing is done again.

Only the functions' names, their arguments and results travel; every worker has interscan installed and reads and writes
storage itself. Nothing is reported to anybody: Ray's usage statistics are off.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from preprocess.errors import InterscanError, StorageError, UsageError
from preprocess.schema import WORK_FOLDER
from preprocess.storage import Location

TRIES = 3
"""A task that ends its worker so often would end the next one too."""
LOST = object()
"""Stands for the result of a task that ended its worker again and again."""
_AHEAD = 4
"""Tasks given out for each core, so that none waits for the next one."""
_ADVICE = "give `auto` on a machine of the cluster, HOST:PORT of its head, or ray://HOST:10001"


class _LostError(StorageError):
    """A task ended its worker again and again."""


class Cluster:
    """A connection to a running Ray cluster, for a `with` block.

        with Cluster("auto", where="gs://bucket/store") as cluster:
            for number, result in cluster.map(work, [(one,), (two,)]):
                ...

    Args:
        address: `auto`, `HOST:PORT` of the head, or `ray://HOST:PORT` of its client server.
        where: what messages name, usually the location that is written.

    Raises:
        UsageError: Ray is not installed, or no cluster answers.
    """

    def __init__(self, address: str, *, where: str) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            message = "--cluster needs ray, of the extra 'cluster'; pip install 'interscan[cluster]'"
            raise UsageError(message) from error
        self._ray: Any = ray
        self._address = address
        self._where = where
        self._pending: set[Any] = set()

    def __enter__(self) -> Self:
        """Connect."""
        try:
            self._ray.init(address=self._address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UsageError(f"--cluster {self._address}: no cluster answers ({reason}); {_ADVICE}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give up what was not done, and disconnect."""
        for one in self._pending:
            self._ray.cancel(one, force=True)
        self._pending.clear()
        self._ray.shutdown()

    @property
    def num_cores(self) -> int:
        """Cores of all machines of the cluster."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def require_reach(self, *sources: Location, written: Location | None = None) -> None:
        """Ask every machine whether it sees what this one sees.

        A path of this machine may be that of a disk which all have mounted, or of nobody else's; a worker that does not
        see a source would leave out each of its scans.

        Args:
            sources: folders that are read.
            written: folder that is written; a probe in it, for the others to find, is deleted again.

        Raises:
            UsageError: a machine does not see one of them.
        """
        probe = f"{WORK_FOLDER}/probe-{uuid4().hex}"
        wanted = [(source, "") for source in sources]
        if written is not None:
            written.write(probe, b"seen")
            wanted.append((written, probe))
        try:
            for address, node in self._nodes():
                for location, name in wanted:
                    if not self._ask(node, location, name):
                        raise UsageError(
                            f"{location.uri}: {address} of the cluster does not see it; give a URL that all machines "
                            "reach, or a path on a disk that all of them have mounted"
                        )
        finally:
            if written is not None:
                written.delete(probe)

    def map(
        self, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], *, may_lose: bool = False
    ) -> Iterator[tuple[int, Any]]:
        """Call a function for each of the arguments, somewhere; results come as they are ready.

        Args:
            function: a function of a module that every worker has.
            arguments: those of each call, picklable.
            may_lose: whether a task that ends its worker again and again has the result LOST, and ends nothing else.

        Yields:
            Index of the arguments, and the result.

        Raises:
            InterscanError: what the function raised.
            StorageError: a task ended its worker again and again.
            UsageError: a worker has another version of interscan, or none.
        """
        call = self._ray.remote(num_cpus=1, max_retries=TRIES - 1)(_call)
        waiting = iter(enumerate(arguments))
        numbers: dict[Any, int] = {}
        most = _AHEAD * self.num_cores
        while True:
            while len(numbers) < most and (following := next(waiting, None)) is not None:
                task = call.remote(version("interscan"), function, following[1])
                numbers[task] = following[0]
                self._pending.add(task)
            if not numbers:
                return
            (ready, *_), _ = self._ray.wait(list(numbers), num_returns=1)
            number = numbers.pop(ready)
            try:
                result = self._result(ready)
            except _LostError:
                if not may_lose:
                    raise
                result = LOST
            self._pending.discard(ready)
            yield number, result

    def _result(self, task: Any) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(task)
        except errors.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            if isinstance(cause, ModuleNotFoundError):
                message = f"--cluster {self._address}: a worker has no {cause.name}; install interscan on every machine"
                raise UsageError(message) from error
            raise cause from (None if isinstance(cause, InterscanError) else error)
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError) as error:
            raise _LostError(
                f"{self._where}: a task ended its worker {TRIES} times (out of memory?); run the same command again "
                "with fewer tasks at once on each machine, or with --workers 1 to see which scan it is"
            ) from error

    def _nodes(self) -> list[tuple[str, str]]:
        """Address and id of each machine that is there."""
        alive = [node for node in self._ray.nodes() if node["Alive"]]
        return [(str(node["NodeManagerAddress"]), str(node["NodeID"])) for node in alive]

    def _ask(self, node: str, location: Location, name: str) -> bool:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
        ask = self._ray.remote(num_cpus=0, scheduling_strategy=there)(_call)
        return bool(self._result(ask.remote(version("interscan"), _sees, (location.uri, location.options, name))))


def _call(wanted: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """What a worker does.

    Raises:
        UsageError: it is of another version than the one who asks.
    """
    mine = version("interscan")
    if mine != wanted:
        raise UsageError(
            f"a worker of the cluster has interscan {mine}, this is {wanted}; install one version on all machines"
        )
    return function(*arguments)


def _sees(uri: str, options: dict[str, Any], name: str) -> bool:
    location = Location(uri, options)
    return location.exists(name) if name else location.exists() or bool(location.names())


@contextmanager
def connected(address: str | None, *, where: str) -> Iterator[Cluster | None]:
    """A connection for a `with` block; None where no cluster is asked for. Arguments and errors as in `Cluster`."""
    if address is None:
        yield None
        return
    with Cluster(address, where=where) as cluster:
        yield cluster
