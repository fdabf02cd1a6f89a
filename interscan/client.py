"""A client of the service, for programs: its routes as methods, its answers and problems as typed objects.

It imports neither torch nor the server. docs/library.md has an example, docs/openapi.json what travels.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from interscan.client_calls import Caller
from interscan.client_scans import Scan, files_of, form_body, json_body, scans_by_uri
from preprocess.errors import UsageError

if TYPE_CHECKING:
    from app.model_schemas import ModelSummary, Readiness
    from app.schemas import EmbeddingAnswer, ProgressionAnswer
    from app.trajectory_schemas import TrajectoryAnswer


class Client:
    """A running service.

        with Client("https://host", key) as client:
            answer = client.progression("earlier.nii.gz", "later.nii.gz", gap_days=365)
            print(answer.decision, answer.reasons)

    A scan is a path of this machine, the bytes of a file, or a URI (text with `://`) that the service reads itself
    where its operator allows the prefix. Files are sent piece by piece, without their names, which often name a person.
    Where the service says that it is busy and when to come again, the request is repeated under the same request id
    while `timeout_s` lasts. No redirect is followed. Threads may share a client.

    Args:
        base_url: address of the service, with the prefix of a proxy where there is one.
        key: one of the service's keys; None for a service without keys.
        timeout_s: for one call with its uploads and repeats, seconds.

    Raises:
        UsageError: an address, key or time that cannot be used, or the extra `client` is missing.
    """

    def __init__(self, base_url: str, key: str | None = None, *, timeout_s: float = 300.0) -> None:
        self._caller = Caller(base_url, key, timeout_s)

    def __repr__(self) -> str:
        return f"Client({self._caller.base_url!r})"  # without the key

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; `with` does so by itself."""
        self._caller.close()

    def embedding(self, scan: Scan, *, model: str | None = None, version: str | None = None) -> "EmbeddingAnswer":
        """Embed one scan (POST /v1/embeddings).

        Args:
            scan: NIfTI, or a zip of one DICOM series.
            model: name of a model from `models`; the service's first when not given.
            version: its version; the first of that name when not given.

        Returns:
            The embedding, `width` float32 values, with what was found of the scan; for models of kind severity how far
            it lies from normal.

        Raises:
            ServiceError: the service refused, or no answer came.
            UsageError: a file or value that cannot be sent.
        """
        from app.schemas import EmbeddingAnswer, ScanFields, UriScan

        scans, given = {"the scan": scan}, {"model": model, "version": version}
        uris = scans_by_uri(scans)
        if uris:
            body = json_body(UriScan, given | {"uri": uris[0]})
        else:
            body = form_body(ScanFields, given, ["scan"], files_of(scans))
        return self._caller.parse(self._caller.call("POST", "/v1/embeddings", body), EmbeddingAnswer)

    def progression(
        self,
        earlier: Scan,
        later: Scan,
        *,
        gap_days: float | None = None,
        accept_unproven: bool = False,
        model: str | None = None,
        version: str | None = None,
    ) -> "ProgressionAnswer":
        """Tell what changed between two scans of one person (POST /v1/progression).

        Args:
            earlier: the scan acquired first.
            later: the scan acquired second; a URI where the first is one.
            gap_days: days between them where known, 0 to 40,000; repeated in the answer.
            accept_unproven: decide even with a model that is not shown to be right more often than by chance.
            model: as in `embedding`.
            version: as in `embedding`.

        Returns:
            The answer; read `decision`, and `reasons` where it is undecided.

        Raises:
            ServiceError: the service refused, or no answer came.
            UsageError: a file or value that cannot be sent.
        """
        from app.schemas import PairFields, ProgressionAnswer, UriPair

        scans = {"the earlier scan": earlier, "the later scan": later}
        given = {"gap_days": gap_days, "accept_unproven": accept_unproven, "model": model, "version": version}
        uris = scans_by_uri(scans)
        if uris:
            body = json_body(UriPair, given | {"earlier_uri": uris[0], "later_uri": uris[1]})
        else:
            body = form_body(PairFields, given, ["earlier", "later"], files_of(scans))
        return self._caller.parse(self._caller.call("POST", "/v1/progression", body), ProgressionAnswer)

    def trajectory(
        self,
        scans: Sequence[Scan],
        days: Sequence[float],
        *,
        age: float | None = None,
        accept_unproven: bool = False,
        model: str | None = None,
        version: str | None = None,
    ) -> "TrajectoryAnswer":
        """Tell how one person changes over 2 to 16 visits (POST /v1/trajectories).

        Args:
            scans: one a visit, in any order; all files, or all URIs.
            days: the day of each scan, counted from any one day.
            age: at the first visit, years, where known.
            accept_unproven: as in `progression`.
            model: as in `embedding`; one that tells a change in points.
            version: as in `embedding`.

        Returns:
            The change a year with its interval, the decision and the answers for neighbouring visits.

        Raises:
            ServiceError: the service refused, or no answer came.
            UsageError: a file or value that cannot be sent, or another number of days than of scans.
        """
        from app.trajectory_schemas import TrajectoryAnswer, TrajectoryFields, UriTrajectory, count_mismatch

        if isinstance(scans, str | bytes):
            raise UsageError("scans is one scan; give a list of 2 to 16, one a visit")
        if len(scans) != len(days):
            raise UsageError(count_mismatch(len(scans), len(days)))
        named = {f"scan {position}": scan for position, scan in enumerate(scans, start=1)}
        given = {"days": list(days), "age": age, "accept_unproven": accept_unproven, "model": model, "version": version}
        uris = scans_by_uri(named)
        if uris:
            body = json_body(UriTrajectory, given | {"uris": uris})
        else:
            body = form_body(TrajectoryFields, given, ["scans"] * len(scans), files_of(named))
        return self._caller.parse(self._caller.call("POST", "/v1/trajectories", body), TrajectoryAnswer)

    def models(self) -> "list[ModelSummary]":
        """What can answer (GET /v1/models), the default first.

        Raises:
            ServiceError: the service refused, or no answer came.
        """
        from app.model_schemas import ModelList

        return self._caller.parse(self._caller.call("GET", "/v1/models"), ModelList).models

    def ready(self) -> "Readiness":
        """Whether all models are loaded and checked (GET /readyz); needs no key, and is asked once.

        Returns:
            `status` is `ready` or `not_ready`; `artefacts` says of each model where it stands, and why one failed.

        Raises:
            ServiceError: no answer came.
        """
        from app.model_schemas import Readiness

        reply = self._caller.call("GET", "/readyz", repeats=False)
        return self._caller.parse(reply, Readiness, statuses=(200, 503))
