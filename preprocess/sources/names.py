"""What names of files and folders say: BIDS entities, modality, visit, person, and whether an image is a derived one.

BIDS names follow the specification's grammar (entities `key-label`, labels of letters, digits and +, then the suffix);
misspellings seen in public releases are read and said. Plain names are split into words, and only words that the field
uses for one thing are believed. Pure.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from preprocess.file_types import without_ending

_LABEL = re.compile(r"[A-Za-z0-9+]+")
_SPELT_SESSION = re.compile(r"(?:sess?|session)[-_](.+)", re.IGNORECASE)
_DERIVED_ENTITIES = ("space", "desc", "label", "res", "den", "atlas", "seg", "from", "to", "mode")
"""Entities that only derivatives carry (BIDS derivatives, common file level)."""
_DERIVED_WORDS = {
    "mask", "masks", "brainmask", "defacemask", "dseg", "probseg", "seg", "segmentation", "aseg", "aparc", "wmparc",
    "ribbon", "parc", "parcellation", "label", "labels", "labelmap", "lesion", "lesions", "roi", "rois", "pve",
    "probmap", "prob", "warped", "jacobian", "xfm",
}  # fmt: skip
"""Words for images that were made from a scan; as a BIDS suffix or as a word of a plain name."""

_MODALITY_WORDS = {
    **dict.fromkeys(["t1", "t1w", "mprage", "memprage", "mp2rage", "spgr", "fspgr", "bravo", "tfe", "tfl"], "T1w"),
    **dict.fromkeys(["t1c", "t1ce", "t1gd", "t1post"], "T1ce"),
    **dict.fromkeys(["t2", "t2w"], "T2w"),
    **dict.fromkeys(["flair", "t2flair"], "FLAIR"),
    **dict.fromkeys(["t2star", "t2starw", "t2s"], "T2starw"),
    **dict.fromkeys(["dwi", "dti", "adc", "trace"], "dwi"),
    **dict.fromkeys(["bold", "fmri", "rsfmri"], "bold"),
    **dict.fromkeys(["swi", "swan"], "swi"),
    "asl": "asl",
    "pdw": "PDw",
    "tof": "angio",
    "angio": "angio",
    "mra": "angio",
    "localizer": "localizer",
    "scout": "localizer",
}
_LAST_MODALITY_WORDS = {
    "pd": "PDw",
    "ct": "ct",
    "pet": "pet",
    "rest": "bold",
    "phase": "phase",
    "magnitude": "magnitude",
}
"""Believed only as the last word: at the beginning they are as often a diagnosis or a group."""

_DATE = re.compile(r"(?:18|19|20)\d\d[-_.]?[01]\d[-_.]?[0-3]\d")
_SESSION_WORD = re.compile(
    r"(?:ses|sess|session|visit|vis|v|tp|time|timepoint|t|scan|m|mo|month|y|yr|year|w|week|wk|d|day|wave|exam)[-_]?\d+r?"
    r"|bl|baseline|base|followup|follow|fu\d*|sc|screening|init|pre|post|early|late|first|second|third|last|test|retest"
    r"|rescan|repeat|before|after",
    re.IGNORECASE,
)
_PERSON_WORD = re.compile(
    r"(?:sub|subj|subject|patient|pat|pt|case|participant|person|control|ctrl|ixi|oas)\d+",
    re.IGNORECASE,
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_SIDES = frozenset({"left", "right", "od", "os"})
_GROUPS = {
    "control", "controls", "patient", "patients", "case", "cases", "healthy", "normal", "normals", "abnormal",
    "diseased", "disease", "ad", "cn", "mci", "hc", "ms", "nc", "emci", "lmci", "smc", "demented", "nondemented",
    "train", "training", "test", "testing", "val", "valid", "validation", "image", "images", "data", "dataset", "nifti",
    "nii", "raw", "rawdata", "scan", "scans", "subjects", "t1", "t2", "mri", "male", "female", "group", "grp", "site",
    "covid", "covid19", "cov", "pneumonia", "pneu", "bacterial", "viral", "regular", "reg", "benign", "malignant",
    "tumor", "tumour", "glaucoma", "cataract", "retinopathy", "positive", "negative", "yes",
    "no", "grade",
}  # fmt: skip
_GROUP_WORD = re.compile(
    r"(?:group|grp|site|center|centre|class|grade|fold|batch|set|scanner|release|disc)[-_]?\w{0,2}"
)


@dataclass(frozen=True, slots=True)
class BidsName:
    """What the path of a file in a subject's folder says.

    Attributes:
        subject_id: with `sub-`, as the folder spells it.
        session_id: with `ses-`; empty where there are no sessions.
        folder_session: the session's folder, with `ses-`; empty without one.
        run: every other entity, joined by underscores.
        suffix: what stands behind the last underscore.
        subjects: all subjects named in the path, the folder's first.
        sessions: all sessions named in the path, the folder's first.
        misspelt: a part that was read in another spelling, such as `sess-01`; else empty.
        illegal: a label with characters that the grammar does not allow; else empty.
        derived: the entity or suffix that says that the image is derived; else empty.
    """

    subject_id: str
    session_id: str
    folder_session: str
    run: str
    suffix: str
    subjects: tuple[str, ...]
    sessions: tuple[str, ...]
    misspelt: str = ""
    illegal: str = ""
    derived: str = ""


def read_bids_name(name: str) -> BidsName:
    """Read the path of a file below `sub-*`.

    Args:
        name: relative to the data set, for example `sub-01/ses-02/anat/sub-01_ses-02_T1w.nii.gz`.
    """
    subject, *folders, _ = name.split("/")
    stem = without_ending(name)
    spelt = [(folder, found[1]) for folder in folders if (found := _SPELT_SESSION.fullmatch(folder))]
    folder_session = f"ses-{spelt[0][1]}" if spelt else ""
    misspelt = next((folder for folder, label in spelt if folder != f"ses-{label}"), "")
    subjects = [subject, *(folder for folder in folders if folder.startswith("sub-"))]
    sessions = [f"ses-{label}" for _, label in spelt]
    rest = stem
    # A label with an underscore in it can only be read from the folder of its name.
    for known in (subject, folder_session):
        if known and rest.lower().startswith(f"{known.lower()}_"):
            if not rest.startswith(known):
                misspelt = misspelt or rest[: len(known)]
            rest = rest[len(known) + 1 :]
            (sessions if known == folder_session else subjects).append(known)
    *parts, suffix = rest.split("_")
    entities: list[str] = []
    while parts:
        part = parts.pop(0)
        word = part.lower()
        if word in ("sub", "ses", "sess", "session") and parts:  # ses_02 for ses-02
            label = parts.pop(0)
            misspelt = misspelt or f"{part}_{label}"
            part = f"{word}-{label}"
        if part.lower().startswith("sub-"):
            subjects.append(f"sub-{part[4:]}")
        elif found := _SPELT_SESSION.fullmatch(part):
            misspelt = misspelt or ("" if part.startswith("ses-") else part)
            sessions.append(f"ses-{found[1]}")
        else:
            entities.append(part)
    keys = {entity.partition("-")[0]: entity for entity in entities}
    derived = next((keys[key] for key in _DERIVED_ENTITIES if key in keys), "")
    if suffix.lower() in _DERIVED_WORDS:
        derived = derived or suffix
    labels = [subject[4:], *(session[4:] for session in sessions)]
    return BidsName(
        subject_id=subject,
        session_id=sessions[-1] if sessions else "",
        folder_session=folder_session,
        run="_".join(entities),
        suffix=suffix,
        subjects=tuple(dict.fromkeys(subjects)),
        sessions=tuple(dict.fromkeys(sessions)),
        misspelt=misspelt,
        illegal=next((label for label in labels if not _LABEL.fullmatch(label)), ""),
        derived=derived,
    )


def is_bids_name(stem: str, modalities: Collection[str]) -> bool:
    """Whether a file's name is that of BIDS wherever it lies: `sub-`, entities, and a suffix that says a modality."""
    found = re.fullmatch(r"sub-[^_]+(?:_[A-Za-z]+-[^_]+)*(?:_([A-Za-z0-9]+))?", stem)
    return found is not None and (found[1] is None or found[1] in modalities or is_modality_word(found[1]))


