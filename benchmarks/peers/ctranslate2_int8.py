"""CTranslate2: GPT-J with int8 weights, one scale a row, activations quantised to int8 on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.peers import Generate
from benchmarks.peers.weights import int8, scale
from benchmarks.shapes import Shape


def build(shape: Shape, threads: int, folder: Path) -> Generate:
    import ctranslate2

    home = folder / "ctranslate2"
    if not (home / "config.json").exists():  # the last file that is written
        home.mkdir(parents=True, exist_ok=True)
        write(shape, home)
    generator = ctranslate2.Generator(str(home), device="cpu", compute_type="int8_float32", intra_threads=threads)

    def generate(ids: list[int], num_tokens: int) -> Any:
        return generator.generate_batch(
            [[f"t{token}" for token in ids]],
            max_length=num_tokens,
            min_length=num_tokens,
            sampling_topk=1,
            include_prompt_in_result=False,
        )

    return generate


def write(shape: Shape, home: Path) -> None:
    """model.bin as the converter of GPT-J checkpoints lays it out, without the float weights it would start from."""
    import numpy as np
    from ctranslate2.specs import common_spec, transformer_spec

    spec = transformer_spec.TransformerDecoderModelSpec.from_config(
        shape.n_layer,
        shape.n_head,
        pre_norm=True,
        activation=common_spec.Activation.GELUTanh,
        rotary_dim=shape.rotary_dim,
        rotary_interleave=False,
        parallel_residual=True,
        shared_layer_norm=True,
    )
    matrices: dict[tuple[int, int], Any] = {}

    def matrix(target: Any, rows: int, columns: int, bias: bool) -> None:
        if (rows, columns) not in matrices:
            matrices[rows, columns] = int8(rows, columns)
        target.weight = matrices[rows, columns]
        target.weight_scale = np.full(rows, 1 / scale(columns), dtype=np.float32)
        if bias:
            target.bias = np.zeros(rows, dtype=np.float32)

    def norm(target: Any) -> None:
        target.gamma, target.beta = np.ones(shape.n_embd, np.float32), np.zeros(shape.n_embd, np.float32)

    wide, decoder = shape.n_embd, spec.decoder
    decoder.scale_embeddings = False
    matrix(decoder.embeddings, shape.vocab_size, wide, bias=False)
    matrix(decoder.projection, shape.vocab_size, wide, bias=True)
    norm(decoder.layer_norm)
    for layer in decoder.layer:
        norm(layer.shared_layer_norm)
        matrix(layer.self_attention.linear[0], 3 * wide, wide, bias=False)
        matrix(layer.self_attention.linear[1], wide, wide, bias=False)
        matrix(layer.ffn.linear_0, 4 * wide, wide, bias=True)
        matrix(layer.ffn.linear_1, wide, 4 * wide, bias=True)
    spec.register_vocabulary([f"t{token}" for token in range(shape.vocab_size)])
    spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = f"t{shape.vocab_size - 1}"
    spec.validate()
    spec.save(str(home))
