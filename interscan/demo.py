"""The whole road on synthetic data: cohort, store, training, evaluation, artefact, service, and two answers over HTTP.

Nothing here is particular to the demo but its sizes: each step is the verb of the same name. The two pairs are chosen
by the generator's truth among the held-out subjects, before any answer is seen.
"""

import csv
import json as jsonlib
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from preprocess.console import EXIT_DONE, LOG, JsonFlag, emit, progress
from preprocess.errors import UsageError

if TYPE_CHECKING:
    from trainer.fit.run import Run
    from trainer.fit.run_files import RunResult

_SPACING_MM = 2.0
"""Voxel edge of the demo's scans; `interscan synth` writes 1 mm by default. The store's grid is 2 mm either way."""
_READY_SECONDS = 60.0
_END_SECONDS = 1.0
"""The service has nothing to finish: each of its requests was answered."""
_SERVER = (
    "import sys; from preprocess.workers import end_with; end_with(int(sys.argv[1])); "
    "from interscan.cli import main; main(sys.argv[2:])"
)
"""`interscan serve`, which ends with the demo, however that ends."""
_STEPS = 7


def demo(
    out: Path = Path("demo"),
    *,
    store: str | None = None,
    subjects: int = 110,
    seed: int = 0,
    json: JsonFlag = False,
) -> int:
    """Run the whole road on synthetic data: some minutes on two CPU cores.

    Run it again with the same folder, and it goes on where it stopped.

    Args:
        out: folder for everything that is written.
        store: where the store goes, for example gs://bucket/demo; OUT/store when not given.
        subjects: number of people in the cohort, three visits each.
        seed: seed of the cohort and of training.
        json: print the result as one JSON object on stdout.
    """
    from preprocess.index import subject_of

    started = time.perf_counter()
    out = out.resolve()
    cohort = out / "cohort"
    with _step(1, f"synthetic cohort of {subjects} subjects, {_SPACING_MM:g} mm BIDS NIfTI"):
        _write_cohort(cohort, subjects, seed)
    # The trainer will hold out the same subjects; better to know now than after the training.
    choose_pairs(cohort / "truth.tsv", _held_out(cohort / "truth.tsv", seed))
    with _step(2, "scans to store"):
        store_uri = _preprocess(cohort, store or str(out / "store"))
    with _step(3, "training from the store"):
        run, trained = _train(store_uri, out / "run", seed)
    with _step(4, "evaluation on held-out subjects"):
        evaluated = _evaluate(run)
    with _step(5, "export, with parity proven"):
        artefact = _export(run, out / "artefact")
    pairs = choose_pairs(cohort / "truth.tsv", frozenset(map(subject_of, run.split.of("test"))))
    with _step(6, "service"), _serving(artefact, allow_prefix=cohort) as address:
        _log_step(7, "two held-out pairs, over HTTP")
        answers = {name: _ask(address, cohort, pair) for name, pair in pairs.items()}
    result = {
        "volumes_per_s": trained.volumes_per_s,
        "change_error_over_chance": trained.last_epoch["pair_change_over_chance"],
        "macro_f1_chance": evaluated["metrics"]["macro_f1"]["chance"],
        **evaluated["headline"],
        "verdict": evaluated["verdict"],
        "declining_pair": answers["declining"],
        "stable_pair": answers["stable"],
        "store": store_uri,
        "artefact": str(artefact),
        "report": evaluated["report"],
        "seconds": time.perf_counter() - started,
    }
    emit(result, _summary(result), as_json=json)
    return EXIT_DONE


@dataclass(frozen=True, slots=True)
class KnownPair:
    """Two visits of one subject, and what the generator knows of them.

    Attributes:
        subject_id: whose.
        earlier: session of the first visit.
        later: session of the last visit.
        gap_days: days between them.
        true_change: change of the score without the noise of the test.
        score_change: change of the observed score.
    """

    subject_id: str
    earlier: str
    later: str
    gap_days: float
    true_change: float
    score_change: float

    def image(self, session_id: str) -> str:
        """The scan's name relative to the cohort."""
        return f"{self.subject_id}/{session_id}/anat/{self.subject_id}_{session_id}_T1w.nii.gz"


