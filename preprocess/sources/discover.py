"""Looks at a source and picks the way to list it: BIDS folder, plain folder, or table."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from preprocess.errors import UsageError
from preprocess.file_types import READ_BY, has_ending
from preprocess.sources.bids import list_bids, suffix_of
from preprocess.sources.listing import Listing, file_sizes
from preprocess.sources.nifti import list_folder, list_table
from preprocess.storage import Location
from preprocess.types import Kind

_ALL_VOLUMES: Mapping[str, Kind] = MappingProxyType({})


def list_scans(source_uri: str, modalities: Sequence[str], *, kinds: Mapping[str, Kind] = _ALL_VOLUMES) -> Listing:
    """List the scans of a source.

    Args:
        source_uri: BIDS folder, plain folder of files of one modality, or CSV/TSV table; path or URL.
        modalities: BIDS suffixes to keep.
        kinds: of the modalities that are no volumes; in folders, files are told by the endings of their kind.

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
    first = kinds.get(modalities[0], "volume")
    if _is_bids(sizes, modalities, first):
        listing = list_bids(source, sizes, modalities, kinds)
    else:
        listing = list_folder(source, sizes, modalities, first)
        if not listing.scans:
            listing.notes += _other_kinds(sizes, modalities[0], first)
    _refuse_twins(listing)
    return listing


def _is_bids(sizes: Mapping[str, int], modalities: Sequence[str], first: Kind) -> bool:
    """Whether a folder follows BIDS; without its description file, clips and the like must carry BIDS suffixes too."""
    named = [name for name in sizes if name.startswith("sub-") and "/" in name]
    if "dataset_description.json" in sizes or first == "volume":
        return "dataset_description.json" in sizes or bool(named)
    return any(suffix_of(name) in modalities for name in named)


def _other_kinds(sizes: Mapping[str, int], modality: str, kind: Kind) -> list[str]:
    """What a plain folder without any file of the kind that was asked for holds instead."""
    counts = {other: sum(has_ending(name, other) for name in sizes) for other in READ_BY if other != kind}
    return [
        f'{count} files there could be {other}s; if they are, set kinds.{modality} = "{other}"'
        for other, count in counts.items()
        if count
    ]


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