def suffix_of(name: str) -> str:
    """The BIDS suffix of a file name: what stands behind its last underscore."""
    return without_ending(name).rpartition("_")[2]


def nearest(suffix: str, modalities: Sequence[str]) -> str:
    """The modality that a suffix is, or is another spelling of, such as T1W or T1 for T1w; empty for others."""
    spelt = (suffix.lower(), f"{suffix.lower()}w")
    return suffix if suffix in modalities else next((one for one in modalities if one.lower() in spelt), "")


def is_oasis_day_slip(name: BidsName) -> bool:
    """Whether folder and file disagree as in OASIS-3 copies made by an old script, which garbled the folder's day."""
    return (
        bool(re.match(r"sub-OAS\d", name.subject_id))
        and len(name.sessions) == 2
        and all(re.fullmatch(r"ses-d\d{4}", session) for session in name.sessions)
    )


def readable(text: str) -> str:
    r"""Text with bytes that are no UTF-8 written out (`M\xfcller`), so that tables and JSON can hold it."""
    return _SURROGATE.sub(_written_out, text)


def _written_out(found: re.Match[str]) -> str:
    code = ord(found[0])
    # Python reads a byte b that is no UTF-8 as the lone surrogate DC00 + b (PEP 383); JSON may hold any other one.
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def words_of(text: str) -> list[str]:
    """A plain name's words: what underscores, dashes, dots and spaces separate."""
    return [word for word in re.split(r"[\s_.\-]+", text) if word]


