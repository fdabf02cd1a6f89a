"""The verbs serve, predict and embed; what is heavy is imported when a verb runs."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from preprocess.console import EXIT_DONE, LOG, JsonFlag, emit, progress

if TYPE_CHECKING:
    import socket
    from types import FrameType

    import numpy as np
    import pyarrow as pa

    from app.registry import LoadedModel
    from app.settings import Settings

_ONE_MIB = 2**20
_KEPT_COLUMNS = ("cohort", "subject_id", "session_id", "run", "day", "row")


def serve(
    *artefacts: str,
    host: Annotated[str, Parameter(env_var="INTERSCAN_HOST")] = "127.0.0.1",
    port: Annotated[int, Parameter(env_var=("INTERSCAN_PORT", "PORT"))] = 8000,
    allow_prefix: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = (),
    no_auth: Annotated[bool, Parameter(env_var="INTERSCAN_NO_AUTH", negative="")] = False,
    max_upload_mib: int | None = None,
    max_running: Annotated[int, Parameter(env_var="INTERSCAN_MAX_RUNNING")] = 2,
    max_waiting: Annotated[int, Parameter(env_var="INTERSCAN_MAX_WAITING")] = 16,
    root_path: Annotated[str, Parameter(env_var="INTERSCAN_ROOT_PATH", show_default=False)] = "",
    forwarded_allow_ips: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = (),
) -> int:
    """Serve artefacts over REST, with a page for people at the service's address.

    API keys come from INTERSCAN_API_KEYS (several with commas), never from the command line, where other users of the
    machine could read them. Without keys only this machine is served. Stop with Ctrl-C or SIGTERM; SIGHUP does not
    stop it.

    Args:
        artefacts: Artefact folders, local or gs://, s3://; the first is the default model.
        host: Address to bind to; one that other machines reach needs keys in INTERSCAN_API_KEYS, with commas between.
        port: TCP port; 0 takes a free one.
        allow_prefix: Prefix of scan URIs that requests may name, for example gs://bucket/scans; may be repeated.
            Without it, and without INTERSCAN_ALLOW_PREFIXES, scans can only be uploaded.
        no_auth: Serve other machines without keys, behind a proxy that authenticates.
        max_upload_mib: Largest scan, MiB; 200 unless INTERSCAN_MAX_UPLOAD_BYTES says otherwise.
        max_running: Requests worked on at once; each takes about 0.3 GB for a 256^3 head.
        max_waiting: Requests that may wait; the next is answered 503.
        root_path: Prefix under which a proxy publishes the service, for example /scan, whether or not it passes the
            prefix on.
        forwarded_allow_ips: Address of a proxy whose X-Forwarded-For and X-Forwarded-Proto are believed; may be
            repeated. Only this machine, unless INTERSCAN_FORWARDED_ALLOW_IPS says otherwise.
    """
    from app.forking import start_forking, stop_forking
    from app.settings import make_settings
    from app.threads import settle_threads
    from preprocess.errors import UsageError

    # What is left out here comes from the environment.
    max_upload_bytes = None if max_upload_mib is None else max_upload_mib * _ONE_MIB
    given = {
        "artefacts": artefacts,
        "allow_prefixes": allow_prefix,
        "max_upload_bytes": max_upload_bytes,
        "forwarded_allow_ips": forwarded_allow_ips,
    }
    settings = make_settings(
        **{name: value for name, value in given.items() if value not in ((), None)},
        host=host,
        port=port,
        no_auth=no_auth,
        max_running=max_running,
        max_waiting=max_waiting,
        root_path=root_path,
    )
    if not settings.artefacts:
        raise UsageError("nothing to serve; give an artefact folder, made by interscan export")
    settle_threads(settings.threads)
    with _going_on_at_hangup(start_forking):
        _serve(settings, stop_forking)
    return EXIT_DONE


def _serve(settings: "Settings", stop_forking: Callable[[], None]) -> None:
    from app.main import create_app
    from app.server import make_server

    listener = _listen(settings.host, settings.port)
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{shown}:{listener.getsockname()[1]}"
    LOG.info("%s  (open it in a browser; programs: %s/docs; ready once /readyz says so)", address, settings.root_path)
    app = create_app(settings)
    server = make_server(
        app,
        on_stop=app.state.service.begin_stopping,
        header_s=settings.header_s,
        max_connections=settings.max_connections,
        stop_s=settings.stop_s,
        forwarded_allow_ips=list(settings.forwarded_allow_ips),
    )
    # uvicorn finishes the requests under way, then sends itself the signal again that asked it to stop. That is how a
    # service ends, not how one is cut off.
    try:
        with listener, contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
    finally:
        stop_forking()


@contextlib.contextmanager
def _going_on_at_hangup(start_forking: Callable[[], None]) -> Iterator[None]:
    """Serve on when a terminal closes or somebody expects SIGHUP to reload; the decoding processes go on too."""
    import signal

    def say(_number: int, _frame: "FrameType | None") -> None:
        LOG.info("SIGHUP: nothing is reloaded, the service goes on; end it by SIGTERM or Ctrl-C")

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        # A program inherits what is ignored, and never a handler: hence first the one and then the other.
        start_forking()
        if before is not signal.SIG_IGN:  # nohup
            signal.signal(signal.SIGHUP, say)
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def predict(
    artefact: str,
    earlier: str,
    later: str,
    *more: str,
    days: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None,
    age: float | None = None,
    gap_days: float | None = None,
    accept_unproven: Annotated[bool, Parameter(negative="")] = False,
    map_out: Annotated[str | None, Parameter(name="--map")] = None,
    json: JsonFlag = False,
) -> int:
    """Answer for one pair of scans without a server: improved, stable, declined, or undecided with the reasons.

    With --days, for a person's trajectory: change a year over 2 to 16 scans, with its interval and noise floor.

    Args:
        artefact: Artefact folder, local or gs://, s3://.
        earlier: Scan acquired first: NIfTI file, or folder or zip of one DICOM series; path or URL.
        later: The same of the scan acquired second.
        more: Further scans of the same person, up to 16 in all; needs --days.
        days: Day of each scan with commas between, for example 0,365,730: days since any one day, never dates. Scans
            are put in the order of their days.
        age: Age at the first visit, years; places the change a year among people of that age. Needs --days.
        gap_days: Days between them; repeated in the answer, not used by the model.
        accept_unproven: Decide even with a model that is not shown to be right more often than by chance.
        map_out: NIfTI file to write (.nii or .nii.gz): where the told change comes from, in points of the score per cm3
            on the later scan's own voxels; their sum times the voxels' volume is the told change.
        json: Print the answer as the REST service gives it.
    """
    from preprocess.errors import UsageError

    if days is not None:
        if gap_days is not None or map_out is not None:
            option = "--gap-days" if gap_days is not None else "--map"
            raise UsageError(f"{option} is of a pair of scans, --days of a trajectory; give one of them")
        return _predict_trajectory(artefact, (earlier, later, *more), days, age, accept_unproven, json)
    if more or age is not None:
        given = f"{2 + len(more)} scans" if more else "--age"
        raise UsageError(f"{given} without --days; give the day of each scan, for example --days 0,365,730")
    from app.answers import answer_progression
    from app.change_map import require_map, write_map
    from app.inputs import prepare_together
    from app.registry import load_artefact
    from app.report import describe

    if gap_days is not None and gap_days < 0:
        raise UsageError(f"--gap-days {gap_days:g} is negative; exchange the two scans")
    if map_out is not None:
        require_map(map_out)
    files = {name: _read_scan(uri, f"the {name} scan") for name, uri in (("earlier", earlier), ("later", later))}
    model = load_artefact(artefact)
    model.require_progression(artefact, "predict")
    if map_out is not None:
        model.require_points(artefact)
    recipe = model.manifest.inputs.volume_recipe
    scans = dict(zip(files, prepare_together([(data, name) for name, data in files.items()], recipe), strict=True))
    answer = answer_progression(
        model, scans["earlier"], scans["later"], gap_days=gap_days, accept_unproven=accept_unproven
    )
    if map_out is not None:
        write_map(model, scans["earlier"], scans["later"], files["later"], map_out)
    emit(answer.model_dump(mode="json"), describe(answer), as_json=json)
    return EXIT_DONE


def _predict_trajectory(
    artefact: str, sources: Sequence[str], days: str, age: float | None, accept_unproven: bool, json: bool
) -> int:
    from app.inputs import prepare_together
    from app.registry import load_artefact
    from app.report import describe_trajectory
    from app.trajectory import require_visits
    from app.trajectory_answer import answer_trajectory

    days_V = _read_days(days)
    require_visits(len(sources), days_V, age)
    names = [f"scan {position}" for position in range(1, len(sources) + 1)]
    files = [_read_scan(source, name) for source, name in zip(sources, names, strict=True)]
    model = load_artefact(artefact)
    model.require_trajectory(artefact)
    recipe = model.manifest.inputs.volume_recipe
    scans = prepare_together(list(zip(files, names, strict=True)), recipe)
    answer = answer_trajectory(model, scans, days_V, age=age, accept_unproven=accept_unproven)
    emit(answer.model_dump(mode="json"), describe_trajectory(answer), as_json=json)
    return EXIT_DONE


def _read_days(text: str) -> list[float]:
    from preprocess.errors import UsageError

    days = []
    for part in text.split(","):
        try:
            days.append(float(part))
        except ValueError as error:
            raise UsageError(
                f"--days: {part.strip()!r} is not a number of days; give one for each scan, for example 0,365,730"
            ) from error
    return days


def embed(
    artefact: str,
    store: str,
    out: str,
    *,
    batch_size: int = 8,
    cluster: str | None = None,
    json: JsonFlag = False,
) -> int:
    """Embed every scan of a store with an artefact, into one Parquet file.

    The columns are cohort, subject_id, session_id, run, day, row, embedding and the store's outcome scores; with an
    artefact of kind severity also severity, the distance from normal, 0 to 2.

    Args:
        artefact: Artefact folder, local or gs://, s3://.
        store: Store made with the preprocessing that the artefact was trained on.
        out: Parquet file to write, path or URL.
        batch_size: Scans embedded at once.
        cluster: Let a Ray cluster do it: `auto`, HOST:PORT or ray://HOST:10001; docs/cluster.md.
        json: Print the result as JSON.
    """
    from app.embedding import embed_on, embed_rows
    from app.registry import load_artefact
    from preprocess.cluster import connected
    from preprocess.errors import ArtefactError, StoreError, UsageError
    from preprocess.index import to_bytes
    from preprocess.storage import Location, split_file
    from preprocess.store import Store

    if batch_size < 1:
        raise UsageError(f"--batch-size {batch_size} is less than 1")
    folder, name = split_file(out, example="embeddings.parquet")
    opened = Store.open(store)
    model = load_artefact(artefact)
    opened.require_fingerprint(model.manifest.inputs.fingerprint)
    if any(one.index_sha256 == model.manifest.training.store_index_sha256 for one in opened.manifest.forgotten):
        raise ArtefactError(
            f"{artefact}: a person it was trained on was deleted from {opened.location.uri} on request; train anew"
        )
    modality = model.manifest.inputs.modality
    rows = _present_rows(opened.index, modality)
    if not len(rows):
        raise StoreError(f"{opened.location.uri}: no row of modality {modality}; use a store that holds it")
    with connected(cluster, where=out) as machines, progress("embed") as advance:
        if machines is None:
            embeddings_NE = embed_rows(model, opened, rows["row"].to_pylist(), batch_size, advance)
        else:
            embeddings_NE = embed_on(machines, artefact, opened, rows["row"].to_pylist(), batch_size, advance)
    table = _with_embeddings(model, rows, embeddings_NE)
    Location(folder).write(name, to_bytes(table))
    manifest = model.manifest
    result = {
        "out": out,
        "num_rows": len(table),
        "width": manifest.embedding_width,
        "model": manifest.name,
        "version": manifest.version,
        "fingerprint": manifest.inputs.fingerprint,
    }
    text = f"{len(table)} embeddings of width {manifest.embedding_width} by {manifest.name} {manifest.version}: {out}"
    emit(result, text, as_json=json)
    return EXIT_DONE


def _read_scan(uri: str, name: str) -> bytes:
    from preprocess.errors import UsageError
    from preprocess.sources.reach import read_folder
    from preprocess.storage import Location

    location = Location(uri)
    try:
        return read_folder(location, name=name) if location.is_folder() else location.read()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(
            f"{uri}: no such file; give {name} as .nii or .nii.gz, or as a folder or zip of one DICOM series"
        ) from error


def _present_rows(index: "pa.Table", modality: str) -> "pa.Table":
    import pyarrow.compute as pc

    return index.filter(pc.and_(pc.equal(index["modality"], modality), index["present"])).sort_by("row")


def _with_embeddings(model: "LoadedModel", rows: "pa.Table", embeddings_NE: "np.ndarray") -> "pa.Table":
    """The kept columns of `rows` with a column embedding, list<float32>, and severity where the model tells it."""
    import pyarrow as pa

    from preprocess.schema import OUTCOME_PREFIX

    columns = {name: rows[name] for name in _KEPT_COLUMNS}
    columns["embedding"] = pa.array(list(embeddings_NE), type=pa.list_(pa.float32()))
    if model.severity is not None:
        columns["severity"] = pa.array(model.severity.distances(embeddings_NE), type=pa.float32())
    outcomes = {name: rows[name] for name in rows.column_names if name.startswith(OUTCOME_PREFIX)}
    return pa.table(columns | outcomes)


def _listen(host: str, port: int) -> "socket.socket":
    """A listening socket, made here so that a taken port is one line."""
    import os
    import socket

    from preprocess.errors import UsageError

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family, backlog=128)
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        raise UsageError(f"cannot bind to {host} port {port}: {reason}; choose another --port or --host") from error
