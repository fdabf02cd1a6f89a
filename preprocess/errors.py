"""The errors a user can cause; each is one line with what, the value, the limit and the remedy.

InterscanError              exit code 3
├── UsageError              exit code 2: a command line, a path or a recipe that cannot be followed
├── ScanError               one scan cannot be used; carries the finding; a run goes on without the scan
├── StoreError              the store breaks its contract
├── RunError                a training run breaks its contract
├── ArtefactError           the artefact breaks its contract
├── StorageError            a bucket or disk refuses or cannot be reached
└── Interrupted             exit code 130: stopped after a clean checkpoint
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from preprocess.types import Finding


class InterscanError(Exception):
    """Root of all errors a user can mend; `exit_code` is what the command line returns for it."""

    exit_code = 3


class UsageError(InterscanError):
    """A command line, path or recipe that cannot be followed."""

    exit_code = 2


class ScanError(InterscanError):
    """One scan cannot be used.

    Attributes:
        finding: the reason, as it is stored in the index and answered by the service.
    """

    def __init__(self, finding: "Finding") -> None:
        super().__init__(finding.message)
        self.finding = finding


class StoreError(InterscanError):
    """The store breaks its contract: missing, damaged, or of another fingerprint."""


class RunError(InterscanError):
    """A training run breaks its contract: missing, damaged, or of another recipe or store."""


class ArtefactError(InterscanError):
    """The artefact breaks its contract: missing, damaged, or of another schema."""


class StorageError(InterscanError):
    """A bucket or disk refuses, or cannot be reached."""


class Interrupted(InterscanError):  # noqa: N818 - a requested state, not a fault
    """Stopped on request, after everything needed to go on was written."""

    exit_code = 130