def modalities_of(words: Sequence[str]) -> set[str]:
    """The modalities that words of a plain name say, as BIDS suffixes; FLAIR says more than the T2 beside it."""
    found = {_MODALITY_WORDS[word.lower()] for word in words if word.lower() in _MODALITY_WORDS}
    if words and words[-1].lower() in _LAST_MODALITY_WORDS:
        found.add(_LAST_MODALITY_WORDS[words[-1].lower()])
    return found - {"T2w"} if "FLAIR" in found else found


def is_modality_word(word: str) -> bool:
    """Whether the word says a modality and nothing else."""
    return word.lower() in _MODALITY_WORDS


def without_modality(stem: str) -> str:
    """The stem without words that say a modality; what separates the other words stays."""
    kept = stem
    for word in words_of(stem):
        if modalities_of([word]) and (is_modality_word(word) or kept.endswith(word)):
            kept = re.sub(rf"(?:^|[\s_.\-]+){re.escape(word)}(?=$|[\s_.\-])", "", kept, count=1)
    return kept.lstrip("_-. ")


def derived_word(words: Sequence[str]) -> str:
    """The word that says that an image is a mask, a label map or another derived one; else empty."""
    return next((word for word in words if word.lower() in _DERIVED_WORDS), "")


def is_date(text: str) -> bool:
    """Whether a name begins with a date, such as 2019-03-01 or 2006-05-02_12_31_52.0."""
    return bool(_DATE.match(text))


def session_word(text: str) -> str:
    """The word of a name that says a visit, such as a date, `visit2`, `bl` or `m12`; else empty."""
    if date := _DATE.search(text):
        return date[0]
    return next((word for word in words_of(text) if _SESSION_WORD.fullmatch(word)), "")


def person_word(text: str) -> str:
    """The word of a name that looks like a person's, such as `patient7` or `IXI012`; else empty."""
    return next((word for word in words_of(text) if _PERSON_WORD.fullmatch(word)), "")


def side_word(text: str) -> str:
    """The word of a name that says left or right; else empty."""
    return next((word for word in words_of(text) if word.lower() in _SIDES), "")


def is_group(folder: str) -> bool:
    """Whether a folder is called like a group of people and not like a person."""
    lower = folder.lower()
    return lower in _GROUPS or bool(_GROUP_WORD.fullmatch(lower))
