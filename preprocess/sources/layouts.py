"""Layouts of folders that are not understood: what was seen, and the table that would say it. Pure.

Each rule is a folder that was once guessed wrongly: sessions that became people, a release whose people became one, a
folder of groups. OASIS-3 and ADNI releases are recognised by their labels.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from preprocess.errors import UsageError
from preprocess.file_types import without_ending
from preprocess.sources import names as naming
from preprocess.types import Kind

_OASIS = re.compile(r"(OAS\d{4,5})_[A-Za-z0-9]+_d\d{4}")
_ADNI = re.compile(r"\d{3}_S_\d{4,5}")
_DATA_FOLDERS = frozenset(["anat", "func", "dwi", "perf", "fmap", "pet", "meg", "eeg", "ieeg", "beh", "micr", "us"])
_YEAR = re.compile(r"(?:18|19|20)\d\d")
_MOST_FILES = 100
"""Nobody is scanned more often; a folder with more files holds a class of people."""
_NUMBERED = re.compile(r"(.*[^\d])(\d{1,2})")


def refuse_misplaced(uri: str, names: Iterable[str]) -> None:
    """Refuse a folder that holds BIDS folders one or more levels deeper, or that is the folder of one subject.

    Args:
        uri: the folder.
        names: names of its files that look like scans; none lies in a folder `sub-*` at the top.

    Raises:
        UsageError: with the folder to give instead.
    """
    parents: dict[str, str] = {}
    for name in names:
        folders = name.split("/")[:-1]
        deeper = next((index for index, folder in enumerate(folders) if folder.startswith("sub-")), None)
        if deeper:
            parents.setdefault("/".join(folders[:deeper]), folders[deeper])
        elif name.rpartition("/")[2].startswith("sub-") and _DATA_FOLDERS & set(folders):
            subject = name.rpartition("/")[2].split("_")[0]
            raise UsageError(f"{uri}: holds {name}, so it is a folder of {subject} alone; give the folder above sub-*")
    if parents:
        shown = [f"{uri.rstrip('/')}/{parent}" for parent in parents]
        which = shown[0] if len(shown) == 1 else f"one of {', '.join(shown[:3])}{' ...' if len(shown) > 3 else ''}"
        first = next(iter(parents))
        raise UsageError(
            f"{uri}: sub-* lie {_levels(first)} deeper ({first}/{parents[first]}); give {which}, or a table"
        )


def _levels(parent: str) -> str:
    depth = parent.count("/") + 1
    return "one level" if depth == 1 else f"{depth} levels"


def refuse_unclear(uri: str, names: Sequence[str], kind: Kind, modalities: Sequence[str] = ()) -> None:
    """Refuse a plain folder whose names do not say which part is the person.

    Args:
        uri: the folder.
        names: names of its files that are taken for scans.
        kind: kind of their modality; only volumes have names of sequences.
        modalities: that are requested; a BIDS name that ends in one says whose it is and is never unclear.

    Raises:
        UsageError: with the layout that was seen, and a line of the table to give instead.
    """
    for name in names:
        if found := _OASIS.search(name):
            release = "OASIS-3, whose folders are sessions"
            raise _refusal(uri, name, f"{name} looks like {release}, not people", found[1], found[0], kind="oasis3")
        if (found := _ADNI.search(name)) and (name.count("/") > 1 or "MR_" in name or found.start() > 0):
            raise _refusal(uri, name, f"{name} looks like a release of ADNI", found[0], kind="adni")
        if name.count("/") > 2:
            raise _refusal(uri, name, f"{name} lies {name.count('/')} folders deep, and two are understood")
    unclear = [name for name in names if not naming.is_bids_name(without_ending(name), modalities)]
    deep = [name for name in unclear if "/" in name]
    flat = [name for name in unclear if "/" not in name]
    _refuse_folders(uri, deep, kind)
    _refuse_flat(uri, flat, kind)


def _refuse_folders(uri: str, names: Sequence[str], kind: Kind) -> None:
    people: dict[str, dict[str, str]] = defaultdict(dict)
    counts = Counter(name.partition("/")[0] for name in names)
    words: dict[str, dict[str, str]] = defaultdict(dict)
    for name in names:
        first, *middle, _ = name.split("/")
        stem = without_ending(name)
        if naming.is_group(first):
            raise _refusal(uri, name, f"the folder {first} is called like a group and not like a person")
        if counts[first] > _MOST_FILES:
            raise _refusal(uri, name, f"the folder {first} holds {counts[first]} files, too many for one person")
        if naming.is_date(first) or naming.session_word(first) == first:
            raise _refusal(uri, name, f"the folder {first} is called like a visit and not like a person")
        if middle and not _is_visit(middle[0], kind):
            raise _refusal(uri, name, f"{first}/{middle[0]}: nothing says which of the two is the person")
        if person := naming.person_word(stem):
            people[first][person.lower()] = name
        if kind == "volume" and not middle and re.fullmatch(r"[A-Za-z]{3,}", stem) and not _is_known(stem):
            words[first][stem.lower()] = name
    for first, found in people.items():
        if len(found) > 1:
            who = " and ".join(sorted(found)[:2])
            raise _refusal(uri, next(iter(found.values())), f"the folder {first} holds {who}, several people")
    for first, found in words.items():
        if len(found) > 1:
            which = " and ".join(sorted(found)[:2])
            raise _refusal(uri, next(iter(found.values())), f"the folder {first} holds {which}: people or visits?")


def _is_visit(folder: str, kind: Kind) -> bool:
    if naming.is_date(folder) or _YEAR.fullmatch(folder) or naming.session_word(folder):
        return not naming.person_word(folder)
    return kind == "volume" and naming.is_modality_word(folder)


def _is_known(stem: str) -> bool:
    return bool(naming.session_word(stem) or naming.is_modality_word(stem))


def _refuse_flat(uri: str, names: Sequence[str], kind: Kind) -> None:
    numbered: dict[str, dict[str, str]] = defaultdict(dict)
    for name in names:
        stem = without_ending(name)
        plain = naming.without_modality(stem) if kind == "volume" else stem
        words = naming.words_of(plain)
        if not words:
            raise _refusal(uri, name, f"{name} says what it shows, but not whom")
        visit = naming.session_word(plain)
        if visit and (len(words) > 1 or not re.fullmatch(r"(?:scan|t|d|m|s|v|y|w)\d+", visit, re.IGNORECASE)):
            raise _refusal(uri, name, f"{name} says a visit ({visit}), so files are not people")
        if (side := naming.side_word(plain)) and len(words) > 1:
            raise _refusal(uri, name, f"{name} says a side ({side}), so files are not people")
        if len(words) > 1 and (found := _NUMBERED.fullmatch(plain)):
            numbered[found[1]][found[2]] = name
    several = [files for files in numbered.values() if len(files) > 1]
    if len(several) > 1:
        first, second = list(several[0].values())[:2]
        raise _refusal(uri, first, f"{first} and {second} may be two visits of one person, or two people")


def _refusal(
    uri: str, name: str, seen: str, subject: str = "SUBJECT", session: str = "SESSION", *, kind: str = ""
) -> UsageError:
    line = f"{name},{subject},{session},DAY"
    return UsageError(
        f"{uri}: {seen}; give a CSV table with the columns path,subject_id,session_id,day and a line a scan, "
        f"such as {line}" + (f", or --source-kind {kind}" if kind else "")
    )
