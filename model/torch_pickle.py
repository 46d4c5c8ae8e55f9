"""Reads the pickle of a torch.save file as data: a machine that knows the opcodes torch.save emits and calls nothing.

Names, storages and tensors become inert descriptions; any other opcode, name or shape of call is refused.
"""

import pickletools
from dataclasses import dataclass
from typing import Any

import torch

_STORAGES = {
    "torch DoubleStorage": torch.float64,
    "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch LongStorage": torch.int64,
    "torch IntStorage": torch.int32,
    "torch ShortStorage": torch.int16,
    "torch CharStorage": torch.int8,
    "torch ByteStorage": torch.uint8,
    "torch BoolStorage": torch.bool,
}
_DICT = "collections OrderedDict"
_TENSOR = "torch._utils _rebuild_tensor_v2"
_PARAMETER = "torch._utils _rebuild_parameter"
_GLOBALS = {_DICT, _TENSOR, _PARAMETER, *_STORAGES}
_PUSHED = {"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "BINFLOAT"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Refused(Exception):
    """What is wrong with a pickle, for the one line that names the file."""


@dataclass(frozen=True)
class _Name:
    """A global of the pickle: a name and no more."""

    text: str


@dataclass(frozen=True)
class StorageEntry:
    """An entry `data/KEY` of the zip: `numel` values."""

    key: str
    dtype: torch.dtype
    numel: int


@dataclass(frozen=True)
class TensorEntry:
    """A view into a storage; offset and stride in values."""

    storage: StorageEntry
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


_MARK = object()


def interpret(pickle_bytes: bytes) -> dict[Any, Any]:
    """Run the pickle on inert values; the dict it ends with."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}

    def pop_to_mark() -> list[Any]:
        at = max(i for i, value in enumerate(stack) if value is _MARK)
        values = stack[at + 1 :]
        del stack[at:]
        return values

    for opcode, argument, _ in pickletools.genops(pickle_bytes):
        name = opcode.name
        if name in _PUSHED:
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            count = _TUPLES[name]
            values = tuple(stack[len(stack) - count :])
            del stack[len(stack) - count :]
            stack.append(values)
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "TUPLE":
            stack.append(tuple(pop_to_mark()))
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            _set(stack[-1], [key, value])
        elif name == "SETITEMS":
            items = pop_to_mark()
            _set(stack[-1], items)
        elif name == "GLOBAL":
            if argument not in _GLOBALS:
                raise Refused(f"its pickle names {str(argument).replace(' ', '.')[:80]!r}")
            stack.append(_Name(argument))
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(_rebuild(function, arguments))
        elif name == "BUILD":
            stack.pop()  # the `_metadata` attribute of a state dict
        elif name == "STOP":
            break
        elif name != "PROTO":
            raise Refused(f"its pickle uses the instruction {name}")
    if len(stack) != 1 or not isinstance(stack[0], dict):
        raise Refused("its pickle is not a state dict")
    return stack[0]


def _set(target: Any, items: list[Any]) -> None:
    if not isinstance(target, dict) or not all(isinstance(key, str | int) for key in items[::2]):
        raise Refused("its pickle sets items on something that is not a dict of names")
    target.update(zip(items[::2], items[1::2], strict=True))


def _storage(pid: Any) -> StorageEntry:
    """("storage", type, key, location, numel) -> StorageEntry."""
    kind, storage_type, key, _, numel = pid
    if kind != "storage" or not isinstance(storage_type, _Name) or storage_type.text not in _STORAGES:
        raise Refused("its pickle refers to a storage of an unknown kind")
    if not isinstance(key, str) or type(numel) is not int:
        raise Refused("its pickle describes a storage wrongly")
    return StorageEntry(key, _STORAGES[storage_type.text], numel)


def _rebuild(function: Any, arguments: Any) -> Any:
    if not isinstance(function, _Name) or not isinstance(arguments, tuple):
        raise Refused("its pickle calls something that is not a name")
    if function.text == _DICT and arguments == ():
        return {}
    if function.text == _PARAMETER and isinstance(arguments[0], TensorEntry):
        return arguments[0]
    if function.text == _TENSOR and isinstance(arguments[0], StorageEntry):
        storage, offset, shape, stride = arguments[:4]
        if not all(type(n) is int and 0 <= n < 2**48 for n in (offset, *shape, *stride)) or len(shape) > 8:
            raise Refused("its pickle gives a tensor an impossible size")
        if len(shape) != len(stride):
            raise Refused("its pickle gives a tensor another number of strides than of dimensions")
        return TensorEntry(storage, offset, shape, stride)
    raise Refused(f"its pickle calls {function.text.replace(' ', '.')!r}")
