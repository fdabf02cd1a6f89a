"""The program `interscan`: mounts the verbs of the three parts, maps errors to one line and an exit code.

Commands are named by import path, so that `interscan --help` loads neither torch nor any part.
"""

import contextlib
import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from preprocess.console import EXIT_INTERRUPTED, complain, configure_logging

VERBS = {
    "synth": ("preprocess.cli:synth", "Write a synthetic cohort with known truth."),
    "preprocess": ("preprocess.cli:preprocess", "Turn raw scans into a store."),
    "verify": ("preprocess.cli:verify", "Re-read every row of a store and name each damaged or missing one."),
    "plan": ("trainer.cli:plan", "Predict hours, utilisation, memory and cost of a run before it is started."),
    "train": ("trainer.cli:train", "Train a recipe on a store; resumes by itself when the run exists."),
    "evaluate": ("trainer.cli:evaluate", "Measure a run on its held-out subjects and write report.html."),
    "cross-validate": ("trainer.cli:cross_validate", "Train and measure a recipe on folds of subjects, summed up."),
    "export": ("trainer.cli:export", "Export a run as an artefact, with parity proven."),
    "embed": ("app.cli:embed", "Embed every volume of a store with an artefact."),
    "predict": ("app.cli:predict", "Answer for one pair of scans without a server."),
    "serve": ("app.cli:serve", "Serve artefacts over REST."),
    "bench": ("interscan.bench:bench", "Measure streaming or the training step on this machine; needs a checkout."),
    "demo": ("interscan.demo:demo", "Run the whole road on synthetic data."),
}


def build_app(chosen: str = "") -> App:
    """The command line, with nothing loaded yet.

    Args:
        chosen: verb whose own, longer help is to be shown; the others show one line.
    """
    app = App(
        name="interscan",
        help="What changed between two scans: preprocess, train, evaluate, export and serve.",
        version=_version,
    )
    for verb, (path, summary) in VERBS.items():
        app.command(path, name=verb, help=None if verb == chosen else summary)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    code = run(sys.argv[1:] if arguments is None else arguments)
    # Everything is written and closed. Daemon threads, of libraries and of hanging uploads, must not spoil the end:
    # torch's abort the interpreter now and then when it shuts down under them.
    with contextlib.suppress(BrokenPipeError):  # whoever read our output has left, as `| head` does
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code is the return value."""
    from preprocess.errors import InterscanError

    configure_logging()
    try:
        code = build_app(next(iter(arguments), ""))(
            list(arguments), exit_on_error=False, print_error=False, result_action="return_value"
        )
    except CycloptsError as error:
        complain(f"{error} (see interscan --help)")
        return 2
    except InterscanError as error:
        complain(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        complain("interrupted; run the same command again to go on")
        return EXIT_INTERRUPTED
    return code if isinstance(code, int) else 0


def _version() -> str:
    from importlib.metadata import version

    return version("interscan")
