"""The native checkpoint: a folder with config.json, safetensors shards, tokenizer files and manifest.json.

What always holds: a folder is written whole or not at all, the same input gives the same bytes, and what loads has
exactly the files, keys, shapes, dtypes and finite values that its manifest and config imply; else a CheckpointError
names the part.
"""

import reprlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from model.atomic_folder import writing
from model.dynamic8 import check_quantized, code_table, num_blocks
from model.errors import CheckpointError
from model.geometry import (
    Head,
    Tensors,
    as_fields,
    check_config,
    count_parameters,
    expected_tensors,
    head_of,
    read_json,
    size_bytes,
)
from model.manifest import (
    AGAIN,
    CONFIG,
    FORMAT,
    MANIFEST,
    VERSION,
    check_files,
    check_replaceable,
    describe,
    is_native,
    json_bytes,
    plain_name,
    read_manifest,
)
from model.shards import SHARD_BYTES, ShardWriter, Stored, plan, read_header

__all__ = ["check_tensors", "expected_tensors", "is_native", "load_weights", "read_config", "read_manifest", "save"]

GENERATION_CONFIG = "generation_config.json"

Progress = Callable[[int, int, str], None]  # bytes done, bytes in all, what was just done


def save(
    folder: str | Path,
    config: Any,
    tensors: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]],
    *,
    head: Head | None = None,
    extra_files: Mapping[str, bytes | Path] | None = None,
    source: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Write a native folder atomically and return its path; `tensors` may be an iterator, one tensor is held at a time.

    config: a mapping or config object; head defaults to what its `architectures` name. extra_files: name -> content,
    or a file to copy (tokenizer, model card, generation_config.json). Narrower floats widen to float32, all else must
    match `expected_tensors`. overwrite replaces a native folder that holds nothing but its own files; any other
    non-empty folder is refused. Raises CheckpointError; then nothing is left behind.
    """
    raw = as_fields(config)
    fields = check_config(raw, "the config", head or head_of(raw))
    expected = expected_tensors(fields)
    block_size = fields["block_size"]
    extra = dict(extra_files or {})
    extra.setdefault(GENERATION_CONFIG, json_bytes(generation_config(fields)))
    for name in extra:
        if not plain_name(name) or name in (CONFIG, MANIFEST) or name.endswith(".safetensors"):
            raise CheckpointError(f"{name!r} cannot be carried in a checkpoint: a plain, unused file name is expected")
    extra_bytes = sum(len(part) if isinstance(part, bytes) else part.stat().st_size for part in extra.values())
    needed_bytes = size_bytes(expected) + extra_bytes + 200 * len(expected) + 2**16
    pairs = tensors.items() if isinstance(tensors, Mapping) else tensors
    with writing(Path(folder), needed_bytes, check_replaceable if overwrite else None) as partial:
        metadata = {"format": FORMAT, "version": str(VERSION), "block_size": str(block_size or "none")}
        writer = ShardWriter(partial, expected, plan(expected, shard_bytes), metadata)
        try:
            _write_tensors(writer, pairs, block_size, progress)
        finally:
            writer.close()
        (partial / CONFIG).write_bytes(json_bytes(fields))
        for name, part in extra.items():
            (partial / name).write_bytes(part if isinstance(part, bytes) else part.read_bytes())
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "block_size": block_size,
            "num_tensors": len(expected),
            "parameters": count_parameters(expected),
            "source": dict(source or {}),
            "files": describe(sorted(partial.iterdir())),
        }
        (partial / MANIFEST).write_bytes(json_bytes(manifest))
    return Path(folder)


def read_config(folder: str | Path) -> dict[str, Any]:
    """The checked config.json of a native folder, as plain fields; raises CheckpointError."""
    read_manifest(folder)
    return _read_config(Path(folder))


def load_weights(
    folder: str | Path, config: Any = None, *, head: Head | None = None, check_hashes: bool = True
) -> dict[str, Tensor]:
    """name -> tensor of a native folder, mapped from the files: no second copy, pages are read when touched.

    Every file's size and (unless check_hashes is False) sha256, and every key, dtype, shape and small tensor's values
    are checked. config and head default to the folder's own. Raises CheckpointError naming the file or tensor.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    check_files(folder, manifest, check_hashes)
    own = _read_config(folder)
    fields = (
        own if config is None else check_config(as_fields(config), "the config", head or head_of(as_fields(config)))
    )
    _check_block_size(folder, manifest, fields["block_size"])
    stored = stored_tensors(folder, manifest, fields["block_size"])
    expected = expected_tensors(fields, head)
    check_tensors(stored, expected, str(folder))
    tensors: dict[str, Tensor] = {}
    for path in sorted({tensor.path for tensor in stored.values()}):
        try:
            with safe_open(path, framework="pt") as file:
                tensors |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is damaged ({error}); {AGAIN}") from None
    for name, tensor in tensors.items():
        check_values(name, tensor, expected, fields["block_size"])
    return {name: tensors[name] for name in expected}


