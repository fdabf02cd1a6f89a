"""The program `interscan`: mounts the verbs of the three parts, maps errors to one line and an exit code.

Commands are named by import path, so that `interscan --help` loads neither torch nor any part.
"""

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from functools import partial

from cyclopts import App, CycloptsError, UnknownOptionError

from interscan.extras import missing_extra
from interscan.signals import end_on_signals, ignore_signals, show_cursor
from preprocess.console import (
    EXIT_DEFECT,
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_REFUSED,
    complain,
    configure_logging,
)
from preprocess.surroundings import complaint_of_name, open_streams, settle
from preprocess.system_errors import describe

VERBS = {
    "synth": ("interscan.synthetic.cli:synth", "Write a synthetic cohort with known truth."),
    "preprocess": ("preprocess.cli:preprocess", "Turn raw scans into a store."),
    "verify": ("preprocess.cli:verify", "Re-read every row of a store and name each damaged or missing one."),
    "forget": ("interscan.forget:forget", "Delete one person from a store on request."),
    "plan": ("trainer.cli:plan", "Predict hours, utilisation, memory and cost of a run before it is started."),
    "train": ("trainer.cli:train", "Train a recipe on a store; resumes by itself when the run exists."),
    "evaluate": ("trainer.cli:evaluate", "Measure a run on its held-out subjects and write report.html."),
    "cross-validate": ("trainer.cli:cross_validate", "Train and measure a recipe on folds of subjects, summed up."),
    "export": ("trainer.cli:export", "Export a run as an artefact, with parity proven."),
    "card": ("app.card_cli:card", "Write an artefact's model card as Markdown."),
    "embed": ("app.cli:embed", "Embed every volume of a store with an artefact."),
    "predict": ("app.cli:predict", "Answer for one pair of scans without a server."),
    "serve": ("app.cli:serve", "Serve artefacts over REST."),
    "bench": ("interscan.bench:bench", "Measure streaming or the training step on this machine; needs a checkout."),
    "demo": ("interscan.demo:demo", "Run the whole road on synthetic data."),
}
_GOING_ON = {"synth", "preprocess", "train", "cross-validate", "demo"}
"""Verbs that find what an interrupted call of theirs finished; the others leave nothing behind, and begin anew."""
_READING_ANY_PATH = {"preprocess", "predict"}
"""Verbs that may be given scans under names that are no UTF-8; all others write their paths down."""


def build_app(chosen: str = "") -> App:
    """The command line, with nothing loaded yet.

    Args:
        chosen: verb whose own, longer help is to be shown; the others show one line.
    """
    app = App(
        name="interscan",
        help="What changed between two scans: preprocess, train, evaluate, export and serve.",
        version=_version,
        # It would leave by itself, with no word.
        suppress_keyboard_interrupt=False,
    )
    for verb, (path, summary) in VERBS.items():
        app.command(path, name=verb, help=None if verb == chosen else summary)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    given = sys.argv[1:] if arguments is None else arguments
    interrupted = partial(_say_interrupted, next(iter(given), ""))
    code = EXIT_DEFECT
    try:
        open_streams()
        end_on_signals(lambda: _leave(interrupted()))
        settle()
        code = run(given)
        ignore_signals()
    except KeyboardInterrupt:  # before or after the verb
        code = interrupted()
    except Exception:  # noqa: BLE001 - nothing is gone on with; 1, Python's own code, would say that scans were left out
        traceback.print_exc()
        complain("this is a defect of interscan; please report the lines above")
    _leave(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code is the return value."""
    from preprocess.errors import InterscanError

    configure_logging()
    verb = next(iter(arguments), "")
    try:
        _refuse_odd_bytes(verb, arguments)
        code = build_app(verb)(list(arguments), exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        complain(_explain(error))
        return 2
    except InterscanError as error:
        complain(str(error))
        return error.exit_code
    except ModuleNotFoundError as error:
        reason = missing_extra(error.name)
        if not reason:
            raise
        complain(f"{verb} {reason}")
        return 2
    except SystemExit:
        # rich, which prints help and progress bars, leaves when nobody reads them any more, as after `| head`.
        return EXIT_DONE if not arguments or {"-h", "--help", "--version"} & set(arguments) else EXIT_REFUSED
    except OSError as error:
        complain(describe(error))
        return EXIT_REFUSED
    except MemoryError:
        complain("out of memory; ask for less at once (fewer --workers, a smaller batch), or take a larger machine")
        return EXIT_REFUSED
    except KeyboardInterrupt:
        return _say_interrupted(verb)
    return code if isinstance(code, int) else EXIT_DONE


def _explain(error: CycloptsError) -> str:
    """What is wrong with a command line, and where the right one is documented; of an option, what there is instead."""
    words = " ".join(("interscan", *(error.command_chain or ())))
    parts = [str(error)]
    if isinstance(error, UnknownOptionError):
        taken = [one.name for one in error.argument_collection if one.field_info.kind is one.field_info.KEYWORD_ONLY]
        parts.append(f"{words} takes {', '.join(taken)}")
    return f"{' '.join(parts)} (see {words} --help)"


def _refuse_odd_bytes(verb: str, arguments: Sequence[str]) -> None:
    """Refuse bytes that no table, log or manifest could hold, before any work is done."""
    from preprocess.errors import UsageError

    for argument in () if verb in _READING_ANY_PATH else arguments:
        complaint = complaint_of_name(argument)
        if complaint:
            raise UsageError(complaint)


def _say_interrupted(verb: str) -> int:
    show_cursor()
    complain(f"interrupted; run the same command again to {'go on' if verb in _GOING_ON else 'start over'}")
    return EXIT_INTERRUPTED


def _leave(code: int) -> None:
    # Everything is written and closed. Daemon threads, of libraries and of hanging uploads, must not spoil the end:
    # torch's abort the interpreter now and then when it shuts down under them.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # whoever read it has left, as `| head` does
            stream.flush()
    os._exit(code)


def _version() -> str:
    from importlib.metadata import version

    return version("interscan")
