"""The pickles of an archive hold modules and tensors that fit their storages, and nothing else."""

import collections
import os
import pickle
import zipfile
from io import BytesIO
from typing import Any

import pytest
import torch

from app.program_pickle import check_pickle
from preprocess.errors import ArtefactError
from tests.support.artefacts import TinyModel
from tests.support.programs import entries, scripted

STORAGES = {"0": 16}


def refused(data: bytes, match: str, storages: dict[str, int] = STORAGES) -> None:
    with pytest.raises(ArtefactError, match=match) as caught:
        check_pickle(data, storages, name="model.ts: data.pkl")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("model.ts: data.pkl ")


def tensor(
    *, num_items: int = 4, key: str = "0", device: str = "cpu", offset: Any = 0, size: Any = (4,), stride: Any = (1,)
) -> bytes:
    """A pickle of one tensor of float32, as Python's own pickler writes it in protocol 2."""

    class Storage:
        pass

    class Pickled:
        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor_v2, (
                Storage(),
                offset,
                size,
                stride,
                False,
                collections.OrderedDict(),
            )

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            return ("storage", torch.FloatStorage, key, device, num_items) if isinstance(value, Storage) else None

    sink = BytesIO()
    Pickler(sink, 2).dump(Pickled())
    return sink.getvalue()


def test_a_tensor_that_fits_its_storage_passes() -> None:
    check_pickle(tensor(), STORAGES, name="x")
    check_pickle(tensor(offset=1, size=(1, 3), stride=(3, 1)), STORAGES, name="x")
    check_pickle(tensor(size=(0, 9), stride=(9, 1)), STORAGES, name="x")


def test_torch_itself_believes_a_size_that_lies_and_the_check_does_not() -> None:
    """The reason for this file: PyTorch gives 255 numbers of a storage of 8, the rest being foreign memory."""
    files = entries(scripted(TinyModel()))
    honest = files["archive/data.pkl"]
    assert honest.count(b"K\x08") == 2
    lying = honest.replace(b"K\x08", b"K\xff")
    sink = BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, content in (files | {"archive/data.pkl": lying}).items():
            archive.writestr(name, content)
    sink.seek(0)
    with pytest.warns(DeprecationWarning, match=r"torch\.jit\.load"):
        assert torch.jit.load(sink).weights_E.shape == (255,)
    storages = {"0": len(files["archive/data/0"])}
    check_pickle(honest, storages, name="x")
    refused(lying, "says that storage 0 has 255 numbers of 4 bytes, and it has 32 bytes", storages)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_items": 5}, "says that storage 0 has 5 numbers of 4 bytes, and it has 16 bytes"),
        ({"size": (5,)}, "a tensor of 5 numbers, up to number 4, of a storage that has 4"),
        ({"offset": 1}, "up to number 4, of a storage that has 4"),
        ({"size": (2, 2), "stride": (3, 1)}, "up to number 4"),
        ({"size": (2**30, 2**30), "stride": (0, 0)}, "a tensor of 1152921504606846976 numbers"),
        ({"offset": -1}, "without sizes"),
        ({"stride": (-1,)}, "without sizes"),
        ({"size": (True,)}, "without sizes"),
        ({"size": (1, 2)}, "without sizes"),
        ({"size": 4}, "is damaged"),
        ({"key": "../1"}, r"asks for the storage '\.\./1', which is not in the archive"),
        ({"device": "cuda:0"}, "something else than a storage of numbers on the CPU"),
    ],
)
def test_a_tensor_that_does_not_fit_its_storage_is_refused(changes: dict[str, Any], message: str) -> None:
    refused(tensor(**changes), message)


class _System:
    def __reduce__(self) -> Any:
        return os.system, ("echo harm",)


class _Evaluated:
    def __reduce__(self) -> Any:
        return eval, ("1",)


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
@pytest.mark.parametrize("thing", [_System(), _Evaluated(), {"deep": [_System()]}])
def test_a_pickle_that_calls_a_function_of_python_is_refused(thing: Any, protocol: int) -> None:
    refused(pickle.dumps(thing, protocol), "asks for '(posix.system|__builtin__.eval)'|has the instruction")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x80\x02c__torch__.torch.classes.dist_c10d\nStore\n)\x81.", r"'__torch__\.torch\.classes\.dist_c10d"),
        (b"\x80\x02c__torch__.torch\nclasses\n)\x81.", r"asks for '__torch__\.torch\.classes'"),
        (b"\x80\x02cposix\nsystem\n.", r"asks for 'posix\.system'"),
        (b"\x80\x02c__torch__\nM\n(tR.", "calls what is no function"),
        (b"\x80\x02K\x00)R.", "calls what is no function"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)\x81.", "makes an object that is no module"),
        (b"\x80\x02K\x00}b.", "sets the state of what is no module"),
        (b"\x80\x02]K\x00K\x01s.", "has the instruction SETITEM"),
        (b"\x80\x02(K\x00K\x01i__torch__\nM\n.", "has the instruction INST"),
        (b"\x80\x02K\x00.K\x00.", "goes on for 3 bytes after its end"),
        (b"\x80\x02\x8a\x01\x05.", "a whole number that is not of 8 bytes"),
        (b"\x80\x02K\x00", "is damaged"),
        (b"\x80\x02h\x07.", "is damaged"),
        (b"\x80\x02t.", "is damaged"),
        (b"", "is damaged"),
        (b"\x80\x02ctorch.jit._pickle\nrestore_type_tag\n(K\x00X\x0c\x00\x00\x00__torch__.M0tR.", "names a type"),
    ],
)  # fmt: skip
def test_an_instruction_that_no_export_has_is_refused(data: bytes, message: str) -> None:
    refused(data, message)
