"""Looks at a source and picks the way to list it: BIDS folder, plain folder, or table."""

from collections.abc import Sequence

from preprocess.errors import UsageError
from preprocess.sources.bids import list_bids
from preprocess.sources.listing import Listing, file_sizes
from preprocess.sources.nifti import list_folder, list_table
from preprocess.storage import Location


def list_scans(source_uri: str, modalities: Sequence[str]) -> Listing:
    """List the scans of a source.

    Args:
        source_uri: BIDS folder, plain folder of NIfTI files, or CSV/TSV table; path or URL.
        modalities: BIDS suffixes to keep.

    Raises:
        UsageError: nothing there, a table without the columns it needs, or two files for the same scan.
        StorageError: the bucket refuses.
    """
    source = Location(source_uri)
    if source_uri.lower().endswith((".csv", ".tsv")):
        return list_table(source_uri, modalities)
    sizes = file_sizes(source)
    if not sizes:
        raise UsageError(
            f"{source_uri}: no such folder, or an empty one; give a BIDS folder, a folder of NIfTI files or a table"
        )
    if "dataset_description.json" in sizes or any(name.startswith("sub-") and "/" in name for name in sizes):
        listing = list_bids(source, sizes, modalities)
    else:
        listing = list_folder(source, sizes, modalities)
    _refuse_twins(listing)
    return listing


def _refuse_twins(listing: Listing) -> None:
    """Two files of one subject, session, run and modality would claim the same row."""
    seen: dict[tuple[str, ...], str] = {}
    for scan, name, _ in listing.scans:
        twin = seen.setdefault((*scan.visit, scan.modality), name)
        if twin != name:
            raise UsageError(
                f"{listing.root.uri}: {twin} and {name} are both {scan.name}; "
                "keep one, or tell them apart by run-1 and run-2"
            )
