"""Loads artefacts; one may answer only after its digests, fingerprint, references and golden values were checked."""

import hashlib
import random
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, cast

import torch
from pydantic import ValidationError

from app.engine import Engine, Program
from app.errors import ProblemError
from app.golden import check_golden
from app.model_schemas import ArtefactStatus
from app.program_check import checked_program
from app.references import Floats, References, parse_references, read_arrays
from app.severity import SeverityReferences, parse_severity
from preprocess.console import LOG
from preprocess.errors import ArtefactError, StorageError, UsageError
from preprocess.manifest import GOLDEN_NAME, MANIFEST_NAME, PROGRAM_NAME, REFERENCES_NAME, Manifest
from preprocess.preparation.imaging import require_imaging
from preprocess.storage import Location

_NEEDED = (PROGRAM_NAME, GOLDEN_NAME, REFERENCES_NAME)
_LONGEST_PAUSE_S = 60.0
_ADDS = {"severity": ", which adds each scan's severity"}
_LOADING = threading.Lock()
"""torch.jit.load is not thread-safe, and neither is the warning filter around it."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that passed every check.

    Attributes:
        severity: anchor and distances of an artefact of kind severity; None for the others.
    """

    manifest: Manifest
    engine: Engine
    references: References
    severity: SeverityReferences | None = None

    def require_progression(self, where: str, verb: str) -> None:
        """Refuse a model that compares no pairs.

        Args:
            where: how the message names the artefact.
            verb: what was requested of it.

        Raises:
            ArtefactError: the artefact is of another kind.
        """
        if self.manifest.kind != "progression":
            raise ArtefactError(
                f"{where}: an artefact of kind {self.manifest.kind}, and {verb} compares two scans with one of kind "
                f"progression; use interscan embed{_ADDS.get(self.manifest.kind, '')}"
            )

    def require_points(self, where: str, what_for: str = "there is nothing to map") -> Floats:
        """What an embedding is multiplied by for points of the score.

        Args:
            where: how the message names the artefact.
            what_for: what the message says to be impossible without points.

        Raises:
            ArtefactError: the artefact tells no change in points.
        """
        direction_E = self.references.change_direction_E
        if direction_E is None:
            raise ArtefactError(
                f"{where}: tells no change in points of the score, so {what_for}; export a run whose recipe has "
                'head.on = "score", as the recipe change'
            )
        return direction_E

    def require_trajectory(self, where: str) -> Floats:
        """As `require_points`, of a model that can follow a person over several visits.

        Args:
            where: how the message names the artefact.

        Raises:
            ArtefactError: the artefact compares no scans, tells no points, or its program answers from scans only.
        """
        self.require_progression(where, "a trajectory")
        direction_E = self.require_points(where, "there is no line through several visits")
        if not self.engine.can_judge:
            raise ArtefactError(
                f"{where}: exported by an earlier version, whose program answers for pairs of scans only; export its "
                "run again"
            )
        return direction_E


def load_program(data: bytes, *, name: str = PROGRAM_NAME) -> Program:
    """Check model.ts and load it on the CPU.

    Args:
        data: the file.
        name: how messages call it.

    Raises:
        ArtefactError: not a TorchScript file, or one that `checked_program` refuses.
    """
    archive = checked_program(data, name=name)
    with _LOADING, warnings.catch_warnings():
        # TorchScript is the artefact's contract until torch.export replaces it.
        warnings.filterwarnings("ignore", r"`torch\.jit\.load` is deprecated", DeprecationWarning)
        try:
            program = torch.jit.load(archive, map_location="cpu")  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise ArtefactError(f"{name}: not a TorchScript file; export the model again") from error
    return cast(Program, program.eval())


def load_artefact(uri: str) -> LoadedModel:
    """Load and check an artefact.

    Args:
        uri: its folder.

    Raises:
        ArtefactError: a file is missing, altered or of another schema, the fingerprint is not the recipe's, or the
            golden values come out differently here.
        StorageError: the bucket refuses.
    """
    location = Location(uri)
    manifest = read_manifest(location)
    files = {name: _read_checked(location, name, digest) for name, digest in sorted(manifest.files.items())}
    _check_contract(location, manifest)
    engine = Engine(load_program(files[PROGRAM_NAME], name=f"{location.uri}/{PROGRAM_NAME}"))
    name = f"{location.uri}/{REFERENCES_NAME}"
    references = parse_references(
        files[REFERENCES_NAME],
        name=name,
        width=manifest.embedding_width,
        decision=manifest.decision,
    )
    severity = None
    if manifest.kind == "severity":
        arrays = read_arrays(files[REFERENCES_NAME], name=name)
        severity = parse_severity(arrays, name=name, tolerance=manifest.tolerance)
    golden_name = f"{location.uri}/{GOLDEN_NAME}"
    check_golden(engine, manifest, files[GOLDEN_NAME], name=golden_name, severity=severity)
    return LoadedModel(manifest=manifest, engine=engine, references=references, severity=severity)


