"""A run's folder: what it was started with, how far it is, and what it ended with.

run.json       recipe, store, fingerprint, index digest, split; written first
writer.json    who trains it; there only while somebody does
checkpoints/   resume state
log.jsonl      one line an epoch
tensorboard/   the same for TensorBoard
model.pt       encoder and heads at the end
result.json    written last: a run without it is not finished
"""

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from preprocess.errors import RunError
from preprocess.index import person_digest
from preprocess.storage import Location
from preprocess.store import Store
from trainer.data.splits import SPLITS, Split
from trainer.fit.checkpoint import State, dump_state, load_state
from trainer.fit.run_files import Outcome, RunRecord, RunResult, parse_file
from trainer.recipe import TrainRecipe, refuse_renamed

_RUN_NAME = "run.json"
_CHECKPOINTS_NAME = "checkpoints"
_MODEL_NAME = "model.pt"
_RESULT_NAME = "result.json"
_FINISH_AGAIN = (
    f"delete {_RESULT_NAME} and run the same interscan train command again, which ends the run anew from its last "
    "checkpoint; without checkpoints train again at another location"
)


class Run:
    """An opened run.

        run = Run.open(Location("gs://bucket/run"))
        store = run.open_store()
        state, result = run.load_model()

    Args:
        location: its folder.
        record: run.json.
    """

    def __init__(self, location: Location, record: RunRecord) -> None:
        self.location = location
        self.record = record
        self.recipe = TrainRecipe.model_validate(record.recipe)
        self.split = record.split

    @classmethod
    def start(cls, location: Location, recipe: TrainRecipe, store: Store, split: Split) -> "Run":
        """Open the run there, or begin it.

        Raises:
            RunError: the run there has another recipe, store or split.
        """
        record = RunRecord(
            recipe=recipe.model_dump(mode="json"),
            store_uri=store.location.uri,
            fingerprint=store.manifest.fingerprint,
            index_sha256=store.manifest.index_sha256,
            split=split,
            git_revision=git_revision(),
        )
        # Only the first writer creates it; all others hold theirs against it.
        if location.create(_RUN_NAME, record.to_json()):
            return cls(location, record)
        run = cls.open(location)
        changed = list(differences(run.recipe.deciding, recipe.deciding))
        if changed:
            raise RunError(
                f"{location.uri}: this run was started with another recipe ({', '.join(changed)}); "
                "use that recipe to go on, or another --run"
            )
        for key, begun_with, found in (
            ("fingerprint", run.record.fingerprint, record.fingerprint),
            ("index_sha256", run.record.index_sha256, record.index_sha256),
        ):
            if begun_with != found:
                raise RunError(
                    f"{location.uri}: this run was started on a store whose {key} is {begun_with}, "
                    f"{store.location.uri} has {found}; use that store to go on, or another --run"
                )
        if run.split != split:
            moved = sorted(split.of("test") ^ run.split.of("test")) or sorted(split.of("train") ^ run.split.of("train"))
            raise RunError(
                f"{location.uri}: this run was started with another split: {len(moved)} subjects are in other parts, "
                f"first {moved[0]}; start a new run at another location"
            )
        return run

    @classmethod
    def open(cls, location: Location) -> "Run":
        """Open an existing run.

        Raises:
            RunError: there is none, or it is of another version.
        """
        try:
            data = location.read(_RUN_NAME)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise RunError(
                f"{location.uri}: no {_RUN_NAME}, so this is not a run; start it with interscan train"
            ) from error
        remedy = "put back a copy of it, or start a new run at another location"
        record = parse_file(RunRecord, data, where=f"{location.uri}/{_RUN_NAME}", remedy=remedy)
        refuse_renamed(record.recipe, where=f"{location.uri}/{_RUN_NAME}", error=RunError)
        try:
            return cls(location, record)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            raise RunError(
                f"{location.uri}/{_RUN_NAME}: {where}: no setting of this version; go on with the version that "
                "started the run, or start a new one at another location"
            ) from error

    def open_store(self, uri: str | None = None) -> Store:
        """The store the run was trained on.

        Args:
            uri: where it is now, if it was moved.

        Raises:
            StoreError: it is missing, or of another fingerprint.
            RunError: a person it was split for has been deleted from the store on request.
        """
        store = Store.open(uri or self.record.store_uri)
        store.require_fingerprint(self.record.fingerprint)
        gone = {one.person_sha256 for one in store.manifest.forgotten}
        split = self.split
        num_gone = sum(person_digest(person) in gone for part in SPLITS for person in split.of(part))
        if num_gone:
            raise RunError(
                f"{self.location.uri}: {num_gone} of its persons were deleted from the store on request; train anew"
            )
        return store

    def finish(self, model: State, outcome: Outcome) -> RunResult:
        """Write the model, then the result that points to it."""
        data = dump_state(model)
        # The result says that the run is finished and what the model's digest is, so the model has to be there first.
        self.location.write(_MODEL_NAME, data)
        result = RunResult(**outcome.to_dict(), model_sha256=hashlib.sha256(data).hexdigest())
        self.location.write(_RESULT_NAME, result.to_json())
        return result

    def result(self) -> RunResult | None:
        """What the run ended with, or None while it is not finished.

        Raises:
            RunError: the file that says so is damaged.
        """
        try:
            data = self.location.read(_RESULT_NAME)
        except (FileNotFoundError, NotADirectoryError):
            return None
        where = f"{self.location.uri}/{_RESULT_NAME}"
        return parse_file(RunResult, data, where=where, remedy=_FINISH_AGAIN)

    def load_model(self) -> tuple[State, RunResult]:
        """The final model's state and the result.

        Raises:
            RunError: the run is not finished, or its model is damaged or deleted.
        """
        result = self.result()
        if result is None:
            raise RunError(f"{self.location.uri}: the run is not finished; run the same interscan train command again")
        try:
            data = self.location.read(_MODEL_NAME)
        except FileNotFoundError as error:
            raise RunError(
                f"{self.location.uri}/{_MODEL_NAME}: not there; cross-validation deletes the weights of measured folds "
                "unless it is told --keep-runs; train again at another location"
            ) from error
        found = hashlib.sha256(data).hexdigest()
        if found != result.model_sha256:
            raise RunError(
                f"{self.location.uri}/{_MODEL_NAME}: SHA-256 {found[:12]} is not {result.model_sha256[:12]}, "
                f"the model is damaged; {_FINISH_AGAIN}"
            )
        return load_state(data, where=f"{self.location.uri}/{_MODEL_NAME}"), result


def drop_weights(location: Location) -> None:
    """Delete the checkpoints and the model of a run for good; recipe, split, history and result stay."""
    location.delete(_MODEL_NAME)
    location.delete(_CHECKPOINTS_NAME)


def differences(started: Any, requested: Any, path: str = "") -> Iterator[str]:
    """Each setting that differs, with both values."""
    if isinstance(started, dict) and isinstance(requested, dict) and started.keys() == requested.keys():
        for key in started:
            yield from differences(started[key], requested[key], f"{path}.{key}" if path else key)
    elif started != requested:
        yield f"{path} was {started!r} and is {requested!r}"


def git_revision() -> str:
    """The commit of the source tree that runs, with `-dirty` for uncommitted changes; `unknown` outside a checkout.

    An image has no checkout; INTERSCAN_REVISION names the commit that it was built from.
    """
    revision = os.environ.get("INTERSCAN_REVISION")
    if revision:
        return revision
    folder = Path(__file__).resolve().parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()
