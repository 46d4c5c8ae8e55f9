"""safetensors files: headers read strictly, and shards written tensor by tensor or piece by piece.

The layout is fixed before the first byte is written, so values go straight to their place and nothing is held back; the
same tensors always give the same bytes. Format: 8 bytes of header length, a JSON header, the values without gaps.
"""

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from model.errors import CheckpointError
from model.geometry import Tensors, parse_json

SHARD_BYTES = 512_000_000
MAX_HEADER_BYTES = 100 * 2**20
ALIGNMENT = 64  # of the first value: kernels read the mapped file itself

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


_PLAIN_NAME = re.compile(r"[\w.-]{1,200}", re.ASCII)


@dataclass(frozen=True)
class Stored:
    """Where a tensor lies: `offset` bytes into `path`, row-major, little-endian."""

    path: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        return self.numel * self.dtype.itemsize


def is_safetensors(path: Path) -> bool:
    """True when the file begins like a safetensors file, whatever its name."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") <= MAX_HEADER_BYTES


def read_header(path: Path) -> tuple[dict[str, str], dict[str, Stored]]:
    """(metadata, name -> Stored) of a safetensors file; raises CheckpointError unless the values fill it exactly."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
                raise CheckpointError(f"{path} has {size} bytes, fewer than its header says: get the file again")
            header = parse_json(file.read(length), f"the header of {path}")
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from None
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise CheckpointError(f"the header of {path} has a broken __metadata__; get the file again")
    begin, end = 8 + length, 8 + length
    stored = {name: _entry(path, name, fields, begin) for name, fields in header.items()}
    for name, tensor in sorted(stored.items(), key=lambda item: (item[1].offset, item[1].size_bytes)):
        if tensor.offset != end:
            raise CheckpointError(f"{path}: the values of {name} overlap others or leave a gap; get the file again")
        end += tensor.size_bytes
    if end != size:
        raise CheckpointError(f"{path} has {size} bytes, its header describes {end}: get the file again")
    return metadata, stored


def check_tensor_name(path: Path, name: str) -> None:
    """Raise CheckpointError for a name that is no parameter's, so that messages stay one short line."""
    if not _PLAIN_NAME.fullmatch(name):
        raise CheckpointError(f"{path} has a tensor with the impossible name {name[:60]!r}; get the file again")


def _entry(path: Path, name: str, fields: object, begin: int) -> Stored:
    check_tensor_name(path, name)
    broken = CheckpointError(f"the header of {path} describes {name} wrongly; get the file again")
    if not isinstance(fields, dict) or set(fields) != {"dtype", "shape", "data_offsets"}:
        raise broken
    shape, offsets = fields["shape"], fields["data_offsets"]
    numbers = [shape, offsets]
    if not all(isinstance(part, list) and all(type(n) is int and 0 <= n < 2**48 for n in part) for part in numbers):
        raise broken
    if str(fields["dtype"]) not in DTYPES:
        raise CheckpointError(
            f"{path}: {name} has the dtype {str(fields['dtype'])[:20]!r}, expected {', '.join(DTYPES)}"
        )
    dtype = DTYPES[fields["dtype"]]
    if len(offsets) != 2 or len(shape) > 8 or offsets[1] - offsets[0] != math.prod(shape) * dtype.itemsize:
        raise broken
    return Stored(path, dtype, tuple(shape), begin + offsets[0])


def plan(tensors: Tensors, shard_bytes: int = SHARD_BYTES) -> dict[str, list[str]]:
    """file name -> its tensors. The parts of a module stay together; only a single module may pass `shard_bytes`."""
    shards: list[list[str]] = [[]]
    modules: dict[str, list[str]] = {}
    filled = 0
    for name in tensors:
        modules.setdefault(name.rpartition(".")[0], []).append(name)
    for names in modules.values():
        size = sum(math.prod(tensors[name][1]) * tensors[name][0].itemsize for name in names)
        if shards[-1] and filled + size > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1] += names
        filled += size
    if len(shards) == 1:
        return {"model.safetensors": shards[0]}
    return {f"model-{number:05}-of-{len(shards):05}.safetensors": names for number, names in enumerate(shards, 1)}


class ShardWriter:
    """Writes exactly `tensors` into the shards of `files` (see `plan`) in `folder`: any order, whole or in pieces."""

    def __init__(
        self, folder: Path, tensors: Tensors, files: Mapping[str, Iterable[str]], metadata: Mapping[str, str]
    ) -> None:
        self.tensors = tensors
        self._homes: dict[str, str] = {}
        self._stored: dict[str, Stored] = {}
        self._headers: dict[str, bytes] = {}
        self._missing: dict[str, set[str]] = {}
        self._written = dict.fromkeys(tensors, 0)
        self._open: dict[str, BinaryIO] = {}
        for file, names in files.items():
            self._layout(folder / file, file, list(names), metadata)

    def _layout(self, path: Path, file: str, names: list[str], metadata: Mapping[str, str]) -> None:
        # Wide values first, as safetensors itself does: every tensor is then aligned to its own item size.
        names.sort(key=lambda name: (-self.tensors[name][0].itemsize, name))
        header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
        offset = 0
        for name in names:
            dtype, shape = self.tensors[name]
            end = offset + math.prod(shape) * dtype.itemsize
            header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [offset, end]}
            self._stored[name] = Stored(path, dtype, shape, offset)
            self._homes[name] = file
            offset = end
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-(8 + len(text)) % ALIGNMENT)
        self._headers[file] = len(text).to_bytes(8, "little") + text
        self._missing[file] = set(names)

    def write(self, name: str, values: Tensor, start: int = 0) -> None:
        """Put `values` at element `start` of `name`; the dtype must be the planned one."""
        dtype, shape = self.tensors[name]
        assert values.dtype == dtype, f"{name}: {values.dtype} for {dtype}"
        assert start == self._written[name], f"{name}: piece at {start}, expected at {self._written[name]}"
        assert start + values.numel() <= math.prod(shape), f"{name}: too many values"
        file = self._homes[name]
        if file not in self._open:
            self._open[file] = self._stored[name].path.open("xb")
            self._open[file].write(self._headers[file])
            self._open[file].flush()
        position = len(self._headers[file]) + self._stored[name].offset + start * dtype.itemsize
        left = memoryview(values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        while left:
            count = os.pwrite(self._open[file].fileno(), left[: 2**28], position)
            left, position = left[count:], position + count
        self._written[name] += values.numel()
        if self._written[name] == math.prod(shape):
            self._missing[file].discard(name)
            if not self._missing[file]:
                self._close(file)

    @property
    def missing(self) -> list[str]:
        """Names not yet written in full."""
        return [name for name in self.tensors if name in self._missing[self._homes[name]]]

    def _close(self, file: str) -> None:
        stream = self._open.pop(file)
        os.fsync(stream.fileno())
        stream.close()

    def close(self) -> None:
        """Close what is still open; for the end of a failed write."""
        for stream in self._open.values():
            stream.close()
        self._open.clear()