class Registry:
    """The models of one server, in the order they were named.

        registry = Registry(["gs://bucket/models/demo/1"])
        registry.load()
        model = registry.choose(name=None, version=None)  # the default

    Args:
        uris: artefact folders; the first is the default model.
        first_pause_s: before an artefact that failed is tried again; doubled each time, up to a minute.

    Attributes:
        finished: set once every artefact was tried.
    """

    def __init__(self, uris: Sequence[str], *, first_pause_s: float = 1.0) -> None:
        self._uris = tuple(uris)
        self._first_pause_s = first_pause_s
        self._statuses = [ArtefactStatus(artefact=_label(uri), status="waiting") for uri in self._uris]
        self._models: dict[int, LoadedModel] = {}
        self._stop = threading.Event()
        self.finished = threading.Event()

    def load(self) -> None:
        """Load every artefact that is not ready; one that fails keeps its reason and does not stop the others."""
        try:
            for index in range(len(self._uris)):
                if index not in self._models and not self._stop.is_set():
                    self._load_one(index)
        finally:
            for index, status in enumerate(self._statuses):
                if status.status in ("waiting", "loading"):
                    self._mark(index, "failed", "loading was broken off; see the server's log")
            self.finished.set()

    def keep_loading(self) -> None:
        """As `load`, again and again with growing pauses until all are ready or `stop` is called.

        A bucket that refuses in the first seconds of a container, or an export that is still uploading, mends itself;
        what does not is said once in the log and stands in /readyz.
        """
        pause_s = self._first_pause_s
        self.load()
        while self._uris and not self.is_ready:
            if self._stop.wait(pause_s * random.uniform(0.75, 1.25)):  # noqa: S311 - spreads load, no secret
                return
            self.load()
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def stop(self) -> None:
        """Load no further artefact."""
        self._stop.set()

    @property
    def statuses(self) -> list[ArtefactStatus]:
        """Where each artefact stands."""
        return list(self._statuses)

    @property
    def is_ready(self) -> bool:
        """Whether every artefact passed its checks, and there is one."""
        return bool(self._uris) and len(self._models) == len(self._uris)

    @property
    def models(self) -> list[LoadedModel]:
        """The models that may answer, the default first."""
        return [self._models[index] for index in sorted(self._models)]

    @property
    def default(self) -> LoadedModel | None:
        """The first artefact's model, once it is ready."""
        return self._models.get(0)

    def choose(self, name: str | None, version: str | None) -> LoadedModel:
        """The model that a request asks for.

        Raises:
            ProblemError: 404 when there is none of that name and version; 503 when it may be one that is not ready.
        """
        for index, model in sorted(self._models.items()):
            manifest = model.manifest
            is_meant = name in (None, manifest.name) and version in (None, manifest.version)
            # Without a name the first artefact is meant, even while it is not ready.
            if is_meant and (index == 0 or name is not None or version is not None):
                return model
        if self.is_ready:
            known = ", ".join(f"{model.manifest.name} {model.manifest.version}" for model in self.models)
            raise ProblemError(404, "unknown_model", f"no such model or version; this server has {known}")
        reasons = "; ".join(status.reason for status in self._statuses if status.reason)
        loading = "no artefact was given" if not self._uris else "models are still being loaded; try again"
        raise ProblemError(503, "not_ready", reasons or loading, headers={"Retry-After": "10"})

    def _load_one(self, index: int) -> None:
        uri = self._uris[index]
        before = self._statuses[index].reason
        if before is None:
            self._mark(index, "loading")
        try:
            model = load_artefact(uri)
            _require_volumes(uri, model.manifest, "use interscan embed on a store")
            _require_alone(uri, model.manifest)
            self._refuse_twin(uri, model.manifest)
        except (ArtefactError, StorageError, UsageError) as error:
            reason = _without_path(str(error), uri)
            if reason != before:
                LOG.error("not ready: %s", error)
            self._mark(index, "failed", reason)
        else:
            self._models[index] = model
            self._mark(index, "ready")
            LOG.info("ready: %s %s", model.manifest.name, model.manifest.version)

    def _refuse_twin(self, uri: str, manifest: Manifest) -> None:
        name, version = manifest.name, manifest.version
        if any((twin.manifest.name, twin.manifest.version) == (name, version) for twin in self.models):
            raise ArtefactError(f"{uri}: {name} {version} is loaded already; name each artefact once")

    def _mark(self, index: int, status: Literal["loading", "ready", "failed"], reason: str | None = None) -> None:
        self._statuses[index] = ArtefactStatus(artefact=_label(self._uris[index]), status=status, reason=reason)


