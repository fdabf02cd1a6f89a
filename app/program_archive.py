"""Reads a TorchScript archive as the zip it is, within bounds, and packs what was read into an archive of its own.

PyTorch reads zip files with a reader of its own, which need not agree with Python's about a file that was made to be
read in two ways. So what is loaded is never the file that came: it is an archive of the entries that were checked here.
Format: torch/csrc/jit/docs/serialization.md of PyTorch.
"""

import io
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass, field

from preprocess.errors import ArtefactError

MOST_ENTRIES = 20_000
"""Files within an archive; a ResNet-50 with BatchNorm has 645."""
LARGEST_TEXT_BYTES = 2 << 20
"""The most that one file of code or one pickle may unpack to."""
LARGEST_TEXTS_BYTES = 8 << 20
"""The most that all of them together may; a ResNet-50 has 0.24 MiB."""

_SMALL = {"version", "byteorder", ".data/serialization_id", ".format_version", ".storage_alignment"}
_SMALL_BYTES = 256
_PICKLES = ("data.pkl", "constants.pkl")
_CODE = re.compile(r"code/__torch__(/\w+)*\.py", re.ASCII)
_WEIGHTS = re.compile(r"(data|constants)/\d{1,9}", re.ASCII)
_LEFT_OUT = re.compile(r"code/__torch__(/\w+)*\.py\.debug_pkl|traced_inputs(\.pkl|/\d{1,9})", re.ASCII)
"""Lines of the Python source, and the inputs of tracing: never needed to compute, so neither read nor loaded."""
_ENCRYPTED = 0x1
_DAMAGE = (
    zipfile.BadZipFile,
    NotImplementedError,
    EOFError,
    OSError,
    OverflowError,
    ValueError,
    IndexError,
    RuntimeError,
)
_WHOLE = "export the model again with interscan export"


@dataclass(frozen=True, slots=True)
class ProgramArchive:
    """The entries of a TorchScript archive, by their names below its top folder.

    Attributes:
        code: TorchScript source, by name.
        pickles: `data.pkl` and `constants.pkl`.
        weights: bytes of each storage, by name: `data/0`, `constants/0` and so on.
        small: version of the format, byte order and the like.
    """

    code: dict[str, str] = field(default_factory=dict)
    pickles: dict[str, bytes] = field(default_factory=dict)
    weights: dict[str, bytes] = field(default_factory=dict)
    small: dict[str, bytes] = field(default_factory=dict)

    def pack(self) -> io.BytesIO:
        """The same as an archive that `torch.jit.load` reads; what is not needed to compute is left out."""
        sink = io.BytesIO()
        texts = {name: text.encode("ascii") for name, text in self.code.items()}
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
            for name, data in (self.small | self.pickles | texts | self.weights).items():
                archive.writestr(zipfile.ZipInfo(f"archive/{name}"), data)
        sink.seek(0)
        return sink


def read_archive(data: bytes, *, name: str) -> ProgramArchive:
    """Read the whole archive; nothing in it is run.

        archive = read_archive(data, name="models/demo/1/model.ts")
        archive.code["code/__torch__/trainer/fit/trained.py"]

    Args:
        data: the file.
        name: how messages call it.

    Raises:
        ArtefactError: no zip archive, or one that is encrypted, too large, damaged, holds an entry that TorchScript
            does not write, or unpacks to more than the bounds above; weights must not be compressed.
    """
    # PyTorch goes by the first bytes; another format of its own (flatbuffers) must not get past this reader.
    if not data.startswith(b"PK\x03\x04"):
        raise ArtefactError(f"{name}: not a TorchScript file; export the model again")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _read(archive, len(data), name)
    # What zipfile raises on damaged files, by its source: of headers, of unknown compression, of compressed bytes.
    except (*_DAMAGE, zlib.error, struct.error) as error:
        raise ArtefactError(f"{name}: a damaged zip archive ({_said(error)}); {_WHOLE}") from error


def _read(archive: zipfile.ZipFile, num_bytes: int, name: str) -> ProgramArchive:
    entries = archive.infolist()
    if len(entries) > MOST_ENTRIES:
        raise ArtefactError(f"{name}: {len(entries)} files inside, more than {MOST_ENTRIES}; {_WHOLE}")
    # Entries that share bytes are how a small file unpacks to a large one without compression.
    if sum(entry.compress_size for entry in entries) > num_bytes:
        raise ArtefactError(f"{name}: the files inside are larger than the archive ({num_bytes} bytes); {_WHOLE}")
    found, seen, num_text_bytes = ProgramArchive(), set[str](), 0
    top = entries[0].filename.partition("/")[0] if entries else ""
    for entry in entries:
        folder, _, inner = entry.filename.partition("/")
        shown = repr(entry.filename[:80])
        if folder != top or not re.fullmatch(r"[\w.-]+", top, re.ASCII) or set(top) == {"."} or inner in seen:
            raise ArtefactError(f"{name}: {shown} is there twice, or not in the one folder of the archive; {_WHOLE}")
        seen.add(inner)
        if entry.flag_bits & _ENCRYPTED:
            raise ArtefactError(f"{name}: {shown} is encrypted; {_WHOLE}")
        if _LEFT_OUT.fullmatch(inner):
            continue
        if _WEIGHTS.fullmatch(inner):
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise ArtefactError(f"{name}: {shown} is compressed, which weights never are; {_WHOLE}")
            found.weights[inner] = archive.read(entry)
        elif inner in _SMALL:
            found.small[inner] = _bounded(archive, entry, _SMALL_BYTES, name)
        elif inner in _PICKLES or _CODE.fullmatch(inner):
            text = _bounded(archive, entry, LARGEST_TEXT_BYTES, name)
            num_text_bytes += len(text)
            if num_text_bytes > LARGEST_TEXTS_BYTES:
                raise ArtefactError(f"{name}: code and pickles of more than {LARGEST_TEXTS_BYTES >> 20} MiB; {_WHOLE}")
            if inner in _PICKLES:
                found.pickles[inner] = text
            else:
                found.code[inner] = _plain(text, f"{name}: {shown}")
        else:
            raise ArtefactError(f"{name}: {shown} is no file that TorchScript writes; {_WHOLE}")
    missing = [one for one in (*_PICKLES, "version") if one not in found.pickles | found.small]
    if missing:
        raise ArtefactError(f"{name}: not a TorchScript file: no {missing[0]} inside; {_WHOLE}")
    return found


def _bounded(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int, name: str) -> bytes:
    if entry.file_size > limit:
        raise ArtefactError(
            f"{name}: {entry.filename[:80]!r} unpacks to {entry.file_size} bytes, more than {limit}; {_WHOLE}"
        )
    # zipfile stops at the size in the entry's header, whatever the compressed bytes would go on to.
    return archive.read(entry)


def _plain(text: bytes, where: str) -> str:
    """Source as text, of the characters in which Python and TorchScript read the same words.

    A comment, a continued line, a carriage return or a tab could hide from one what the other runs; exports have none.
    """
    source = text.decode("latin-1")
    found = re.search(r"[^\x20-\x7e\n]|#|\\\n", source)
    if found:
        line = source.count("\n", 0, found.start()) + 1
        raise ArtefactError(f"{where} has {found[0][:1]!r} in line {line}, which exported code never has; {_WHOLE}")
    return source


def _said(error: Exception) -> str:
    """What a library said, on one line and no longer than needed: it may quote the file."""
    return " ".join(str(error).split())[:80].encode("ascii", "backslashreplace").decode()
