"""The account of each source in the store: a file named by its own digest, and counts in store.json.

The file is written before store.json names it and an old one is dropped after that, so store.json never points at
nothing and a run that was cut off leaves the old account standing. At most `MOST_ENTRIES` entries of a code are listed;
the counts are of all.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from preprocess.errors import StoreError
from preprocess.schema import ACCOUNTS_FOLDER, SourceAccount, StoreManifest
from preprocess.sources.reconciliation import Reconciliation
from preprocess.storage import Location

MOST_ENTRIES = 10_000
"""About 2 MB of one code: a data set of 100,000 derivatives must not make a store of megabytes of their names."""


def describe(account: Reconciliation) -> tuple[SourceAccount, bytes]:
    """What store.json holds of an account, and the file it names."""
    content = json.dumps(account.to_dict(limit=MOST_ENTRIES), indent=1).encode()
    digest = hashlib.sha256(content).hexdigest()
    counts = {str(part): by_code for part, by_code in account.counts().items()}
    entry = SourceAccount(
        name=f"{ACCOUNTS_FOLDER}/{digest[:16]}.json", sha256=digest, files=account.files, counts=counts
    )
    return entry, content


def write_account(
    store: Location, manifest: StoreManifest | None, cohort: str, account: Reconciliation
) -> dict[str, SourceAccount]:
    """Write the file of a cohort's account; returns all accounts that store.json is to name."""
    entry, content = describe(account)
    store.write(entry.name, content)
    return {**(manifest.reconciliation if manifest is not None else {}), cohort: entry}


def drop_replaced(store: Location, before: StoreManifest | None, after: Mapping[str, SourceAccount]) -> None:
    """Delete files of accounts that store.json named before and names no longer."""
    named = {entry.name for entry in after.values()}
    for entry in () if before is None else before.reconciliation.values():
        if entry.name not in named:
            store.delete(entry.name)


def read_account(store: Location, manifest: StoreManifest, cohort: str) -> dict[str, Any] | None:
    """A cohort's account as `Reconciliation.to_dict` wrote it; None in a store that has none for it.

    Raises:
        StoreError: the file is missing or is not the one that store.json names.
    """
    entry = manifest.reconciliation.get(cohort)
    if entry is None:
        return None
    try:
        content = store.read(entry.name)
    except FileNotFoundError as error:
        raise StoreError(f"{store.uri}: {entry.name} is missing; run interscan preprocess again") from error
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise StoreError(f"{store.uri}: {entry.name} was changed; run interscan preprocess again")
    found: dict[str, Any] = json.loads(content)
    return found