def choose_pairs(truth: Path, subject_ids: frozenset[str]) -> dict[str, KnownPair]:
    """The first declining and the first stable of the given subjects, first visit against last.

    Args:
        truth: the cohort's truth.tsv.
        subject_ids: subjects to choose among.

    Raises:
        UsageError: none of them is declining, or none stable.
    """
    with truth.open(encoding="utf-8", newline="") as lines:
        rows = [row for row in csv.DictReader(lines, delimiter="\t") if row["rescan_of"] == "n/a"]
    chosen = {}
    for trajectory in ("declining", "stable"):
        mine = [row for row in rows if row["trajectory"] == trajectory and row["subject_id"] in subject_ids]
        if not mine:
            raise UsageError(
                f"none of the {len(subject_ids)} held-out subjects is {trajectory}; "
                "bring more --subjects or another --seed"
            )
        visits = sorted(
            (row for row in mine if row["subject_id"] == mine[0]["subject_id"]), key=lambda row: float(row["day"])
        )
        first, last = visits[0], visits[-1]
        chosen[trajectory] = KnownPair(
            subject_id=first["subject_id"],
            earlier=first["session_id"],
            later=last["session_id"],
            gap_days=float(last["day"]) - float(first["day"]),
            true_change=float(last["mmse_true"]) - float(first["mmse_true"]),
            score_change=float(last["mmse"]) - float(first["mmse"]),
        )
    return chosen


def _held_out(truth: Path, seed: int) -> frozenset[str]:
    from trainer.fit.run_plan import draw_split
    from trainer.recipe import load_recipe

    with truth.open(encoding="utf-8", newline="") as lines:
        subject_ids = [row["subject_id"] for row in csv.DictReader(lines, delimiter="\t")]
    return draw_split(load_recipe("demo", (f"seed={seed}",)), subject_ids).of("test")


def _write_cohort(cohort: Path, subjects: int, seed: int) -> None:
    from interscan.synthetic.brain.cohort import write_brain_cohort

    with progress("  scans") as advance:
        write_brain_cohort(cohort, num_subjects=subjects, seed=seed, spacing_mm=_SPACING_MM, progress=advance)


def _preprocess(cohort: Path, store_uri: str) -> str:
    from preprocess.engine import preprocess
    from preprocess.recipe import VolumeRecipe

    with progress("  volumes") as advance:
        manifest = preprocess(str(cohort), store_uri, VolumeRecipe(), progress=advance)
    LOG.info("  %d kept + %d left out = %d found", manifest.num_kept, manifest.num_left_out, manifest.num_found)
    return store_uri


def _train(store_uri: str, folder: Path, seed: int) -> tuple["Run", "RunResult"]:
    from preprocess.storage import Location
    from preprocess.store import Store
    from trainer.fit.run import Run
    from trainer.fit.train import train_run
    from trainer.recipe import load_recipe

    recipe = load_recipe("demo", (f"seed={seed}",))
    location = Location(folder)
    with progress("  steps") as advance:
        result = train_run(recipe, Store.open(store_uri), location, progress=advance)
    return Run.open(location), result


def _evaluate(run: "Run") -> dict[str, Any]:
    from trainer.evaluate.headline import headline
    from trainer.evaluate.run import REPORT_NAME, evaluate_run
    from trainer.report.verdict import judge

    evaluation = evaluate_run(run)
    return {
        "verdict": judge(evaluation).headline,
        "headline": headline(evaluation),
        "report": f"{run.location.uri}/{REPORT_NAME}",
        **evaluation.model_dump(mode="json"),
    }


def _export(run: "Run", folder: Path) -> Path:
    from preprocess.manifest import MANIFEST_NAME
    from preprocess.storage import Location
    from trainer.export.artefact import export_run

    if not (folder / MANIFEST_NAME).exists():
        export_run(run, Location(folder))
    return folder


