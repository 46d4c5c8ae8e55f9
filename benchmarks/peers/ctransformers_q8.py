"""ggml's own GPT-J at Q8_0, as ctransformers ships it: the file format that came before GGUF."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

from benchmarks.peers import Generate
from benchmarks.peers.weights import q8_0
from benchmarks.shapes import Shape

MAGIC, F32, Q8_0 = 0x67676D6C, 0, 8
FILE_TYPE = 2007  # second version of the quantised formats, mostly Q8_0
BATCH = 512  # tokens of a prompt at a time


def build(shape: Shape, threads: int, folder: Path) -> Generate:
    from ctransformers import LLM, Config

    path = folder / "gptj-q8_0.ggml"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".part").open("wb") as file:
            write(shape, file)
        path.with_suffix(".part").rename(path)
        q8_0.cache_clear()  # memory is measured too
    llm = LLM(str(path), "gptj", config=Config(threads=threads, batch_size=BATCH))

    def generate(ids: list[int], num_tokens: int) -> list[int]:
        llm.reset()
        llm.eval(ids)
        made = [llm.sample(top_k=1, repetition_penalty=1.0)]
        while len(made) < num_tokens:
            llm.eval(made[-1:])
            made.append(llm.sample(top_k=1, repetition_penalty=1.0))
        return made

    return generate


def write(shape: Shape, file: BinaryIO) -> None:
    import numpy as np

    sizes = (shape.vocab_size, shape.n_positions, shape.n_embd, shape.n_head, shape.n_layer, shape.rotary_dim)
    file.write(struct.pack("<8i", MAGIC, *sizes, FILE_TYPE))
    file.write(struct.pack("<i", shape.vocab_size))
    for token in range(shape.vocab_size):
        text = f"t{token}".encode()
        file.write(struct.pack("<I", len(text)) + text)

    def tensor(name: str, kind: int, size: tuple[int, ...], data: Any) -> None:
        encoded = name.encode()
        file.write(struct.pack(f"<3i{len(size)}i", len(size), len(encoded), kind, *reversed(size)) + encoded)
        file.write(data.tobytes())

    def matrix(name: str, rows: int, columns: int, bias: bool = False) -> None:
        tensor(f"{name}.weight", Q8_0, (rows, columns), q8_0(rows, columns))
        if bias:
            tensor(f"{name}.bias", F32, (rows,), np.zeros(rows, dtype=np.float32))

    def norm(name: str) -> None:
        tensor(f"{name}.weight", F32, (shape.n_embd,), np.ones(shape.n_embd, dtype=np.float32))
        tensor(f"{name}.bias", F32, (shape.n_embd,), np.zeros(shape.n_embd, dtype=np.float32))

    wide = shape.n_embd
    matrix("transformer.wte", shape.vocab_size, wide)
    norm("transformer.ln_f")
    matrix("lm_head", shape.vocab_size, wide, bias=True)
    for layer in range(shape.n_layer):
        block = f"transformer.h.{layer}"
        norm(f"{block}.ln_1")
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            matrix(f"{block}.attn.{part}", wide, wide)
        matrix(f"{block}.mlp.fc_in", 4 * wide, wide, bias=True)
        matrix(f"{block}.mlp.fc_out", wide, 4 * wide, bias=True)
