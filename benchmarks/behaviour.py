"""Shows that a refactor changed no behaviour: runs every road on a checkout, and compares what two checkouts gave.

    python -m benchmarks.behaviour --checkout BEFORE --out before.json
    python -m benchmarks.behaviour --checkout AFTER --out after.json
    python -m benchmarks.behaviour --compare before.json after.json     # exit code 1, and a list, where they differ

Only the command line and the formats on disk are used, so the same script runs on both, whatever moved between them.
Both must run on one machine, in the same work folder, since tables hold the paths of scans. All commands share one
core and one thread; everything takes 6 minutes on a core of 2020's servers. What is masked stands, with the
reasons, in `VOLATILE` and `TEXTS` of benchmarks/behaviour_files.py.
"""

import argparse
import json
import os
import platform
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from benchmarks.behaviour_files import Normaliser, unique_names
from benchmarks.behaviour_roads import ROADS, Road, Step
from benchmarks.behaviour_service import converse
from benchmarks.behaviour_start import Forked, Program, Starter

ROOT = Path(__file__).resolve().parents[1]
_PATIENCE_S = 600.0
_LONGEST = 160
"""Characters of a value that a difference shows."""
Record = dict[str, Any]
Seen = dict[str, tuple[int, int, int]]


def environment(checkout: Path) -> dict[str, str]:
    """What the program sees: nothing of the shell that could change its output, and the checkout's own modules."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ}
    return kept | {
        "PYTHONPATH": str(checkout),
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "agg",
        "COLUMNS": "100",
        "NO_COLOR": "1",
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
    }


def require_own_modules(checkout: Path, work: Path) -> None:
    """Refuse a checkout whose program would not be what runs, as where another copy is found first.

    Raises:
        SystemExit: another copy of the program was imported.
    """
    command = [sys.executable, "-c", "import interscan; print(interscan.__file__ or list(interscan.__path__)[0])"]
    found = subprocess.run(command, cwd=work, env=environment(checkout), capture_output=True, text=True, check=True)
    if checkout not in Path(found.stdout.strip()).resolve().parents:
        raise SystemExit(f"{checkout}: the program that runs is {found.stdout.strip()}; give the folder of a checkout")


class Runner:
    """Runs steps in a work folder and notes what each printed and wrote.

    Args:
        checkout: whose program runs.
        work: empty folder.
        starter: of all steps that are not cold.

    Attributes:
        used_s: processor time of the last step.
    """

    def __init__(self, checkout: Path, work: Path, starter: Starter) -> None:
        self._work = work
        self._environment = environment(checkout)
        self._starter = starter
        self._normaliser = Normaliser({str(work): "WORK", str(checkout): "CHECKOUT"})
        self._seen: Seen = {}
        self.used_s = 0.0

    def run(self, one: Step) -> Record:
        """One step: exit code, what was printed, files written and files gone."""
        if one.prepare is not None:
            one.prepare(self._work)
        self._seen = self._look()
        with tempfile.TemporaryDirectory(prefix="interscan-behaviour-log-") as folder:
            out, log = Path(folder) / "out", Path(folder) / "log"
            log.touch()
            began = _processor_s()
            program = self._start(one, out, log)
            answers = self._attend(one, program, log)
            record = {"code": program.returncode, **self._printed(one, out.read_text(), log.read_text()), **answers}
            self.used_s = program.used_s if isinstance(program, Forked) else _processor_s() - began
        files, gone = self._written()
        if one.interrupt_at:
            return record  # how far it came is a matter of chance
        if one.resumes:
            files = {name: file for name, file in files.items() if "tfevents" not in name}
            gone = []
        return record | {"files": files, "gone": gone}

    def _start(self, one: Step, out: Path, log: Path) -> Program:
        if not one.is_cold:
            return self._starter.start(one.arguments, out, log)
        with out.open("w") as stdout, log.open("w") as stderr:
            command = [sys.executable, "-m", "interscan", *one.arguments]
            return subprocess.Popen(
                command, cwd=self._work, env=self._environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr
            )

    def _attend(self, one: Step, program: Program, log: Path) -> Record:
        """Wait for the end, or bring it about."""
        try:
            if one.serves:
                return {"answers": converse(program, log, self._work, self._normaliser)}
            if one.interrupt_at:
                while program.poll() is None and not (self._work / one.interrupt_at).exists():
                    time.sleep(0.01)
                program.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):  # what hangs is killed, and its exit code says so
                program.wait(_PATIENCE_S)
        finally:
            if program.poll() is None:
                program.kill()
                program.wait()
        return {}

    def _printed(self, one: Step, out: str, err: str) -> Record:
        lines = self._normaliser.text(err).splitlines()
        if one.interrupt_at:
            return {
                "stdout": self._normaliser.printed(out),
                "stderr": [re.sub(r"\d+", "#", line) for line in lines[-1:]],
            }
        if one.serves:
            return {"stdout": self._normaliser.printed(out), "stderr": lines[:1]}  # then requests, in any order
        if one.resumes:
            lines = [re.sub(r"\d+", "#", line) for line in lines if "going on" in line]
        if one.is_measured:
            out = re.sub(r"\d[\d.,]*", "#", out)
            lines = [re.sub(r"\d[\d.,]*", "#", line) for line in lines]
        return {"stdout": self._normaliser.printed(out), "stderr": lines}

    def _look(self) -> Seen:
        found = {}
        for path in sorted(self._work.rglob("*")):
            if path.is_file():
                stat = path.stat()
                found[path.relative_to(self._work).as_posix()] = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
        return found

    def _written(self) -> tuple[dict[str, Any], list[str]]:
        before, self._seen = self._seen, self._look()
        written = sorted(
            (name for name, stat in self._seen.items() if before.get(name) != stat),
            key=lambda name: self._seen[name][1],
        )
        names = unique_names((name, self._normaliser.text(name)) for name in written)
        files = {names[name]: self._normaliser.file(self._work / name, name) for name in sorted(written)}
        return files, sorted(self._normaliser.text(name) for name in before.keys() - self._seen.keys())


def _processor_s() -> float:
    """Processor time of all processes waited for so far, which another load on the machine lengthens little."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def with_needs(names: Sequence[str]) -> list[Road]:
    """The named roads and those they need, in the order in which they run; all where none is named.

    Raises:
        SystemExit: there is no such road.
    """
    known = {road.name: road for road in ROADS}
    for name in names:
        if name not in known:
            raise SystemExit(f"{name}: no such road; there are {', '.join(known)}")
    chosen = set(names or known)
    for road in reversed(ROADS):  # each needs only earlier ones
        chosen |= set(road.needs) if road.name in chosen else set()
    return [road for road in ROADS if road.name in chosen]


