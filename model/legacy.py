"""Reads the directory of a torch.save file: which tensors lie where. Nothing in it is called, nothing is allocated.

A torch.save file is a zip whose `data.pkl` describes tensors over stored entries `data/0`, `data/1`, ... The pickle is
read as data (see `torch_pickle`), because torch.load(weights_only=True) builds stride-0 giants, inflates bombs, and has
had two ways to run code.
"""

import math
import zipfile
from pathlib import Path

from model.errors import CheckpointError
from model.shards import Stored, check_tensor_name
from model.torch_pickle import Refused, TensorEntry, interpret

ZIP_MAGIC = b"PK\x03\x04"
MAX_PICKLE_BYTES = 16 * 2**20
MAX_ENTRIES = 100_000
AGAIN = "get the file again, or from someone you trust"


def is_torch_zip(path: Path) -> bool:
    """True when the file begins like a zip, whatever its name."""
    with path.open("rb") as file:
        return file.read(4) == ZIP_MAGIC


def read_directory(path: Path) -> dict[str, Stored]:
    """name -> Stored of the state dict in a torch.save zip.

    Raises CheckpointError when entries are compressed, the declared sizes disagree with the file's, the pickle holds
    anything but a flat dict of tensors, or a tensor is not row-major inside its storage.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"{path} is damaged or cut short ({error}); {AGAIN}") from None
    root, offsets = _check_entries(path, entries)
    pickle_bytes = _read_small(path, offsets[f"{root}/data.pkl"], MAX_PICKLE_BYTES)
    if f"{root}/byteorder" in offsets and _read_small(path, offsets[f"{root}/byteorder"], 16) != b"little":
        raise CheckpointError(f"{path} holds big-endian values, expected little-endian ones; save it again")
    try:
        state = interpret(pickle_bytes)
    except Refused as refused:
        raise CheckpointError(f"{path} is not a plain file of tensors: {refused}; {AGAIN}") from None
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} has a broken pickle ({error}); {AGAIN}") from None
    stored = {}
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, TensorEntry):
            raise CheckpointError(
                f"{path}: the entry {str(name)[:60]!r} is not a tensor, expected a flat state dict; {AGAIN}"
            )
        check_tensor_name(path, name)
        stored[name] = _place(path, name, tensor, offsets.get(f"{root}/data/{tensor.storage.key}"))
    return stored


def _check_entries(path: Path, entries: list[zipfile.ZipInfo]) -> tuple[str, dict[str, tuple[int, int]]]:
    """The archive's root folder and entry name -> (offset of its bytes, size); only stored, non-overlapping entries."""
    size = path.stat().st_size
    if len(entries) > MAX_ENTRIES or sum(entry.file_size for entry in entries) > size:
        raise CheckpointError(f"{path} declares more than its {size} bytes: a zip bomb or a damaged file; {AGAIN}")
    offsets: dict[str, tuple[int, int]] = {}
    with path.open("rb") as file:
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
                raise CheckpointError(
                    f"{path}: the entry {entry.filename[:60]!r} is compressed, torch stores plainly; {AGAIN}"
                )
            file.seek(entry.header_offset)
            local = file.read(30)
            if len(local) < 30 or local[:4] != ZIP_MAGIC or entry.filename in offsets:
                raise CheckpointError(f"{path}: the entry {entry.filename[:60]!r} is damaged or there twice; {AGAIN}")
            skipped = int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
            offset = entry.header_offset + 30 + skipped
            if offset + entry.file_size > size:
                raise CheckpointError(f"{path}: the entry {entry.filename[:60]!r} reaches past the file's end; {AGAIN}")
            offsets[entry.filename] = offset, entry.file_size
    pickles = [name for name in offsets if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise CheckpointError(f"{path} is a zip without a data.pkl: not a file of torch.save; {AGAIN}")
    return pickles[0].split("/")[0], offsets


def _read_small(path: Path, place: tuple[int, int], limit: int) -> bytes:
    offset, size = place
    if size > limit:
        raise CheckpointError(f"{path}: its pickle has {size} bytes, expected at most {limit}; {AGAIN}")
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def _place(path: Path, name: str, tensor: TensorEntry, entry: tuple[int, int] | None) -> Stored:
    storage = tensor.storage
    if entry is None or entry[1] != storage.numel * storage.dtype.itemsize:
        found = "missing" if entry is None else f"{entry[1]} bytes"
        expected = storage.numel * storage.dtype.itemsize
        raise CheckpointError(f"{path}: the storage of {name} is {found}, expected {expected} bytes; {AGAIN}")
    step = 1
    for length, stride in zip(reversed(tensor.shape), reversed(tensor.stride), strict=True):
        if length > 1 and stride != step:
            raise CheckpointError(
                f"{path}: {name} {list(tensor.shape)} has the strides {list(tensor.stride)}, expected row-major ones; "
                "save it again with .contiguous()"
            )
        step *= length
    if tensor.offset + math.prod(tensor.shape) > storage.numel:
        raise CheckpointError(
            f"{path}: {name} {list(tensor.shape)} reaches past its storage of {storage.numel} values; {AGAIN}"
        )
    offset = entry[0] + tensor.offset * storage.dtype.itemsize
    return Stored(path, storage.dtype, tensor.shape, offset)
