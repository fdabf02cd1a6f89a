"""Reads a pickle of a TorchScript archive as a list of what it asks for, and refuses all but tensors and modules.

Nothing is called and nothing is imported: each instruction is followed on a stack of plain values. PyTorch's own reader
believes what a pickle says of a tensor: one of 255 numbers over a storage of 4 reads 251 numbers of foreign memory. So
the size of each tensor is held against the bytes that are there.
Source: torch/csrc/jit/serialization/unpickler.cpp of PyTorch, whose instructions these are; pickletools names them.
"""

import math
import pickletools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from preprocess.errors import ArtefactError

MOST_INSTRUCTIONS = 1_000_000
"""The most that one pickle may have; those of a ResNet-50 are of 34 kB, so fewer than 34,000."""

_ITEM_BYTES = {
    "torch DoubleStorage": 8,
    "torch FloatStorage": 4,
    "torch HalfStorage": 2,
    "torch BFloat16Storage": 2,
    "torch LongStorage": 8,
    "torch IntStorage": 4,
    "torch ShortStorage": 2,
    "torch CharStorage": 1,
    "torch ByteStorage": 1,
    "torch BoolStorage": 1,
}
_REBUILD, _HOOKS, _TAG = (
    "torch._utils _rebuild_tensor_v2",
    "collections OrderedDict",
    "torch.jit._pickle restore_type_tag",
)
_LISTS = {f"torch.jit._pickle build_{kind}list" for kind in ("int", "double", "bool", "tensor")}
_FUNCTIONS = {_REBUILD, _HOOKS, _TAG, *_LISTS}
_MODULE = re.compile(r"__torch__(\.\w+)* \w+", re.ASCII)
# Classes of C++: each may do anything when it is made, also load a library.
_FOREIGN = "__torch__.torch.classes"
_TYPE = re.compile(r"(List|Dict|Optional|Tuple|Tensor|int|float|bool|str|[\[\], ])+", re.ASCII)
_NUMBERS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True, slots=True)
class _Named:
    """What a pickle asks for by name."""

    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    """Numbers of a storage, as many as its bytes are."""

    num_items: int


class _Other:
    """A tensor, a module or a dictionary: what is made, and never asked for anything."""


class _Mark:
    """Where the elements of a tuple, list or dictionary begin."""


class _RefusedError(Exception):
    """What is wrong, without the file's name."""


def check_pickle(data: bytes, storages: Mapping[str, int], *, name: str) -> None:
    """Follow a pickle and refuse what no exported network holds.

        check_pickle(archive.pickles["data.pkl"], {"0": 16}, name="model.ts: data.pkl")

    Args:
        data: the pickle.
        storages: bytes of each storage that it may speak of, by its key.
        name: how messages call it.

    Raises:
        ArtefactError: it is damaged, uses another instruction, asks for a name that is no module of TorchScript and no
            function that makes a tensor or a list, or for a tensor that is larger than its storage.
    """
    try:
        _Reader(storages).follow(data)
    except _RefusedError as error:
        raise ArtefactError(f"{name} {error}; export the model again with interscan export") from error
    # pickletools raises ValueError and its like on damage; a stack or memo that has not what is asked for the others.
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError) as error:
        raise ArtefactError(f"{name} is damaged; export the model again with interscan export") from error