def stored_tensors(folder: Path, manifest: Mapping[str, Any], block_size: int | None) -> dict[str, Stored]:
    """name -> where it lies, over all shards of the manifest; raises CheckpointError for a name in two shards."""
    tensors: dict[str, Stored] = {}
    for file in sorted(name for name in manifest["files"] if name.endswith(".safetensors")):
        metadata, stored = read_header(folder / file)
        wanted = {"format": FORMAT, "version": str(VERSION), "block_size": str(block_size or "none")}
        if metadata != wanted:
            raise CheckpointError(
                f"{folder / file}: its header says {reprlib.repr(metadata)}, expected {wanted}; {AGAIN}"
            )
        for name in stored.keys() & tensors.keys():
            raise CheckpointError(f"{name} is in both {tensors[name].path} and {folder / file}; {AGAIN}")
        tensors |= stored
    return tensors


def check_names(names: Iterable[str], expected: Iterable[str], where: str) -> None:
    """Raise CheckpointError naming the first tensor that is missing or unexpected."""
    found, wanted = set(names), set(expected)
    for wrong, text in ((wanted - found, "is missing from"), (found - wanted, "is not expected in")):
        if wrong:
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            raise CheckpointError(f"{min(wrong)}{more} {text} {where}, by its config; {AGAIN}")


def check_tensors(stored: Mapping[str, Stored | Tensor], expected: Tensors, where: str) -> None:
    """Raise CheckpointError naming the first tensor that is missing, unexpected, or of another dtype or shape."""
    check_names(stored, expected, where)
    for name, (dtype, shape) in expected.items():
        found = stored[name]
        if found.dtype != dtype or tuple(found.shape) != shape:
            raise CheckpointError(
                f"{name} is {_short(found.dtype)} {list(found.shape)} in {where}, "
                f"expected {_short(dtype)} {list(shape)}; {AGAIN}"
            )


def check_values(name: str, tensor: Tensor, expected: Tensors, block_size: int | None) -> None:
    """Raise CheckpointError unless the values of one tensor are sane; codes need no look, all 256 are meant."""
    module, _, part = name.rpartition(".")
    if part in ("absmax", "code") and block_size is not None:
        codes = torch.empty(expected[f"{module}.weight"][1], dtype=torch.uint8, device="meta")
        blocks = num_blocks(codes.numel(), block_size)
        absmax = tensor if part == "absmax" else torch.zeros(blocks)
        check_quantized(module, codes, absmax, code_table() if part == "absmax" else tensor, block_size)
    elif tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise CheckpointError(f"{name} holds NaN or infinite values; {AGAIN}")


def generation_config(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What generate() needs; GPT-J has no pad token, so padding is the end of text, as its users set it by hand."""
    eos = fields["eos_token_id"]
    first = eos[0] if isinstance(eos, list) else eos
    pad = fields["pad_token_id"] if fields["pad_token_id"] is not None else first
    return {"bos_token_id": fields["bos_token_id"], "eos_token_id": eos, "pad_token_id": pad}


def _write_tensors(
    writer: ShardWriter, pairs: Iterable[tuple[str, Tensor]], block_size: int | None, progress: Progress | None
) -> None:
    expected, total, done = writer.tensors, size_bytes(writer.tensors), 0
    seen: set[str] = set()
    for name, tensor in pairs:
        if name in seen:
            raise CheckpointError(f"{name} comes twice")
        seen.add(name)
        if name in expected and expected[name][0] == torch.float32 and tensor.dtype in (torch.float16, torch.bfloat16):
            tensor = tensor.detach().to(torch.float32)
        check_tensors({name: tensor}, {name: expected[name]} if name in expected else {}, "the checkpoint to write")
        check_values(name, tensor, expected, block_size)
        writer.write(name, tensor)
        done += tensor.nbytes
        if progress is not None:
            progress(done, total, name)
    check_names(seen, expected, "the checkpoint to write")


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    raw = read_json(path, 2**20)
    if "block_size" not in raw:
        raise CheckpointError(f"{path} has no block_size; {AGAIN}")
    return check_config(raw, str(path))


def _check_block_size(folder: Path, manifest: Mapping[str, Any], block_size: int | None) -> None:
    if manifest.get("block_size") != block_size:
        raise CheckpointError(
            f"{folder / MANIFEST}: block_size is {manifest.get('block_size')!r}, "
            f"the config says {block_size!r}; {AGAIN}"
        )


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
