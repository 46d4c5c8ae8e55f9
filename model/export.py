"""Dequantises a native checkpoint into the stock transformers GPT-J folder that any other tool reads.

An adapter can be merged into it: W + (alpha / r) B A, added in float32 to the dequantised base, and its LayerNorms in
place of the base's where it brings some; nothing is quantised twice.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model import tokenizer_files
from model.atomic_folder import writing
from model.checkpoint import GENERATION_CONFIG, Progress, load_weights, read_config
from model.convert import PIECE
from model.dynamic8 import QuantizedTensor
from model.errors import CheckpointError
from model.geometry import SOURCE_MODEL_TYPE, Tensors, expected_tensors, size_bytes
from model.manifest import CONFIG, json_bytes
from model.shards import ShardWriter, plan

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
Matrices = dict[str, tuple[Tensor, Tensor, float]]  # see `lora.read_matrices`
SHARD_BYTES = 2_000_000_000
INDEX = "model.safetensors.index.json"
_STOCK = {
    "GPTJ8bitForCausalLM": "GPTJForCausalLM",
    "GPTJ8bitForSequenceClassification": "GPTJForSequenceClassification",
}


def export(
    folder: str | Path,
    out: str | Path,
    dtype: str = "float16",
    progress: Progress | None = None,
    adapter: Path | None = None,
) -> Path:
    """Write `folder` (native) as a stock GPT-J folder `out` in `dtype`, atomically and piece by piece; returns `out`.

    The logits are the 8-bit model's up to the rounding of `dtype`, except that stock GPT-J does not mask padding rows.
    `adapter` is the folder of a PEFT adapter to merge into it, checked before anything is written. Raises
    CheckpointError: another dtype, a bad adapter, a value that does not fit float16, `out` not empty, a full disk.
    """
    if dtype not in DTYPES:
        raise CheckpointError(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
    folder = Path(folder)
    config = read_config(folder)
    weights = load_weights(folder)
    matrices, norms = ({}, {}) if adapter is None else _adapter(folder, adapter)
    tensors: Tensors = {
        name: (DTYPES[dtype], shape) for name, (_, shape) in expected_tensors(config | {"block_size": None}).items()
    }
    files = plan(tensors, SHARD_BYTES)
    extra = {**_tokenizer(folder, config), CONFIG: json_bytes(_stock_config(config, dtype))}
    if (folder / GENERATION_CONFIG).is_file():
        extra[GENERATION_CONFIG] = (folder / GENERATION_CONFIG).read_bytes()
    if len(files) > 1:
        weight_map = {name: file for file, names in files.items() for name in names}
        extra[INDEX] = json_bytes({"metadata": {"total_size": size_bytes(tensors)}, "weight_map": weight_map})
    total, done = size_bytes(tensors), 0
    needed_bytes = total + sum(map(len, extra.values())) + 200 * len(tensors) + 2**16
    with writing(Path(out), needed_bytes) as partial:
        writer = ShardWriter(partial, tensors, files, {"format": "pt"})
        try:
            for name, start, values in _pieces(weights, matrices, norms, tensors, config["block_size"]):
                writer.write(name, values, start)
                done += values.nbytes
                if progress is not None:
                    progress(done, total, name)
        finally:
            writer.close()
        for name, content in extra.items():
            (partial / name).write_bytes(content)
    return Path(out)


def _pieces(
    weights: dict[str, Tensor],
    matrices: Matrices,
    norms: dict[str, Tensor],
    tensors: Tensors,
    block_size: int | None,
) -> Iterator[tuple[str, int, Tensor]]:
    """(name, first element, values) of every stock tensor, in order."""
    for name, (dtype, _) in tensors.items():
        for start, values in dequantized_pieces(weights, name, block_size):
            if found := matrices.get(name.removesuffix(".weight")):
                values = values + _delta(*found, start, values.numel())
            if name in norms:
                values = norms[name].float()[start : start + values.numel()]
            cast = values.to(dtype)
            if not bool(torch.isfinite(cast).all()):
                raise CheckpointError(f"{name} does not fit {dtype}; export with --dtype bfloat16 or float32")
            yield name, start, cast


def dequantized_pieces(weights: dict[str, Tensor], name: str, block_size: int | None) -> Iterator[tuple[int, Tensor]]:
    """(first element, flat float32 values) of the tensor `name`, dequantised where it is stored in 8 bits."""
    flat = weights[name].flatten()
    module = name.removesuffix(".weight")
    absmax, code = weights.get(f"{module}.absmax"), weights.get(f"{module}.code")
    for start in range(0, flat.numel(), PIECE):
        piece = flat[start : start + PIECE]
        if absmax is None or code is None or block_size is None:
            yield start, piece.to(torch.float32)
            continue
        first = start // block_size
        scales = absmax[first : first + -(-piece.numel() // block_size)]
        yield start, QuantizedTensor(piece, scales, code, block_size).dequantize()


def _adapter(folder: Path, adapter: Path) -> tuple[Matrices, dict[str, Tensor]]:
    from model.gptj import GPTJ8bitForCausalLM
    from model.gptj_config import GPTJ8bitConfig
    from model.lora import read_matrices, read_norms

    with torch.device("meta"):  # of the model only names and shapes are needed
        model = GPTJ8bitForCausalLM(GPTJ8bitConfig.from_pretrained(folder))
    return read_matrices(adapter, model), read_norms(adapter)


def _delta(a: Tensor, b: Tensor, scale: float, start: int, length: int) -> Tensor:
    """Elements start..start + length of the flattened (out, in) matrix scale * B A, float32."""
    width = a.shape[1]
    first, last = start // width, -(-(start + length) // width)
    rows = b[first:last].float() @ a.float()
    return scale * rows.flatten()[start - first * width :][:length]


def _stock_config(config: dict[str, Any], dtype: str) -> dict[str, Any]:
    """A config.json of model_type gptj; num_tokens and prompt_format stay, for `quantize` (others ignore them)."""
    stock = {name: value for name, value in config.items() if name != "block_size"}
    return stock | {
        "model_type": SOURCE_MODEL_TYPE,
        "architectures": [_STOCK[name] for name in config["architectures"]],
        "torch_dtype": dtype,
    }


def _tokenizer(folder: Path, config: dict[str, Any]) -> dict[str, bytes]:
    if not tokenizer_files.has_tokenizer(folder):
        return {}
    return tokenizer_files.carry(folder, config["n_positions"])
