"""Ray as `preprocess.cluster` uses it, in this process: tasks run when they are asked for, and workers may be lost."""

import pickle
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


class RayTaskError(Exception):
    """What a task raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class WorkerCrashedError(Exception):
    """The worker is gone."""


class MadeUpRay:
    """The functions of the module `ray`.

    Attributes:
        nodes_there: addresses of the machines.
        blind: addresses that see no files.
        crashes: how often tasks end their worker before one is done; beyond the retries it is told.
        deadly: whether a call, given as (version, function, arguments), ends its worker each time.
        log: what was called.
    """

    def __init__(self) -> None:
        self.nodes_there = ["10.0.0.1", "10.0.0.2"]
        self.blind: set[str] = set()
        self.crashes = 0
        self.deadly: Callable[[tuple[Any, ...]], bool] = lambda _: False
        self.log: list[str] = []
        self.exceptions = SimpleNamespace(
            RayTaskError=RayTaskError,
            WorkerCrashedError=WorkerCrashedError,
            NodeDiedError=WorkerCrashedError,
            OutOfMemoryError=WorkerCrashedError,
        )
        self._tasks: dict[int, Callable[[], Any]] = {}

    def init(self, *, address: str, **_: object) -> None:
        if address == "nowhere:1":
            raise ConnectionError("no head there")
        self.log.append(f"init {address}")

    def shutdown(self) -> None:
        self.log.append("shutdown")

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def nodes(self) -> list[dict[str, object]]:
        return [{"NodeManagerAddress": one, "NodeID": one, "Alive": True} for one in self.nodes_there]

    def remote(self, *, max_retries: int = 0, scheduling_strategy: Any = None, **_: object) -> Callable[[Any], Any]:
        node = getattr(scheduling_strategy, "node_id", "")

        def wrap(function: Callable[..., Any]) -> Any:
            def ask(*arguments: object) -> int:
                # As over the network: what cannot be pickled cannot be asked.
                there = pickle.loads(pickle.dumps((function, arguments)))
                number = len(self._tasks)

                def run() -> Any:
                    if self.deadly(there[1]):
                        self.log += ["crash"] * (max_retries + 1)
                        raise WorkerCrashedError
                    for _try in range(max_retries + 1):
                        if not self.crashes:
                            break
                        self.crashes -= 1
                    else:
                        raise WorkerCrashedError
                    try:
                        return False if node in self.blind else there[0](*there[1])
                    except Exception as error:  # as a worker does
                        raise RayTaskError(error) from error

                self._tasks[number] = run
                return number

            return SimpleNamespace(remote=ask)

        return wrap

    def wait(self, tasks: list[int], *, num_returns: int) -> tuple[list[int], list[int]]:
        ready = tasks[-num_returns:]  # the last first, so that nobody counts on the order
        return ready, [one for one in tasks if one not in ready]

    def get(self, task: int) -> Any:
        return self._tasks[task]()

    def cancel(self, task: int, *, force: bool) -> None:
        assert force
        self.log.append(f"cancel {task}")


def put_in_place(monkeypatch: pytest.MonkeyPatch) -> MadeUpRay:
    """Let `import ray` find it."""
    made = MadeUpRay()
    strategies = ModuleType("ray.util.scheduling_strategies")
    strategies.NodeAffinitySchedulingStrategy = SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", made)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "ray.util", ModuleType("ray.util"))
    monkeypatch.setitem(sys.modules, "ray.util.scheduling_strategies", strategies)
    return made
