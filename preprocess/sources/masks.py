"""Finds the brain mask of each scan in a folder, by the names that skull-stripping programs and BIDS derivatives give.

A mask belongs to a scan when it lies in a folder of the same name below `--masks` and is called like the scan, or,
anywhere there, when its name holds the scan's person and is that of the scan. Nothing else is guessed: the mask of
another visit fits nearly as well as its own.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from preprocess.errors import UsageError
from preprocess.file_types import has_ending, without_ending
from preprocess.sources.files import list_files
from preprocess.sources.listing import Listing
from preprocess.storage import Location
from preprocess.types import Scan

_MASK_WORDS = re.compile(
    r"[-_.](?:desc-brain_mask|brain_?mask|bet_mask|brain_extraction_mask|mask|brain)$", re.IGNORECASE
)
"""fMRIPrep, FreeSurfer and SynthStrip by habit, BET and HD-BET (`_bet_mask`, `_mask`)."""
_OWN_SPACE = re.compile(r"_space-(?:orig|T1w|individual)(?=_|$)")
"""Entities that say the scan's own space; a mask of a template's does not lie on the scan."""
_SHOWN = 3


def with_masks(listing: Listing, masks: Location) -> list[str]:
    """Give each scan of a listing its mask.

    Args:
        listing: changed in place; scans without a mask stay as they are.
        masks: folder of masks.

    Returns:
        Lines about what was found.

    Raises:
        UsageError: no mask is there or none belongs to a scan, or two belong to one.
        StorageError: the folder cannot be read.
    """
    names = [name for name in list_files(masks).sizes if has_ending(name, "volume")]
    if not names:
        raise UsageError(f"--masks {masks.uri}: no NIfTI file there; give the folder of the brain masks")
    by_place: dict[tuple[str, str], list[str]] = defaultdict(list)
    by_name: dict[str, list[str]] = defaultdict(list)
    for name in names:
        called = _called(name)
        by_place[name.rpartition("/")[0], called].append(name)
        by_name[called].append(name)
    used: set[str] = set()
    scans = []
    for scan, name, num_bytes in listing.scans:
        fits = _fitting(scan, name, by_place, by_name)
        if len(fits) > 1:
            raise UsageError(
                f"--masks {masks.uri}: {len(fits)} masks fit {scan.name} ({', '.join(fits[:_SHOWN])}); leave one there"
            )
        used.update(fits)
        scans.append((replace(scan, mask_uri=masks.child(fits[0]).uri if fits else ""), name, num_bytes))
    if not used and scans:
        raise UsageError(
            f"--masks {masks.uri}: none of {len(names)} NIfTI files is called like a scan, for example "
            f"{scans[0][0].name}_mask.nii.gz; see docs/preparation.md for the names"
        )
    listing.scans[:] = scans
    num_with = sum(bool(scan.mask_uri) for scan, _, _ in scans)
    lines = [] if num_with == len(scans) else [f"{len(scans) - num_with} of {len(scans)} scans have no brain mask"]
    if len(used) < len(names):
        lines.append(f"{len(names) - len(used)} of {len(names)} files in --masks belong to no scan that is listed")
    return lines


def _called(name: str) -> str:
    """A mask's name without folder, ending, what says that it is a mask, and an entity that names the scan's space."""
    called = without_ending(name)
    return _OWN_SPACE.sub("", _MASK_WORDS.sub("", called))


def _fitting(
    scan: Scan, name: str, by_place: Mapping[tuple[str, str], Sequence[str]], by_name: Mapping[str, Sequence[str]]
) -> list[str]:
    """Masks of a scan: by the first way of naming that finds any."""
    own = without_ending(name)
    # BIDS derivatives leave the suffix of the scan out: sub-01_ses-02_desc-brain_mask.
    short = own.removesuffix(f"_{scan.modality}")
    folder = name.rpartition("/")[0]
    ways = [by_place.get((folder, one), ()) for one in (own, short)]
    person = scan.subject_id.removeprefix("sub-")
    bids = scan.name.removesuffix(f"_{scan.modality}")
    ways += [by_name.get(one, ()) for one in (own, scan.name, short, bids) if person and person in one]
    return list(next((way for way in ways if way), ()))
