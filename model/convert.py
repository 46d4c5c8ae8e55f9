"""Any GPT-J checkpoint to the native format, one tensor at a time; codes of a published 8-bit file stay bit for bit.

Float matrices are quantised in pieces that end on block borders, so the pieces give what the whole matrix would.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model import checkpoint, tokenizer_files
from model.atomic_folder import hash_files
from model.checkpoint import GENERATION_CONFIG, Progress
from model.dynamic8 import BLOCK_SIZES, code_table, num_blocks, quantize
from model.errors import CheckpointError
from model.geometry import read_json
from model.manifest import json_bytes
from model.prompt_formats import FORMATS
from model.sources import PUBLISHED_BLOCK_SIZE, Source, open_source

logger = logging.getLogger(__name__)

DEFAULT_BLOCK_SIZE = 4096
PIECE = 2**24  # values: 64 MiB as float32; a multiple of every block size


def quantize_checkpoint(
    src: str | Path,
    dst: str | Path,
    block_size: int | None = None,
    *,
    prompt_format: str | None = None,
    tokenizer: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    origin: str | None = None,
) -> Path:
    """Convert `src` (see `sources.open_source`) into the native folder `dst`, atomically; returns `dst`.

    block_size None: 4096, the published files' own; they take no other. prompt_format None: what the source's config
    says, else "plain". tokenizer: a folder to take it from when `src` has none. origin: a hub name to record.
    Raises CheckpointError or TokenizerError, and then nothing is left behind. The same input gives the same bytes.
    """
    source = open_source(src)
    config = dict(source.config)
    config["block_size"] = _choose_block_size(source, block_size)
    if prompt_format is not None:
        config["prompt_format"] = prompt_format
    if config["prompt_format"] not in FORMATS:
        raise CheckpointError(f"prompt format {config['prompt_format']!r}: expected one of {', '.join(FORMATS)}")
    tokenizer_folder = Path(tokenizer).expanduser() if tokenizer is not None else source.folder
    extra: dict[str, bytes | Path] = {**tokenizer_files.carry(tokenizer_folder, config["n_positions"])}
    num_tokens = tokenizer_files.count_tokens(tokenizer_folder)
    if num_tokens > config["vocab_size"]:
        raise CheckpointError(
            f"the tokenizer in {tokenizer_folder} has {num_tokens} tokens, the model {config['vocab_size']} rows: "
            "it is another model's"
        )
    config["num_tokens"] = config["num_tokens"] or num_tokens
    extra[GENERATION_CONFIG] = json_bytes(_generation_config(source, config))
    source.check_small_values()
    if progress is not None:
        progress(0, source.size_bytes, "hashing the source")
    digests = hash_files(source.files)
    record: dict[str, Any] = {"kind": _kind(source), "files": {p.name: {"sha256": d} for p, d in digests.items()}}
    if origin is not None:
        record["name"] = origin
    return checkpoint.save(
        dst,
        config,
        _native_tensors(source, config["block_size"]),
        extra_files=extra,
        source=record,
        overwrite=overwrite,
        progress=progress,
    )


def quantize_in_pieces(name: str, values: Tensor, block_size: int) -> tuple[Tensor, Tensor]:
    """values (any shape) float, may be mapped -> codes (same shape) uint8, absmax (num_blocks,) float32.

    Raises CheckpointError naming `name` when a value is NaN or infinite.
    """
    flat = values.flatten()
    codes = torch.empty(flat.shape, dtype=torch.uint8)
    absmax = torch.empty(num_blocks(flat.numel(), block_size), dtype=torch.float32)
    for start in range(0, flat.numel(), PIECE):
        piece = flat[start : start + PIECE].to(torch.float32)
        if not bool(torch.isfinite(piece).all()):
            raise CheckpointError(f"{name} holds NaN or infinite values; get the file again")
        quantized = quantize(piece, block_size)
        codes[start : start + PIECE] = quantized.codes
        block = start // block_size
        absmax[block : block + quantized.absmax.numel()] = quantized.absmax
    return codes.view(values.shape), absmax


def _native_tensors(source: Source, block_size: int) -> Iterator[tuple[str, Tensor]]:
    for name in source.expected:
        values = source.read(name)
        if source.kind == "float" and values.dim() == 2 and name != "score.weight":
            module = name.removesuffix(".weight")
            codes, absmax = quantize_in_pieces(name, values, block_size)
            yield name, codes
            yield f"{module}.absmax", absmax
            yield f"{module}.code", code_table()
        else:
            yield name, values
        source.release()


def _choose_block_size(source: Source, asked: int | None) -> int:
    if asked is not None and asked not in BLOCK_SIZES:
        raise CheckpointError(f"block size {asked}: expected one of {', '.join(map(str, BLOCK_SIZES))}")
    if source.kind == "float":
        return asked or DEFAULT_BLOCK_SIZE
    if source.native:
        raise CheckpointError(f"{source.folder} is a native 8-bit checkpoint already; use it as it is")
    if asked not in (None, PUBLISHED_BLOCK_SIZE):
        raise CheckpointError(
            f"block size {asked}: {source.folder} is 8-bit already, in blocks of {PUBLISHED_BLOCK_SIZE}, and its codes "
            "are kept; leave the block size out"
        )
    return PUBLISHED_BLOCK_SIZE


def _generation_config(source: Source, config: dict[str, Any]) -> dict[str, Any]:
    """The source's own settings of generate(), if any, with the ids that GPT-J's lack."""
    path = source.folder / GENERATION_CONFIG
    given = read_json(path) if path.is_file() else {}
    kept = {name: value for name, value in given.items() if name not in ("transformers_version", "_from_model_config")}
    defaults = checkpoint.generation_config(config)
    return defaults | {name: value for name, value in kept.items() if value is not None}


def _kind(source: Source) -> str:
    if source.kind == "8-bit":
        return "published 8-bit"
    return str(source.stored["transformer.wte.weight"].dtype).removeprefix("torch.")