def observe(checkout: Path, work: Path, roads: Sequence[Road]) -> Record:
    """Run roads on a checkout.

    Args:
        checkout: root of a source tree.
        work: folder that is made for this and removed afterwards.
        roads: in an order in which all that one needs comes before it.

    Returns:
        What a file given to `--compare` holds.

    Raises:
        SystemExit: the work folder is there already, or the program is not the checkout's.
    """
    try:
        work.mkdir(parents=True)
    except FileExistsError:
        raise SystemExit(
            f"{work}: is there already; another run is under way, or one was cut off: remove it, or give --work"
        ) from None
    torch.set_num_threads(1)
    steps, used_s = {}, {}
    try:
        require_own_modules(checkout, work)
        with Starter(work, environment(checkout)) as starter:
            runner = Runner(checkout, work, starter)
            for name, one in ((f"{road.name}/{one.name}", one) for road in roads for one in road.steps):
                steps[name] = runner.run(one)
                used_s[name] = round(runner.used_s, 1)
                sys.stderr.write(f"{used_s[name]:6.1f} s  exit {steps[name]['code']:<3}  {name}\n")
    finally:
        shutil.rmtree(work)
    machine = {"python": platform.python_version(), "torch": torch.__version__, "work": str(work)}
    return {"machine": machine, "steps": steps, "used_s": used_s}


def differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """One line for each value that differs, is gone or is new, with the way to it.

    Args:
        before: nested value of plain JSON.
        after: what should be equal to it, in the order of keys too.
        path: the keys that lead to both, within the whole.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            inner = f"{path} > {key}" if path else key
            if key not in after:
                yield f"{inner}: gone; was {_short(before[key])}"
            elif key not in before:
                yield f"{inner}: new; is {_short(after[key])}"
            else:
                yield from differences(before[key], after[key], inner)
        if before.keys() == after.keys() and list(before) != list(after):
            yield f"{path}: the same keys in another order, {_short(list(after))}"
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from differences(one, other, f"{path} > {number}")
    elif isinstance(before, list) and isinstance(after, list):
        yield from _changed_entries(before, after, path)
    elif before != after or type(before) is not type(after):
        yield f"{path}: {_short(before)} -> {_short(after)}"


def _changed_entries(before: list[Any], after: list[Any], path: str) -> Iterator[str]:
    left, right = ([json.dumps(one) for one in entries] for entries in (before, after))
    yield f"{path}: {len(before)} entries -> {len(after)}"
    yield from (f"{path}: gone; was {_short(json.loads(one))}" for one in left if one not in right)
    yield from (f"{path}: new; is {_short(json.loads(one))}" for one in right if one not in left)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def compare(before: Record, after: Record, left_out: Sequence[str] = ()) -> list[str]:
    """All differences between two records, one line each.

    Args:
        before: what `observe` gave.
        after: the same of another checkout.
        left_out: patterns of steps, ROAD/STEP, that are meant to differ.
    """

    def kept(record: Record) -> Record:
        steps = record["steps"].items()
        return {name: one for name, one in steps if not any(Path(name).match(pattern) for pattern in left_out)}

    return [
        *differences(before["machine"], after["machine"], "machine"),
        *differences(kept(before), kept(after)),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Observe or compare; 1 when there is a difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, default=ROOT, help="source tree whose program runs (default: this)")
    parser.add_argument("--out", type=Path, help="JSON file for what was observed")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "interscan-behaviour",
                        help="folder to run in, the same for both sides (default: %(default)s)")  # fmt: skip
    parser.add_argument("--road", action="append", default=[], help="only this road and what it needs; repeatable")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("BEFORE", "AFTER"))
    parser.add_argument("--leave-out", action="append", default=[], metavar="ROAD/STEP",
                        help="steps that are meant to differ, for example 'help/synth'; repeatable")  # fmt: skip
    given = parser.parse_args(arguments)
    if given.compare:
        before, after = (json.loads(path.read_text(encoding="utf-8")) for path in given.compare)
        found = compare(before, after, given.leave_out)
        left_out = f"; left out: {', '.join(given.leave_out)}" if given.leave_out else ""
        print("\n".join([*found, f"{len(found)} differences{left_out}"]))
        return 1 if found else 0
    if given.out is None:
        parser.error("give --out FILE, or --compare BEFORE AFTER")
    record = observe(given.checkout.resolve(), given.work.resolve(), with_needs(given.road))
    given.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    seconds = sum(record["used_s"].values())
    print(f"{len(record['steps'])} commands, {seconds:.0f} s of a processor: {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