class _Reader:
    def __init__(self, storages: Mapping[str, int]) -> None:
        self._storages = storages
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._steps: dict[str, Callable[[], None]] = {
            "MARK": lambda: self._stack.append(_Mark()),
            "EMPTY_LIST": lambda: self._stack.append([]),
            "EMPTY_DICT": lambda: self._stack.append(_Other()),
            "TUPLE": lambda: self._stack.append(tuple(self._since_mark())),
            "APPEND": self._append,
            "APPENDS": self._appends,
            "SETITEMS": self._set_items,
            "BINPERSID": self._storage,
            "REDUCE": self._call,
            "NEWOBJ": self._make,
            "BUILD": self._build,
        }

    def follow(self, data: bytes) -> None:
        end = 0
        for number, (code, argument, position) in enumerate(pickletools.genops(data)):
            if number >= MOST_INSTRUCTIONS:
                raise _RefusedError(f"has more than {MOST_INSTRUCTIONS} instructions")
            self._step(code.name, argument)
            # PyTorch reads eight bytes here, whatever the length says.
            if code.name == "LONG1" and data[(position or 0) + 1] != 8:
                raise _RefusedError("has a whole number that is not of 8 bytes")
            end = (position or 0) + 1
        if end != len(data):
            raise _RefusedError(f"goes on for {len(data) - end} bytes after its end")

    def _step(self, code: str, argument: Any) -> None:
        if code in self._steps:
            self._steps[code]()
        elif code in _NUMBERS:
            self._stack.append(argument)
        elif code in _CONSTANTS:
            self._stack.append(_CONSTANTS[code])
        elif code in _TUPLES:
            count = _TUPLES[code]
            self._stack[-count:] = [tuple(self._stack[-count:])]
        elif code in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif code in ("BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        elif code == "GLOBAL":
            self._stack.append(_named(argument))
        elif code not in ("PROTO", "STOP"):
            raise _RefusedError(f"has the instruction {code}, which TorchScript does not write")

    def _since_mark(self) -> list[Any]:
        items: list[Any] = []
        while not isinstance(item := self._stack.pop(), _Mark):
            items.append(item)
        return items[::-1]

    def _append(self) -> None:
        item = self._stack.pop()
        self._list().append(item)

    def _appends(self) -> None:
        items = self._since_mark()
        self._list().extend(items)

    def _list(self) -> list[Any]:
        if type(self._stack[-1]) is not list:
            raise _RefusedError("appends to what is no list")
        found: list[Any] = self._stack[-1]
        return found

    def _set_items(self) -> None:
        self._since_mark()
        self._require(_Other, "fills what is no dictionary")

    def _require(self, kind: type, fault: str) -> None:
        if type(self._stack[-1]) is not kind:
            raise _RefusedError(fault)

    def _make(self) -> None:
        arguments, asked = self._stack.pop(), self._stack.pop()
        if arguments != () or not isinstance(asked, _Named) or not _MODULE.fullmatch(asked.name):
            raise _RefusedError("makes an object that is no module")
        self._stack.append(_Other())

    def _build(self) -> None:
        self._stack.pop()
        self._require(_Other, "sets the state of what is no module")

    def _storage(self) -> None:
        asked = self._stack.pop()
        parts: tuple[Any, ...] = asked if type(asked) is tuple and len(asked) == 5 else (None,) * 5
        kind, of, key, device, num_items = parts
        item_bytes = _ITEM_BYTES.get(of.name, 0) if isinstance(of, _Named) else 0
        if kind != "storage" or not item_bytes or type(key) is not str or device != "cpu" or not _is_count(num_items):
            raise _RefusedError("asks for something else than a storage of numbers on the CPU")
        if key not in self._storages:
            raise _RefusedError(f"asks for the storage {key[:20]!r}, which is not in the archive")
        if num_items * item_bytes > self._storages[key]:
            raise _RefusedError(
                f"says that storage {key} has {num_items} numbers of {item_bytes} bytes, and it has "
                f"{self._storages[key]} bytes"
            )
        self._stack.append(_Storage(num_items))

    def _call(self) -> None:
        arguments, asked = self._stack.pop(), self._stack.pop()
        if not isinstance(asked, _Named) or asked.name not in _FUNCTIONS or type(arguments) is not tuple:
            raise _RefusedError("calls what is no function that makes a tensor or a list")
        if asked.name == _REBUILD:
            _check_tensor(arguments)
            made: Any = _Other()
        elif asked.name == _HOOKS:
            made = _Other()
        elif asked.name == _TAG:
            made, tag = arguments
            if type(tag) is not str or not _TYPE.fullmatch(tag):
                raise _RefusedError("names a type that no exported network has")
        else:
            (made,) = arguments
        self._stack.append(made)


def _named(argument: str) -> _Named:
    is_module = _MODULE.fullmatch(argument) and not f"{argument} ".replace(" ", ".").startswith(f"{_FOREIGN}.")
    if not (is_module or argument in _FUNCTIONS or argument in _ITEM_BYTES):
        raise _RefusedError(f"asks for {argument[:80].replace(' ', '.')!r}, which is neither a tensor nor a module")
    return _Named(argument)


def _is_count(value: Any) -> bool:
    # bool is an int to Python; to PyTorch a count that is written as true is another thing.
    return type(value) is int and 0 <= value < 2**62


def _check_tensor(arguments: tuple[Any, ...]) -> None:
    if len(arguments) != 6 or not isinstance(arguments[0], _Storage):
        raise _RefusedError("makes a tensor without a storage")
    storage, offset, sizes, strides = arguments[:4]
    counts = (offset, *sizes, *strides)
    if not all(_is_count(one) for one in counts) or len(sizes) != len(strides):
        raise _RefusedError("makes a tensor without sizes")
    num_items = math.prod(sizes)
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True)) if num_items else -1
    if last >= storage.num_items or num_items > storage.num_items:
        raise _RefusedError(
            f"makes a tensor of {num_items} numbers, up to number {last}, of a storage that has {storage.num_items}"
        )
