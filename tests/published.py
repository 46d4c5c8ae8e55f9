"""Writes checkpoints as others publish them: the 8-bit GPT-J state dicts (FACTS: 681 keys at 6B) and plain float ones.

Independent of the code under test: keys and layouts are spelled out here from the published format. As a command,
`python -m tests.published --shape 6b DIR` writes the real shape with random content, streamed, for memory measurements.
"""

import argparse
import json
import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from model import dynamic8

END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class Shape:
    """Size of a GPT-J; the defaults are a tiny one whose last rows are padding, as in the real one."""

    n_layer: int = 2
    n_embd: int = 64
    n_head: int = 4
    rotary_dim: int = 8
    vocab_size: int = 320
    n_positions: int = 128

    @property
    def num_tokens(self) -> int:
        """Entries of its tokenizer: 256 bytes, merges, <|endoftext|>."""
        return min(50257, self.vocab_size - 20)

    def config(self) -> dict[str, object]:
        """The stock config.json."""
        return {
            "activation_function": "gelu_new",
            "architectures": ["GPTJForCausalLM"],
            "attn_pdrop": 0.0,
            "bos_token_id": self.num_tokens - 1,
            "embd_pdrop": 0.0,
            "eos_token_id": self.num_tokens - 1,
            "gradient_checkpointing": False,
            "initializer_range": 0.02,
            "layer_norm_epsilon": 1e-05,
            "model_type": "gptj",
            "n_embd": self.n_embd,
            "n_head": self.n_head,
            "n_inner": None,
            "n_layer": self.n_layer,
            "n_positions": self.n_positions,
            "resid_pdrop": 0.0,
            "rotary": True,
            "rotary_dim": self.rotary_dim,
            "tie_word_embeddings": False,
            "tokenizer_class": "GPT2Tokenizer",
            "torch_dtype": "float32",
            "transformers_version": "4.21.0",
            "use_cache": True,
            "vocab_size": self.vocab_size,
        }

    def weights(self) -> dict[str, tuple[int, int]]:
        """module -> shape of its matrix, in the order of the published files."""
        wide, inner = self.n_embd, 4 * self.n_embd
        shapes = {"transformer.wte": (self.vocab_size, wide)}
        for layer in range(self.n_layer):
            for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
                shapes[f"transformer.h.{layer}.attn.{part}"] = (wide, wide)
            shapes[f"transformer.h.{layer}.mlp.fc_in"] = (inner, wide)
            shapes[f"transformer.h.{layer}.mlp.fc_out"] = (wide, inner)
        return {**shapes, "lm_head": (self.vocab_size, wide)}

    def vectors(self) -> dict[str, int]:
        """LayerNorm weights and biases, and the biases of MLP and head: name -> length."""
        blocks = [f"transformer.h.{layer}" for layer in range(self.n_layer)]
        norms = [*(f"{block}.ln_1" for block in blocks), "transformer.ln_f"]
        vectors = {f"{norm}.{part}": self.n_embd for norm in norms for part in ("weight", "bias")}
        biased = [name for name in self.weights() if ".mlp." in name or name == "lm_head"]
        return vectors | {f"{name}.bias": self.weights()[name][0] for name in biased}


SHAPES = {"tiny": Shape(), "6b": Shape(28, 4096, 16, 64, 50400, 2048)}


def float_tensors(shape: Shape, *, std: float = 0.5, seed: int = 0) -> dict[str, Tensor]:
    """The state dict of a random float32 GPT-J, without the legacy buffers."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {f"{name}.weight": torch.randn(size, generator=generator) * std for name, size in shape.weights().items()}
    for name, length in shape.vectors().items():
        centre = 1.0 if ".ln_" in name and name.endswith("weight") else 0.0
        tensors[name] = centre + torch.randn(length, generator=generator) * 0.1
    return tensors


def legacy_buffers(shape: Shape) -> dict[str, Tensor]:
    """The causal masks that old state dicts carry."""
    side = shape.n_positions
    buffers = {}
    for layer in range(shape.n_layer):
        mask = torch.tril(torch.ones(side, side, dtype=torch.uint8)).view(1, 1, side, side)
        buffers[f"transformer.h.{layer}.attn.bias"] = mask
        buffers[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e9)
    return buffers


def published_tensors(shape: Shape, *, block_size: int = 4096, std: float = 0.5, seed: int = 0) -> dict[str, Tensor]:
    """The published 8-bit state dict: weight, absmax and code for every matrix, and the legacy buffers."""
    table = dynamic8.code_table().clone()
    table[0] = -1.0  # as the quantisers of that time wrote it: the stored table is not today's
    tensors: dict[str, Tensor] = {}
    for name, values in float_tensors(shape, std=std, seed=seed).items():
        module = name.removesuffix(".weight")
        if module not in shape.weights():
            tensors[name] = values
            continue
        quantized = dynamic8.quantize(values, block_size, table)
        tensors[name] = quantized.codes
        tensors[f"{module}.absmax"] = quantized.absmax
        tensors[f"{module}.code"] = table.clone()
    return tensors | legacy_buffers(shape)


def write_published(
    folder: Path,
    *,
    n_layer: int = 2,
    n_embd: int = 64,
    n_head: int = 4,
    rotary_dim: int = 8,
    vocab_size: int = 320,
    n_positions: int = 128,
    block_size: int = 4096,
    std: float = 0.5,
    seed: int = 0,
    as_safetensors: bool = False,
) -> dict[str, Tensor]:
    """Write a tiny published 8-bit checkpoint with its config and tokenizer; returns what was saved."""
    shape = Shape(n_layer, n_embd, n_head, rotary_dim, vocab_size, n_positions)
    tensors = published_tensors(shape, block_size=block_size, std=std, seed=seed)
    write_files(folder, shape)
    if as_safetensors:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        torch.save(tensors, folder / "pytorch_model.bin")
    return tensors


def write_float(
    folder: Path,
    *,
    shape: Shape = SHAPES["tiny"],
    dtype: torch.dtype = torch.float32,
    num_shards: int = 1,
    as_bin: bool = False,
    legacy: bool = False,
    std: float = 0.5,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Write a stock float checkpoint, in shards with an index when there are several; returns what was saved."""
    write_files(folder, shape)
    tensors = {name: tensor.to(dtype) for name, tensor in float_tensors(shape, std=std, seed=seed).items()}
    tensors |= legacy_buffers(shape) if legacy else {}
    stem, suffix = ("pytorch_model", "bin") if as_bin else ("model", "safetensors")
    names = list(tensors)
    files = {}
    for number in range(num_shards):
        part = f"-{number + 1:05}-of-{num_shards:05}" if num_shards > 1 else ""
        files[f"{stem}{part}.{suffix}"] = names[number::num_shards]
    for file, part_names in files.items():
        state = {name: tensors[name] for name in part_names}
        if as_bin:
            torch.save(state, folder / file)
        else:
            save_file(state, folder / file, metadata={"format": "pt"})
    if num_shards > 1:
        weight_map = {name: file for file, part_names in files.items() for name in part_names}
        index = {"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": weight_map}
        (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))
    return tensors


