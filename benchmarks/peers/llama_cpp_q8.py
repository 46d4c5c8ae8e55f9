"""llama.cpp at Q8_0. It has no GPT-J: GPT-NeoX of the same shape (parallel residual, rotary) stands in.

Without its extra buffer types: with them 0.3.36 dies in llama_decode on a processor with AMX (its plain Q8_0 products
use AVX-512 all the same).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.peers import Generate
from benchmarks.peers.weights import q8_0
from benchmarks.shapes import Shape


def build(shape: Shape, threads: int, folder: Path) -> Generate:
    import llama_cpp.llama
    from llama_cpp import Llama

    defaults = llama_cpp.llama_model_default_params

    def without_extra_buffers() -> Any:
        params = defaults()
        params.use_extra_bufts = False
        return params

    llama_cpp.llama.llama_cpp.llama_model_default_params = without_extra_buffers
    path = folder / "neox-q8_0.gguf"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write(shape, path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)
        q8_0.cache_clear()  # memory is measured too
    llama = Llama(
        str(path),
        n_ctx=min(1024, shape.n_positions),
        n_batch=512,
        n_threads=threads,
        n_threads_batch=threads,
        verbose=False,
    )

    def generate(ids: list[int], num_tokens: int) -> list[int]:
        llama.reset()
        llama.eval(ids)
        made = [int(llama.sample(temp=0.0))]
        while len(made) < num_tokens:
            llama.eval(made[-1:])
            made.append(int(llama.sample(temp=0.0)))
        return made

    return generate


def write(shape: Shape, path: Path) -> None:
    import numpy as np
    from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType

    writer = GGUFWriter(path, "gptneox")
    writer.add_context_length(shape.n_positions)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layer)
    writer.add_feed_forward_length(4 * shape.n_embd)
    writer.add_rope_dimension_count(shape.rotary_dim)
    writer.add_head_count(shape.n_head)
    writer.add_parallel_residual(True)
    writer.add_layer_norm_eps(1e-5)
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([f"t{token}" for token in range(shape.vocab_size)])
    writer.add_token_types([TokenType.NORMAL] * shape.vocab_size)
    writer.add_token_merges(["t 0"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)

    def matrix(name: str, rows: int, columns: int) -> None:
        writer.add_tensor(f"{name}.weight", q8_0(rows, columns), raw_dtype=GGMLQuantizationType.Q8_0)

    def vector(name: str, size: int, value: float) -> None:
        writer.add_tensor(name, np.full(size, value, dtype=np.float32))

    def norm(name: str) -> None:
        vector(f"{name}.weight", shape.n_embd, 1.0)
        vector(f"{name}.bias", shape.n_embd, 0.0)

    wide = shape.n_embd
    matrix("token_embd", shape.vocab_size, wide)
    norm("output_norm")
    matrix("output", shape.vocab_size, wide)
    for layer in range(shape.n_layer):
        block = f"blk.{layer}"
        norm(f"{block}.attn_norm")
        norm(f"{block}.ffn_norm")
        products = {"attn_qkv": (3 * wide, wide), "attn_output": (wide, wide)}
        products |= {"ffn_up": (4 * wide, wide), "ffn_down": (wide, 4 * wide)}
        for name, (rows, columns) in products.items():
            matrix(f"{block}.{name}", rows, columns)
            vector(f"{block}.{name}.bias", rows, 0.0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