@contextmanager
def _serving(artefact: Path, *, allow_prefix: Path) -> Iterator[str]:
    """Run `interscan serve` on a free port of this machine; yields its address once it is ready."""
    watched, held = os.pipe()
    command = [
        sys.executable,
        "-c",
        _SERVER,
        str(watched),
        "serve",
        str(artefact),
        "--port",
        "0",
        "--allow-prefix",
        str(allow_prefix),
    ]
    try:
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, pass_fds=(watched,)) as server:
            try:
                assert server.stderr is not None
                address = server.stderr.readline().split(" ")[0]
                _wait_ready(address, server)
                LOG.info("  %s", address)
                yield address
            finally:
                server.terminate()
                try:
                    server.wait(_END_SECONDS)
                except subprocess.TimeoutExpired:
                    server.kill()
    finally:
        os.close(watched)
        os.close(held)


def _wait_ready(address: str, server: "subprocess.Popen[str]") -> None:
    from preprocess.errors import ArtefactError

    until = time.monotonic() + _READY_SECONDS
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/readyz", timeout=5):  # noqa: S310 - our own service
                return
        except (urllib.error.URLError, ValueError):
            time.sleep(0.1)
    raise ArtefactError(f"the service at {address or 'no address'} was not ready within {_READY_SECONDS:.0f} s")


def _ask(address: str, cohort: Path, pair: KnownPair) -> dict[str, Any]:
    """The service's answer for a pair, with the truth beside it."""
    question = {
        "earlier_uri": str(cohort / pair.image(pair.earlier)),
        "later_uri": str(cohort / pair.image(pair.later)),
        "gap_days": pair.gap_days,
    }
    request = urllib.request.Request(  # noqa: S310 - our own service
        f"{address}/v1/progression",
        data=jsonlib.dumps(question).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as response:  # noqa: S310
        answer = jsonlib.load(response)
    return {
        "subject": pair.subject_id,
        "sessions": [pair.earlier, pair.later],
        "true_score_change": pair.true_change,
        "observed_score_change": pair.score_change,
        "decision": answer["decision"],
        "reasons": answer["reasons"],
        "progression": answer["progression"],
        "probabilities": answer["probabilities"],
        "distance": answer["change"]["distance"],
        "within_noise_floor": answer["change"]["within_noise_floor"],
        "caution": answer["caution"],
    }


@contextmanager
def _step(number: int, title: str) -> Iterator[None]:
    _log_step(number, title)
    started = time.perf_counter()
    yield
    LOG.info("      done in %.0f s", time.perf_counter() - started)


def _log_step(number: int, title: str) -> None:
    LOG.info("[%d/%d] %s", number, _STEPS, title)


def _summary(result: dict[str, Any]) -> str:
    low, high = result["macro_f1_interval"] or (None, None)
    interval = "" if low is None else f", 95 % interval {low:.2f} to {high:.2f}"
    lines = [
        "",
        f"{result['volumes_per_s']:.0f} volumes/s from {result['store']} while training",
        f"macro-F1         {result['macro_f1']:.2f}   (chance {result['macro_f1_chance']:.2f}{interval})",
    ]
    for name, title, beside in (
        ("tissue_ridge_macro_f1", "no network", "ridge on maps of tissue"),
        ("log_loss", "log loss", f"base rates {result['base_rate_log_loss']:.2f}"),
        ("coverage", "coverage", "of prediction sets meant to hold the truth in 0.90"),
        ("undecided_fraction", "undecided", "part of the pairs"),
    ):
        if result[name] is not None:
            lines.append(f"{title:<17}{result[name]:.2f}   ({beside})")
    lines += [result["verdict"], ""]
    for name in ("declining", "stable"):
        pair = result[f"{name}_pair"]
        shown = ", ".join(f"{kind} {value:.2f}" for kind, value in pair["probabilities"].items())
        why = f"; {', '.join(pair['reasons'])}" if pair["reasons"] else ""
        points = f"{pair['true_score_change']:+.1f} points, observed {pair['observed_score_change']:+.0f}"
        truth = f"{pair['subject']} (truly {name}: {points})"
        lines.append(f"{truth}: {pair['decision']}  [{shown}{why}]")
    lines += ["", f"report: {result['report']}", f"{result['seconds']:.0f} s in all"]
    return "\n".join(lines)