def _without_path(text: str, uri: str) -> str:
    local = str(Path(uri.split("://")[-1]).absolute())
    return text.replace(local, _label(uri)).replace(uri.rstrip("/"), _label(uri))


def _label(uri: str) -> str:
    """The last two parts of a URL: enough to know the artefact by, and no path of this machine."""
    return "/".join(PurePosixPath(uri.rstrip("/").split("://")[-1]).parts[-2:]).lstrip("/")


def read_manifest(location: Location) -> Manifest:
    """The manifest of an artefact, without its programs.

    Raises:
        ArtefactError: there is none, or it is damaged or of another schema.
        StorageError: the bucket refuses.
    """
    try:
        text = location.read(MANIFEST_NAME)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArtefactError(
            f"{location.uri}: no {MANIFEST_NAME}, so this is not an artefact; make one with interscan export"
        ) from error
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"]) or "the file"
        raise ArtefactError(
            f"{location.uri}/{MANIFEST_NAME}: {where}: {fault['msg']}; export the model with this version"
        ) from error
    missing = [name for name in _NEEDED if name not in manifest.files]
    if missing:
        raise ArtefactError(
            f"{location.uri}/{MANIFEST_NAME}: does not list {', '.join(missing)}; export the model again"
        )
    foreign = [name for name in manifest.files if PurePosixPath(name).name != name or name in ("", ".", "..")]
    if foreign:
        raise ArtefactError(f"{location.uri}/{MANIFEST_NAME}: {foreign[0]!r} is not a file beside it; export again")
    return manifest


def _read_checked(location: Location, name: str, digest: str) -> bytes:
    try:
        data = location.read(name)
    except FileNotFoundError as error:
        raise ArtefactError(f"{location.uri}/{name}: missing; copy the whole artefact again") from error
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise ArtefactError(
            f"{location.uri}/{name}: SHA-256 {found[:12]} is not the manifest's {digest[:12]}; copy the artefact again"
        )
    return data


def _check_contract(location: Location, manifest: Manifest) -> None:
    inputs = manifest.inputs
    found = inputs.volume_recipe.fingerprint()
    if inputs.fingerprint != found:
        raise ArtefactError(
            f"{location.uri}: trained on fingerprint {inputs.fingerprint}, but this version preprocesses its recipe as "
            f"{found}; serve it with the version that exported it, or train again"
        )
    if manifest.kind == "progression":
        _require_volumes(location.uri, manifest, "train on a modality that is a volume")


def _require_alone(uri: str, manifest: Manifest) -> None:
    """Refuse a model whose scans the service cannot prepare, which it does one at a time.

    Raises:
        ArtefactError: its scans have to be prepared together, or with masks.
        UsageError: they need SimpleITK, which is not installed.
    """
    recipe = manifest.inputs.volume_recipe
    if recipe.registration == "subject":
        raise ArtefactError(
            f'{uri}: its recipe has registration = "subject", which needs all scans of a person at once, and the '
            "service prepares one at a time; use interscan predict"
        )
    if recipe.brain_mask == "given":
        raise ArtefactError(
            f'{uri}: its recipe has brain_mask = "given", and requests carry no masks; preprocess the scans with their '
            "masks and use interscan embed"
        )
    require_imaging(recipe)


def _require_volumes(uri: str, manifest: Manifest, remedy: str) -> None:
    """Refuse a model whose inputs cannot be made from a NIfTI file."""
    inputs = manifest.inputs
    kind = inputs.volume_recipe.kind_of(inputs.modality)
    if kind != "volume":
        raise ArtefactError(
            f"{uri}: modality {inputs.modality} is of kind {kind}, and answers are given for volumes only; {remedy}"
        )
    if inputs.channels != 1:
        raise ArtefactError(f"{uri}: {inputs.channels} channels; a scan gives 1, so it cannot be served")
