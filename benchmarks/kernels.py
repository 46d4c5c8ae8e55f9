"""GB/s of 8-bit weights per shape, rows and dtype, beside the read bandwidth probed in the same run; storage ops.

    python -m benchmarks.kernels

The figures of one run are interleaved and the best of several, so that ratios mean something on a noisy machine. A peer
of each operation stands beside it: bitsandbytes, and torch's own matrix-vector product on bf16 weights (two bytes a
weight, so its GB/s are of twice the bytes). The last line is the figures as JSON.
"""

import json
import time
from collections.abc import Callable

import torch

from model.dynamic8 import code_table
from model.kernels import bnb, cpu, reference

SHAPES = {"q_proj": (4096, 4096), "fc_in": (16384, 4096), "fc_out": (4096, 16384), "lm_head": (50400, 4096)}
BLOCK_SIZE = 4096


def best_s(run: Callable[[], object], repeats: int = 7) -> float:
    """The shortest of several runs, in seconds; the first one warms up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    code, figures = code_table(), {}

    def show(name: str, amount: float, seconds: float, unit: str) -> None:
        figures[name] = round(amount / seconds / 1e9, 2)
        print(f"{name:44} {figures[name]:8.2f} {unit}", flush=True)

    print(f"{torch.get_num_threads()} threads, level {cpu.LEVELS[cpu.level]}")
    for name, (n_out, n_in) in SHAPES.items():
        codes = torch.randint(0, 256, (n_out, n_in), dtype=torch.uint8)
        absmax = torch.rand(n_out * n_in // BLOCK_SIZE)
        show(f"{name} read", codes.numel(), best_s(lambda q=codes: q.view(torch.int64).sum()), "GB/s")
        for dtype in (torch.bfloat16, torch.float32):
            for rows in (1, 2, 4, 8, 16):
                x = torch.randn(rows, n_in).to(dtype)
                seconds = best_s(lambda x=x, q=codes, a=absmax: cpu.linear(x, q, a, code, BLOCK_SIZE, None))
                show(f"{name} {str(dtype)[6:]} x {rows}", codes.numel(), seconds, "GB/s")
        for level in cpu.levels()[:-1]:  # what a processor without the best level would do
            cpu.use_level(level)
            for rows in (1, 8):
                x = torch.randn(rows, n_in).bfloat16()
                seconds = best_s(lambda x=x, q=codes, a=absmax: cpu.linear(x, q, a, code, BLOCK_SIZE, None), 3)
                show(f"{name} bfloat16 x {rows}, {level}", codes.numel(), seconds, "GB/s")
        cpu.use_level("")
        many_rows(name, codes, absmax, show)
        if name == "q_proj":
            x, weight = torch.randn(1, n_in).bfloat16(), torch.randn(n_out, n_in).bfloat16()
            show("q_proj torch bf16 weights x 1", 2 * codes.numel(), best_s(lambda x=x, w=weight: x @ w.T), "GB/s")
            storage(codes, absmax, show)
    print(json.dumps(figures))


def many_rows(
    name: str, codes: torch.Tensor, absmax: torch.Tensor, show: Callable[[str, float, float, str], None]
) -> None:
    """Prefill and training, both ways, in bf16, in turn with torch on bf16 weights."""
    code, weight = code_table(), torch.randn(codes.shape).bfloat16()
    for rows in (64, 256, 512):
        flop = 2 * rows * codes.numel() / 1e3
        x, grad = torch.randn(rows, codes.shape[1]).bfloat16(), torch.randn(rows, codes.shape[0]).bfloat16()
        for what, ours, torchs in (
            (f"x {rows}", lambda x=x: cpu.linear(x, codes, absmax, code, BLOCK_SIZE, None), lambda x=x: x @ weight.T),
            (
                f"x {rows} backward",
                lambda g=grad: cpu.linear_backward(g, codes, absmax, code, BLOCK_SIZE),
                lambda g=grad: g @ weight,
            ),
        ):
            show(f"{name} bfloat16 {what}", flop, best_s(ours, 3), "TFLOP/s")
            show(f"{name} bfloat16 {what}, torch on bf16 weights", flop, best_s(torchs, 3), "TFLOP/s")


def storage(codes: torch.Tensor, absmax: torch.Tensor, show: Callable[[str, float, float, str], None]) -> None:
    """Dequantise and quantise, ours and theirs."""
    code, weight = code_table(), torch.randn(codes.shape)
    for kernels in (cpu, bnb, reference):
        own = kernels.__name__.rpartition(".")[2]
        for dtype in (torch.bfloat16, torch.float32):
            seconds = best_s(lambda k=kernels, d=dtype: k.dequantize(codes, absmax, code, BLOCK_SIZE, d), 3)
            show(f"dequantize {str(dtype)[6:]} {own}", codes.numel(), seconds, "Gparam/s")
        seconds = best_s(lambda k=kernels: k.quantize(weight, code, BLOCK_SIZE), 3)
        show(f"quantize {own}", codes.numel(), seconds, "Gparam/s")


if __name__ == "__main__":
    main()
