"""Names and days that say nothing of a person, made of the true ones and a key: the same key gives the same ones.

HMAC-SHA256 (RFC 2104) of each name, so that whoever has the store and not the key can neither read a name nor try out
guesses. Names of one person stay one name, and intervals between days stay what they are (DICOM PS3.15, Annex E,
Retain Longitudinal Temporal Information with Modified Dates).
"""

import hashlib
import hmac
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from preprocess.errors import UsageError
from preprocess.surroundings import readable
from preprocess.types import Finding, Scan

KEY_VARIABLE = "INTERSCAN_DEIDENTIFY_KEY"
_MIN_KEY_BYTES = 16
_DIGITS = 16
"""Hexadecimal, 64 bits: among a million people two alike are one chance in forty million."""
_PLAIN_SESSION = re.compile(r"ses-([A-Za-z]{0,9}\d{1,3}|baseline|screening|followup)")
"""A count such as `ses-01` or `ses-M12`; longer numbers may be dates or numbers of a hospital."""
_PLAIN_RUN = re.compile(r"run-\d{1,2}")
_MOST_DAYS = 40 * 366.0
"""Beyond this a number of days counts from a calendar's beginning and not from a person's first visit."""
_MOST_SHIFT = 3650
_QUOTING = {"damaged", "no_header", "not_a_number", "not_nifti", "unreadable", "wrong_columns", "wrong_file"}
"""Findings whose words may quote a cell, or what else a file holds."""
OLDEST_AGE = 89.0
"""Ages above it identify (45 CFR 164.514(b)(2)(i)(C))."""


class Pseudonyms:
    """What stands for names and days, by one key.

        pseudonyms = Pseudonyms(read_key(Path("key"), os.environ))
        pseudonyms.subject("IXI", "sub-Jane")

    Args:
        key: at least 16 random bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._made: dict[str, tuple[str, ...]] = {}

    @property
    def check(self) -> str:
        """Tells whether two stores were made with one key, and nothing of the key."""
        return self._digest("check")[:32]

    def subject(self, cohort: str, subject_id: str) -> str:
        """A person's id."""
        return f"sub-{self._name('subject', cohort, subject_id)}"

    def session(self, cohort: str, subject_id: str, session_id: str) -> str:
        """A visit's id; a plain count stays, and so does an empty one."""
        if not session_id or _PLAIN_SESSION.fullmatch(session_id):
            return session_id
        return f"ses-{self._name('session', cohort, subject_id, session_id)}"

    def run(self, cohort: str, subject_id: str, session_id: str, run: str) -> str:
        """A repeat's id; a plain count stays, and so does an empty one."""
        if not run or _PLAIN_RUN.fullmatch(run):
            return run
        return f"run-{self._name('run', cohort, subject_id, session_id, run)}"

    def site(self, cohort: str, site: str) -> str:
        """An acquisition site; empty stays empty."""
        return f"site-{self._name('site', cohort, site)}" if site else ""

    def file(self, name: str) -> str:
        """A file of the source, or a row of a table."""
        return f"file-{self._name('file', name)}"

    def text(self, name: str) -> str:
        """Anything else that an account names."""
        return f"entry-{self._name('text', name)}"

    def shift_days(self, cohort: str, subject_id: str) -> float:
        """Days by which all of a person's dates move, 1 to 3,650 into the past."""
        return -float(1 + int(self._digest("shift", cohort, subject_id), 16) % _MOST_SHIFT)

    def _name(self, *parts: str) -> str:
        """The digits for a name.

        Raises:
            UsageError: another name has them already.
        """
        digits = self._digest(*parts)[:_DIGITS]
        if self._made.setdefault(digits, parts) != parts:
            raise UsageError("two names have one pseudonym, by chance; choose another key, for a new store")
        return digits

    def _digest(self, *parts: str) -> str:
        # Lengths in front, so that no two lists of parts are one text.
        text = "".join(f"{len(part)}:{part}" for part in parts)
        return hmac.new(self._key, text.encode(errors="surrogateescape"), hashlib.sha256).hexdigest()


def sayable(finding: Finding, scan: Scan) -> Finding:
    """A finding as it may be stored: by its code alone where the scan has a pseudonym and words may quote its file."""
    if scan.shown and finding.code in _QUOTING:
        return replace(finding, message=f"{scan.name}: {finding.code}; docs/findings.md has the remedy")
    return replace(finding, message=readable(finding.message))


def is_calendar_day(day: float | None) -> bool:
    """Whether a day can only be a date, counted from some calendar's beginning."""
    return day is not None and abs(day) > _MOST_DAYS


def read_key(file: Path | None, environment: Mapping[str, str]) -> bytes:
    """The key.

    Args:
        file: which holds it; one line end at its end is not part of it.
        environment: where `INTERSCAN_DEIDENTIFY_KEY` may stand instead.

    Raises:
        UsageError: there is none, it is too short, or others of this machine may read its file.
    """
    if file is None:
        key = environment.get(KEY_VARIABLE, "").encode()
        where = KEY_VARIABLE
        if not key:
            how = "make one with openssl rand -hex 32"
            raise UsageError(f"--deidentify needs a key; give --key-file, or set {KEY_VARIABLE} ({how})")
    else:
        where = str(file)
        try:
            mode = stat.S_IMODE(file.stat().st_mode)
            key = file.read_bytes()
        except OSError as error:
            reason = os.strerror(error.errno).lower() if error.errno else str(error)
            raise UsageError(f"--key-file {file}: {reason}; give a file that this user can read") from error
        if mode & 0o077 and os.name == "posix":
            raise UsageError(f"--key-file {file}: others may read it (mode {mode:03o}); run chmod 600 {file}")
        key = key.removesuffix(b"\n").removesuffix(b"\r")
    if len(key) < _MIN_KEY_BYTES:
        raise UsageError(f"{where}: a key of {len(key)} bytes is shorter than {_MIN_KEY_BYTES}; draw a random one")
    return key