def write_files(folder: Path, shape: Shape) -> None:
    """config.json and a GPT-2 byte-level tokenizer of `shape.num_tokens` entries, with the published one's flaws."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(shape.config(), indent=2))
    letters = list(_bytes_to_unicode().values())
    common = ["Ġ", *"eaosnrildtucm"]
    pairs = dict.fromkeys([(a, b) for a in common for b in common] + [(a, b) for a in letters for b in letters])
    merges = list(pairs)[: shape.num_tokens - 257]
    vocab = {token: i for i, token in enumerate([*letters, *(a + b for a, b in merges), END_OF_TEXT])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END_OF_TEXT])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    special = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "unk_token": END_OF_TEXT}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    settings = special | {"model_max_length": 1024, "tokenizer_class": "GPT2Tokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write_published_streamed(folder: Path, shape: Shape, seed: int = 0) -> None:
    """Write a published .bin of any size with random content, one tensor in memory at a time."""
    write_files(folder, shape)
    path = folder / "pytorch_model.bin"
    # torch.empty only reserves addresses, skip_data leaves holes: the values are put into the file afterwards.
    sizes = _published_sizes(shape)
    state = {name: torch.empty(size, dtype=dtype) for name, (dtype, size) in sizes.items()}
    with torch.serialization.skip_data():
        torch.save(state, path)
    del state
    rng = np.random.default_rng(seed)
    for (name, (dtype, size)), offset in zip(sizes.items(), _storage_offsets(path), strict=True):
        numpy_dtype = {torch.uint8: "u1", torch.float32: "<f4"}[dtype]
        values = np.memmap(path, dtype=numpy_dtype, mode="r+", offset=offset, shape=(math.prod(size),))
        values[:] = _random_values(name, math.prod(size), rng)


def _published_sizes(shape: Shape) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    sizes: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}
    for name, (rows, columns) in shape.weights().items():
        sizes[f"{name}.weight"] = torch.uint8, (rows, columns)
        sizes[f"{name}.absmax"] = torch.float32, (-(-rows * columns // 4096),)
        sizes[f"{name}.code"] = torch.float32, (256,)
    sizes |= {name: (torch.float32, (length,)) for name, length in shape.vectors().items()}
    for layer in range(shape.n_layer):
        sizes[f"transformer.h.{layer}.attn.bias"] = torch.uint8, (1, 1, shape.n_positions, shape.n_positions)
        sizes[f"transformer.h.{layer}.attn.masked_bias"] = torch.float32, ()
    return sizes


def _random_values(name: str, count: int, rng: np.random.Generator) -> np.ndarray:
    part = name.rpartition(".")[2]
    if part == "code":
        return dynamic8.code_table().numpy()
    if part == "absmax":
        return rng.uniform(0.02, 0.08, count)
    if name.endswith("attn.masked_bias"):
        return np.array([-1e9])
    if ".attn.bias" in name:
        return np.ones(count, dtype=np.uint8)
    if ".ln_" in name or part == "bias":
        return (1.0 if part == "weight" else 0.0) + rng.normal(0, 0.02, count)
    return np.frombuffer(rng.bytes(count), dtype=np.uint8)


def _storage_offsets(path: Path) -> Iterator[int]:
    """Where the values of storage 0, 1, ... begin; torch numbers them in the order of the state dict."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        entries = {info.filename: info for info in archive.infolist()}
        root = next(iter(entries)).split("/")[0]
        for number in range(sum(f"{root}/data/" in name for name in entries)):
            file.seek(entries[f"{root}/data/{number}"].header_offset + 26)
            name_length, extra_length = np.frombuffer(file.read(4), "<u2")
            yield file.tell() + int(name_length) + int(extra_length)


def _bytes_to_unicode() -> dict[int, str]:
    """GPT-2's printable stand-ins for the 256 bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(rest)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="write a published-format 8-bit checkpoint with random content")
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    write_published_streamed(options.folder, SHAPES[options.shape], options.seed)
