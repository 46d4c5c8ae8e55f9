"""One step of LoRA training: 8-bit weights by our kernels, by bitsandbytes' dequantisation, and bf16 weights.

    python -m benchmarks.train_step                  # 4 layers of the 6B shape
    python -m benchmarks.train_step --layers 28      # the whole shape: 13 GB for the bf16 rival

Rank 8 on q and v, 256 tokens, gradient checkpointing, AdamW8bit: `training.tuning`'s own step, on each kind of base.
Each rival is a process of its own with the same random model, and they take turns, all loaded at once where memory
allows, one after the other where not. The floor is the arithmetic (forward, recomputation, gradient of the inputs) at
the best bf16 matrix product of the same run. The last line is the figures as JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.process import available_mib, forget_peak, median, resident_mib, seconds
from benchmarks.rivals import Rival, compete, ratios
from benchmarks.shapes import SHAPES, Shape
from benchmarks.workers import Answer, Worker, serve

RIVALS = {"ours": "8-bit, our kernels", "bitsandbytes": "8-bit, bitsandbytes dequantises", "bf16": "bf16 weights"}
RANK, SPARE_MIB = 8, 3072
LINE = "{:34} {:>9} {:>9} {:>11} {:>10}"


def build(rival: str, layers: int, length: int, threads: int) -> Any:
    """-> a function without arguments that takes one step of training and gives the loss."""
    import torch

    from benchmarks.random_model import random_model
    from model.kernels import ops
    from training.tuning.learner import Learner
    from training.tuning.presets import TuneOptions
    from training.tuning.processes import Processes
    from training.tuning.random_rows import random_unit

    torch.set_num_threads(threads)
    if rival == "bitsandbytes":
        ops.use("bitsandbytes")
    in_8bit = rival != "bf16"
    base = random_model(_shape(layers), torch.float32 if in_8bit else torch.bfloat16, in_8bit)
    learner = Learner(base, TuneOptions(rank=RANK), Processes("cpu"))
    unit = random_unit(length, 1, SHAPES["tiny"].num_tokens)
    return lambda: learner.step([unit], 0, 1)


def _shape(layers: int) -> Shape:
    """`layers` of the 6B shape; 0 is the tiny one, to try the benchmark itself."""
    return dataclasses.replace(SHAPES["6b"], n_layer=layers) if layers else SHAPES["tiny"]


def work(rival: str, options: argparse.Namespace) -> None:
    """The worker of one rival."""
    made: list[Any] = []

    def answer(question: Answer) -> Answer:
        import torch

        from benchmarks.machine import matrix_gflops

        if question["do"] == "build":
            made.append(build(rival, options.layers, options.length, options.threads))
            made[0]()  # the first step warms up
            return {}
        took = seconds(made[0])
        figures = {"seconds": took, "peak_mib": resident_mib("VmHWM"), "gflops": 0.0}
        if rival == "ours":
            figures["gflops"] = matrix_gflops(options.length, torch.bfloat16)
            forget_peak()  # the probe's own matrices do not count
        return figures

    serve(answer)


def floor_s(layers: int, length: int, gflops: float) -> float:
    """Forward, recomputation and gradient of the input of every layer; forward and gradient of the head."""
    shape = _shape(layers)
    weights = 3 * shape.n_layer * shape.layer_weights + 2 * shape.vocab_size * shape.n_embd
    attention = 4 * shape.n_layer * length * shape.n_embd  # causal: half the scores are looked at
    return 2 * length * (weights + attention) / gflops / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=4, help="of 28; 0: a tiny model, to try the benchmark itself")
    parser.add_argument("--length", type=int, default=256, help="tokens of the one example")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--against", nargs="*", choices=list(RIVALS)[1:], default=list(RIVALS)[1:])
    parser.add_argument("--quick", action="store_true", help="two rounds")
    parser.add_argument("--worker", choices=RIVALS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options)
        return
    with tempfile.TemporaryDirectory() as logs:
        ours, *others = (rival(name, options, Path(logs)) for name in ("ours", *options.against))
        print(f"{options.threads} threads, {options.layers} layers, {options.length} tokens", flush=True)
        print(compete(ours, others, 2 if options.quick else options.rounds, available_mib()))
    report(options, [ours, *others])


def rival(name: str, options: argparse.Namespace, logs: Path) -> Rival:
    command = [sys.executable, "-m", "benchmarks.train_step", "--worker", name]
    for option in ("layers", "length", "threads"):
        command += [f"--{option}", str(getattr(options, option))]
    size = _shape(options.layers).size_mib * (2 if name == "bf16" else 1)
    return Rival(name, lambda: Worker(name, command, logs / f"{name}.log"), size + SPARE_MIB)


def report(options: argparse.Namespace, rivals: list[Rival]) -> None:
    figures: dict[str, Any] = {"layers": options.layers, "length": options.length, "threads": options.threads}
    print(LINE.format("LoRA step", "median s", "best s", "s / ours", "peak GiB"))
    for rival in rivals:
        if not rival.answers:
            continue
        took = [answer["seconds"] for answer in rival.answers]
        peak = max(answer["peak_mib"] for answer in rival.answers)
        times = round(median(ratios(rivals[0], rival, "seconds")), 3)
        numbers = (f"{median(took):.2f}", f"{min(took):.2f}", f"{times:.2f}", f"{peak / 1024:.2f}")
        print(LINE.format(RIVALS[rival.name], *numbers))
        best = round(min(took), 3)
        figures[rival.name] = {"median_s": round(median(took), 3), "best_s": best, "x_ours": times, "peak_mib": peak}
    gflops = max(answer["gflops"] for answer in rivals[0].answers)
    figures["bf16_gflops"] = round(gflops, 1)
    figures["floor_s"] = round(floor_s(options.layers, options.length, gflops), 3)
    print(f"floor {figures['floor_s']:.2f} s: the arithmetic at {gflops:.0f} GFLOP/s, the best product of this run")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
