"""The server's process: the bucket on one port, its control on another, until SIGTERM or the end of standard input.

`python -m tests.support.slow_bucket.server` prints one line of JSON with both ports. A process of its own, so that its
CPU time is not the client's; ending with its standard input, so that it never outlives the one who started it.
"""

import asyncio
import dataclasses
import functools
import json
import random
import signal
import socket
import sys
import time
from collections import Counter
from typing import Any
from urllib.parse import unquote

from tests.support.slow_bucket.api import Api, Route, route_of
from tests.support.slow_bucket.connection import Connection, Line
from tests.support.slow_bucket.faults import Fault, FaultRules
from tests.support.slow_bucket.messages import Answer, Head, Refused, empty_answer, error_answer, json_answer
from tests.support.slow_bucket.objects import Buckets

HOST = "127.0.0.1"
_BACKLOG = 1024


@dataclasses.dataclass(slots=True)
class Counters:
    """What the bucket has been asked since the last reset; names as in `client.Stats`."""

    by_kind: Counter[str] = dataclasses.field(default_factory=Counter)
    by_method: Counter[str] = dataclasses.field(default_factory=Counter)
    by_status: Counter[int] = dataclasses.field(default_factory=Counter)
    by_fault: Counter[str] = dataclasses.field(default_factory=Counter)
    media_by_object: Counter[str] = dataclasses.field(default_factory=Counter)
    bytes_sent: int = 0
    media_bytes_sent: int = 0
    bytes_received: int = 0
    connections: int = 0
    most_concurrent: int = 0


