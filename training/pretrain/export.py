"""A pretraining checkpoint -> the native 8-bit folder that ships in the package (`model/embedded/`)."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model import checkpoint
from model.convert import quantize_in_pieces
from model.dynamic8 import code_table
from model.manifest import MANIFEST, read_manifest
from training.pretrain.batches import Encoder
from training.pretrain.corpus import WORK

logger = logging.getLogger(__name__)

EMBEDDED = Path(checkpoint.__file__).parent / "embedded"
BLOCK_SIZE = 256  # perplexity +0.03 % against float32, measured by benchmarks/block_size.py
COMPANIONS = ("__init__.py", "MODEL_CARD.md", "ATTRIBUTION.md")  # stand beside the weights and are kept by an export
SAMPLING: dict[str, Any] = {
    "do_sample": True,
    "temperature": 0.2,
    "top_p": 0.9,
    "top_k": 0,
    "repetition_penalty": 1.0,
    "max_new_tokens": 160,
}


def model_config(shape: dict[str, int], encoder: Encoder, block_size: int | None) -> dict[str, Any]:
    """The fields of config.json for a network of this shape and this vocabulary."""
    return {
        **shape,
        "architectures": ["GPTJ8bitForCausalLM"],
        "model_type": "tertulia_gptj",
        "n_inner": None,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "tie_word_embeddings": False,
        "bos_token_id": encoder.bos,
        "eos_token_id": encoder.end,
        "pad_token_id": encoder.pad,
        "block_size": block_size,
        "num_tokens": encoder.vocab_size,
        "prompt_format": "tertulia",
    }


def native(weights: dict[str, Tensor], block_size: int | None) -> Iterator[tuple[str, Tensor]]:
    """name, tensor of the native format: with a block size every matrix as codes, absmax, code."""
    for name, values in weights.items():
        if values.dim() == 2 and block_size is not None:
            codes, absmax = quantize_in_pieces(name, values, block_size)
            module = name.removesuffix(".weight")
            yield from ((name, codes), (f"{module}.absmax", absmax), (f"{module}.code", code_table()))
        else:
            yield name, values.float()


def companions(folder: Path) -> dict[str, bytes | Path]:
    """The files beside the weights that an export carries over."""
    return {name: (folder / name).read_bytes() for name in COMPANIONS if (folder / name).is_file()}


@contextmanager
def cleared(folder: Path, kept: dict[str, bytes | Path]) -> Iterator[None]:
    """Takes companions that no manifest names out of the way of the replacement; puts them back if it fails."""
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    named = read_manifest(folder)["files"] if (folder / MANIFEST).exists() else {}
    foreign = {name: data for name, data in kept.items() if name not in named and isinstance(data, bytes)}
    for name in foreign:
        (folder / name).unlink()
    try:
        yield
    except BaseException:
        for name, data in foreign.items():
            (folder / name).write_bytes(data)
        raise


def run(
    *, work: Path = WORK, saved: Path | None = None, folder: Path = EMBEDDED, block_size: int | None = BLOCK_SIZE
) -> Path:
    """Writes the native folder from a checkpoint (default: the run's latest); atomic, replaces an older export.

    Raises CheckpointError when `folder` holds files that are not its own.
    """
    saved = saved or work / "run" / "latest.pt"
    state = torch.load(saved, weights_only=True, map_location="cpu")
    encoder = Encoder(work / "tokenizer.model")
    kept = companions(folder)
    extra = kept | {
        "tokenizer.model": work / "tokenizer.model",
        "generation_config.json": json.dumps(
            {"bos_token_id": encoder.bos, "eos_token_id": encoder.end, "pad_token_id": encoder.pad, **SAMPLING},
            indent=2,
        ).encode(),
    }
    progress = state["progress"]
    source = {
        "recipe": "training/pretrain",
        "steps": progress["step"],
        "tokens": progress["tokens"],
        "data": progress["data"],
    }
    config = model_config(state.get("shape", state["recipe"]["shape"]), encoder, block_size)
    overwrite = (folder / MANIFEST).exists()
    with cleared(folder, kept):
        tensors = native(state["master"], block_size)
        checkpoint.save(folder, config, tensors, extra_files=extra, source=source, overwrite=overwrite)
    logger.info("step %d -> %s", progress["step"], folder)
    return folder
