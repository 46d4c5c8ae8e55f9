"""This project's engine, and the machine's own limits."""

from __future__ import annotations

from pathlib import Path

from benchmarks.shapes import Shape


class Ours:
    """Generates; `probe` measures what the machine can do at best, on the same weights."""

    def __init__(self, shape: Shape, kernels: str) -> None:
        import torch

        from benchmarks.random_model import Letters, random_model
        from model.engine.engine import Engine
        from model.kernels import ops

        ops.use(kernels)
        self.engine = Engine(random_model(shape, torch.bfloat16), Letters())

    def __call__(self, ids: list[int], num_tokens: int) -> list[int]:
        from model.engine.params import SamplingParams

        stream = self.engine.submit(ids, SamplingParams(temperature=0.0, max_new_tokens=num_tokens))
        return [token for piece in stream for token in piece.ids]

    def probe(self) -> dict[str, float]:
        import torch

        from benchmarks.machine import matrix_gflops, read_gbs
        from benchmarks.random_model import linears

        weights = [layer.weight.data for layer in linears(self.engine.model)]
        return {"read_gbs": read_gbs(weights), "bf16_gflops": matrix_gflops(512, torch.bfloat16)}


def build(shape: Shape, threads: int, folder: Path, kernels: str = "auto") -> Ours:
    import torch

    torch.set_num_threads(threads)
    return Ours(shape, kernels)