class BucketServer:
    """Answers requests after the latency, at the line's rate, with the faults that are due.

    What is asked is carried out when it arrives, even if the client leaves before the answer.
    """

    def __init__(self) -> None:
        self.buckets = Buckets()
        self.counters = Counters()
        self.line = Line()
        self.latency_s = self.jitter_s = 0.0
        self.faults = FaultRules()
        self.num_concurrent = 0
        self.peers: set[Connection] = set()
        self._jitter = random.Random(0)
        # Bound and never listening: it keeps the port while an outage lasts.
        self._port_holder = _bound(0)
        self.port: int = self._port_holder.getsockname()[1]
        self._api = Api(self.buckets, f"http://{HOST}:{self.port}")
        self._listener: asyncio.Server | None = None
        self._outage: asyncio.TimerHandle | None = None
        self._coming_back: asyncio.Task[None] | None = None

    def seed(self, seed: int) -> None:
        """Start the jitter's draws anew."""
        self._jitter = random.Random(seed)

    async def listen(self) -> None:
        """Accept connections."""
        if self._listener is None:
            loop = asyncio.get_running_loop()
            listener = _bound(self.port)
            self._listener = await loop.create_server(self._connection, sock=listener, backlog=_BACKLOG)

    async def go_away(self, seconds: float) -> None:
        """Reset all connections and refuse new ones for so many seconds; 0 ends an outage."""
        loop = asyncio.get_running_loop()
        if self._outage is not None:
            self._outage.cancel()
            self._outage = None
        if seconds == 0.0:
            await self.listen()
            return
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for connection in list(self.peers):
            connection.abort()
        self._outage = loop.call_later(seconds, self._come_back)

    def _come_back(self) -> None:
        self._coming_back = asyncio.get_running_loop().create_task(self.listen())

    def _connection(self) -> Connection:
        self.counters.connections += 1
        return Connection(self.line, self._receive, self.peers, self._sent)

    def _sent(self, num_bytes: int) -> None:
        self.counters.bytes_sent += num_bytes

    def _ended(self) -> None:
        self.num_concurrent -= 1

    def _receive(self, connection: Connection, head: Head, body: bytes) -> None:
        route = route_of(head.method, head.target)
        counters = self.counters
        counters.by_kind[route.kind] += 1
        counters.by_method[head.method] += 1
        counters.bytes_received += len(body)
        if route.kind == "media":
            counters.media_by_object[route.name] += 1
        self.num_concurrent += 1
        counters.most_concurrent = max(counters.most_concurrent, self.num_concurrent)
        connection.on_end = self._ended
        fault = self.faults.choose(route.kind, route.name)
        if fault is not None and fault.kind == "status":
            answer = error_answer(fault.status, f"a fault asked for: {fault.status}")
        else:
            answer = self._api.carry_out(route, head, body)
        delay_s = self.latency_s + (self._jitter.uniform(0.0, self.jitter_s) if self.jitter_s else 0.0)
        if body and self.line.bytes_per_s is not None:
            now = time.monotonic()  # the clock of asyncio's loops
            delay_s += self.line.reserve(len(body), now) - now
        if fault is not None:
            counters.by_fault[fault.kind] += 1
            delay_s += fault.seconds if fault.kind == "delay" else 0.0
        deliver = functools.partial(self._deliver, connection, route, answer, fault)
        if delay_s:
            connection.after(delay_s, deliver)
        else:
            deliver()

    def _deliver(self, connection: Connection, route: Route, answer: Answer, fault: Fault | None) -> None:
        self.counters.by_status[answer.status] += 1
        packet: bytes | memoryview = answer.whole()
        num_body = len(answer.body)
        # Half of the body, or of the head where there is no body to halve.
        half = len(packet) - num_body + num_body // 2 if num_body >= 2 else len(packet) // 2
        kind = fault.kind if fault is not None else None
        if kind in {"reset", "truncate"}:
            sent, then = packet[:half], connection.reset if kind == "reset" else connection.close
            num_body //= 2
        elif kind == "stall":
            assert fault is not None
            view = memoryview(packet)
            rest = functools.partial(connection.send, view[half:], connection.finish)
            sent, then = view[:half], functools.partial(connection.after, fault.seconds, rest)
        else:
            if kind == "flip" and num_body:
                packet = self._flipped(route.name, packet, num_body)
            sent, then = packet, connection.finish
        if route.kind == "media":
            self.counters.media_bytes_sent += num_body
        connection.send(sent, then)

    def _flipped(self, name: str, packet: bytes | memoryview, num_body: int) -> bytes:
        changed = bytearray(packet)
        bit = self.faults.bit(name, num_body * 8)
        changed[len(changed) - num_body + bit // 8] ^= 1 << bit % 8
        return bytes(changed)


class ControlServer:
    """GET /stats, PUT /control, POST /reset, PUT /objects/BUCKET/NAME, PUT /buckets/BUCKET; no latency, no faults."""

    def __init__(self, server: BucketServer) -> None:
        self._server = server
        self._tasks: set[asyncio.Task[None]] = set()

    def receive(self, connection: Connection, head: Head, body: bytes) -> None:
        """Answer one request."""
        verb, _, rest = head.target.lstrip("/").partition("/")
        answer = empty_answer(204)
        try:
            if verb == "stats":
                answer = json_answer(self._stats())
            elif verb == "reset":
                self._server.counters = Counters()
            elif verb == "objects":
                bucket, _, name = rest.partition("/")
                self._server.buckets.put(unquote(bucket), unquote(name), body)
            elif verb == "buckets":
                self._server.buckets.create(unquote(rest))
            else:
                self._control(json.loads(body))
        except Refused as refused:
            answer = error_answer(refused.status, refused.message)
        if verb == "control":
            # An outage takes effect before the answer that says so.
            task = asyncio.get_running_loop().create_task(self._go_away(connection, answer, json.loads(body)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            connection.send(answer.whole(), connection.finish)

    async def _go_away(self, connection: Connection, answer: Answer, content: dict[str, Any]) -> None:
        if "outage_s" in content:
            await self._server.go_away(float(content["outage_s"]))
        connection.send(answer.whole(), connection.finish)

    def _control(self, content: dict[str, Any]) -> None:
        server = self._server
        server.latency_s = content.get("latency_s", server.latency_s)
        server.jitter_s = content.get("jitter_s", server.jitter_s)
        if "bandwidth_bytes_per_s" in content:
            server.line.bytes_per_s = content["bandwidth_bytes_per_s"]
        if "faults" in content:
            server.faults = FaultRules([Fault.from_json(rule) for rule in content["faults"]], content["seed"])
            server.seed(content["seed"])

    def _stats(self) -> dict[str, Any]:
        counters = self._server.counters
        return {
            **{field.name: getattr(counters, field.name) for field in dataclasses.fields(counters)},
            "concurrent": self._server.num_concurrent,
            "open_connections": len(self._server.peers),
            "cpu_s": time.process_time(),
        }


def _bound(port: int) -> socket.socket:
    """A socket bound to the port; several may be, as long as only one listens."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind((HOST, port))
    return bound


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = BucketServer()
    await server.listen()
    control = ControlServer(server)
    control_line, control_peers = Line(), set[Connection]()
    controlling = await loop.create_server(lambda: Connection(control_line, control.receive, control_peers), HOST, 0)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)  # nothing is ever written to it: readable means closed
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    ports = {"port": server.port, "control_port": controlling.sockets[0].getsockname()[1]}
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(_serve())
