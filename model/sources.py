"""What `quantize` reads: float or published 8-bit checkpoints, in one file or in shards, known by their first bytes.

Opening a source checks every name, dtype, shape and size against config.json and the files' own lengths, and allocates
nothing; reading maps the file, so that values cost no memory of their own.
"""

import mmap
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from model import legacy
from model.checkpoint import check_names, check_values, stored_tensors
from model.dynamic8 import BLOCK_SIZES
from model.errors import CheckpointError
from model.geometry import Tensors, check_config, expected_tensors, read_json
from model.manifest import CONFIG, check_files, is_native, read_manifest
from model.shards import Stored, is_safetensors, read_header

PUBLISHED_BLOCK_SIZE = BLOCK_SIZES[-1]
FLOATS = (torch.float32, torch.float16, torch.bfloat16)
_LEGACY_BUFFER = re.compile(r"transformer\.h\.\d+\.attn\.(bias|masked_bias)")
_SMALL = 2**22  # values: biases, scales and tables are looked at before anything is written


@dataclass(frozen=True)
class Source:
    """An opened checkpoint; `config` is a native one whose block_size says how the weights are stored here."""

    folder: Path
    files: tuple[Path, ...]
    config: dict[str, Any]
    stored: Mapping[str, Stored]
    expected: Tensors
    native: bool
    _maps: dict[Path, mmap.mmap] = field(default_factory=dict, repr=False)

    @property
    def kind(self) -> Literal["8-bit", "float"]:
        return "float" if self.config["block_size"] is None else "8-bit"

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensors that a conversion reads."""
        return sum(tensor.size_bytes for tensor in self.stored.values())

    def read(self, name: str) -> Tensor:
        """The stored values, mapped; writing to them changes neither the file nor other readers."""
        stored = self.stored[name]
        if stored.path not in self._maps:
            with stored.path.open("rb") as file:
                self._maps[stored.path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        mapped = self._maps[stored.path]
        if stored.offset % stored.dtype.itemsize:
            values = bytearray(mapped[stored.offset : stored.offset + stored.size_bytes])
            return torch.frombuffer(values, dtype=stored.dtype).view(stored.shape)
        return torch.frombuffer(mapped, dtype=stored.dtype, count=stored.numel, offset=stored.offset).view(stored.shape)

    def release(self) -> None:
        """Give back the pages read so far; they come again from the file when touched."""
        for mapped in self._maps.values():
            mapped.madvise(mmap.MADV_DONTNEED)

    def check_small_values(self) -> None:
        """Look at every scale, table, bias and LayerNorm; raises CheckpointError naming the one that is not sane."""
        for name, (dtype, _) in self.expected.items():
            if dtype != torch.uint8 and self.stored[name].numel <= _SMALL:
                check_values(name, self.read(name), self.expected, self.config["block_size"])
        self.release()


def open_source(path: str | Path) -> Source:
    """A folder with config.json and weights, or one weight file beside its config.json; raises CheckpointError."""
    path = Path(path).expanduser()
    if not path.exists():
        raise CheckpointError(
            f"{path} does not exist; give a checkpoint's folder (`tertulia chat --model NAME` gets a model by its name)"
        )
    folder = path if path.is_dir() else path.parent
    if not (folder / CONFIG).exists():
        raise CheckpointError(f"{folder} is not a checkpoint's folder: it has no {CONFIG} beside the weights")
    raw = read_json(folder / CONFIG, 2**20)
    config = check_config(raw, str(folder / CONFIG))
    native = path.is_dir() and is_native(folder)
    if native:
        manifest = read_manifest(folder)
        check_files(folder, manifest)
        stored = stored_tensors(folder, manifest, config["block_size"])
    else:
        files = _weight_files(folder) if path.is_dir() else [path]
        stored = {}
        for file in files:
            part = {name: t for name, t in _read_names(file).items() if not _LEGACY_BUFFER.fullmatch(name)}
            for name in part.keys() & stored.keys():
                raise CheckpointError(f"{name} is in both {stored[name].path} and {file}; remove one of them")
            stored |= part
        eight_bit = any(name.endswith(".absmax") for name in stored)
        config["block_size"] = PUBLISHED_BLOCK_SIZE if eight_bit else None
    expected = expected_tensors(config)
    _check(stored, expected, path)
    paths = tuple(sorted({tensor.path for tensor in stored.values()}))
    return Source(folder, paths, config, stored, expected, native)


def _weight_files(folder: Path) -> list[Path]:
    """The files that hold a folder's weights: those of an index, or the only one that looks like weights."""
    indexes = sorted(folder.glob("*.index.json"), key=lambda path: ("safetensors" not in path.name, path.name))
    if indexes:
        weight_map = read_json(indexes[0]).get("weight_map")
        if not isinstance(weight_map, dict) or not all(_plain(file) for file in weight_map.values()):
            raise CheckpointError(f"{indexes[0]} has no weight_map of file names; get the file again")
        files = [folder / file for file in sorted(set(weight_map.values()))]
        for file in files:
            if not file.is_file():
                raise CheckpointError(f"{file} is missing, {indexes[0].name} names it; get it again")
        return files
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return [folder / name]
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and _is_weights(path)]
    if len(files) != 1:
        found = ", ".join(path.name for path in files) or "none"
        raise CheckpointError(f"{folder}: expected one file of weights (safetensors or torch.save), found {found}")
    return files


def _read_names(file: Path) -> dict[str, Stored]:
    """name -> Stored by the format that the first bytes show."""
    try:
        if legacy.is_torch_zip(file):
            return legacy.read_directory(file)
        if is_safetensors(file):
            return read_header(file)[1]
        with file.open("rb") as opened:
            start = opened.read(64)
    except OSError as error:
        raise CheckpointError(f"cannot read {file}: {error.strerror}") from None
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{file} is a Git LFS pointer, not the weights; fetch them with `git lfs pull`")
    if start.startswith(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"):
        raise CheckpointError(f"{file} is in torch's old format (before 1.6); load and save it with a newer torch")
    raise CheckpointError(f"{file} is neither safetensors nor a torch.save zip; get the file again")


def _check(stored: Mapping[str, Stored], expected: Tensors, where: Path) -> None:
    check_names(stored, expected, str(where))
    for name, (dtype, shape) in expected.items():
        found = stored[name]
        exact = dtype == torch.uint8 or name.endswith((".absmax", ".code"))
        dtypes = (dtype,) if exact else FLOATS
        if found.dtype not in dtypes or found.shape != shape:
            wanted = " or ".join(str(d).removeprefix("torch.") for d in dtypes)
            raise CheckpointError(
                f"{name} is {str(found.dtype).removeprefix('torch.')} {list(found.shape)} in {where}, "
                f"expected {wanted} {list(shape)}; get the file again or mend its config.json"
            )


def _is_weights(path: Path) -> bool:
    return legacy.is_torch_zip(path) or is_safetensors(path)


def _plain(name: object) -> bool:
    return isinstance(name, str) and bool(name) and name == Path(name).name and not name.startswith(".")
