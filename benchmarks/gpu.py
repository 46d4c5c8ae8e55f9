"""Everything the project says about a GPU, side by side in one run of at most eight minutes.

    python -m benchmarks.gpu                                     # the true 6B shape; about 14 GB for the 16-bit rivals
    python -m benchmarks.gpu --shape tiny --device cpu --quick   # tries the benchmark itself

Random weights are made on the device. Each model is loaded in a process of its own, one after the other; a figure that
cannot be had is left out with its reason and the rest goes on. Goals stand beside the figures. The last line is all of
it as JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Protocol

from benchmarks.gpu_table import table
from benchmarks.shapes import SHAPES, Shape
from benchmarks.workers import Answer, Worker, WorkerError, serve

LIMIT_S, FIGURE_S = 470.0, 150.0  # of the whole run, of one figure
STATIC = ("graph_1", "graph_32")
COMPILED = ("compiled_1", "compiled_32")
LORA = ("layers_1", "layers_8")
# What is loaded: its class, how, and its figures in this order; what is riskier or matters less comes later.
PARTS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "ours": (
        "gpu_parts.Inference",
        {},
        ("about", "copy_gbs", "read_bytes", "peak", "runner_1", *STATIC, "prefill", *COMPILED, "engine_1"),
    ),
    "fp16": ("gpu_parts.Inference", {"in_8bit": False}, ("prefill", *STATIC, *COMPILED)),
    "lora": ("gpu_parts.Training", {}, (*LORA, "none_1", "attention_1", "offload_1", "budget")),
    "lora16": ("gpu_parts.Training", {"in_8bit": False}, LORA),
    "published": ("gpu_parts.Inference", {"kernels": "bitsandbytes"}, ("runner_1", *STATIC, "prefill")),
    "lora_published": ("gpu_parts.Training", {"kernels": "bitsandbytes"}, ("layers_1",)),
    "transformers": ("gpu_peers.Transformers", {}, ("eager_1", "eager_32")),
    "llm_int8": ("gpu_peers.Transformers", {"in_int8": True}, ("eager_1", "eager_32")),
    "transformers_compiled": ("gpu_peers.Transformers", {}, ("static_1", "static_32")),
}


class Asked(Protocol):
    def ask(self, **question: object) -> Answer: ...

    def close(self) -> None: ...


class Here:
    """A part in this process, for tests: no CUDA error to be kept from the others."""

    def __init__(self, part: str, shape: str, device: str, quick: bool) -> None:
        self._answer = answers(part, SHAPES[shape], device, quick)

    def ask(self, **question: object) -> Answer:
        try:
            return self._answer(dict(question))
        except Exception as error:
            raise WorkerError(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}") from error

    def close(self) -> None:
        pass


def answers(part: str, shape: Shape, device: str, quick: bool) -> Any:
    """The function that answers a worker's questions; the model is made at the first."""
    made: list[Any] = []

    def answer(question: Answer) -> Answer:
        if question["do"] == "build":
            from importlib import import_module

            where, how, _ = PARTS[part]
            module, _, name = where.partition(".")
            made.append(getattr(import_module(f"benchmarks.{module}"), name)(shape, device, quick, **how))
            return {}
        return dict(getattr(made[0], question["do"])())

    return answer


def measure(options: argparse.Namespace, logs: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """-> figures by "part.figure", and reasons of those there are not."""
    figures: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    ends = time.monotonic() + options.limit
    for part in options.parts:
        asked: Asked | None = None
        trouble = ""  # that no other figure of the part will be without
        for name in PARTS[part][2]:
            try:
                if trouble:
                    raise WorkerError(trouble)
                if asked is None:
                    asked = start(part, options, logs)
                    try:
                        in_time(asked, "build", ends)
                    except WorkerError as error:
                        trouble = str(error)
                        raise
                figures[f"{part}.{name}"] = in_time(asked, name, ends)
            except WorkerError as error:
                left_out[f"{part}.{name}"] = reason = str(error).partition(" (see ")[0]
                print(f"{part}.{name} is left out: {reason}", file=sys.stderr, flush=True)
                if asked is not None and (reason.startswith("ended") or "CUDA error" in reason):
                    asked.close()  # nothing more is to be had of this process; the next figure has another
                    asked = None
        if asked is not None:
            asked.close()
    return figures, left_out


def start(part: str, options: argparse.Namespace, logs: Path) -> Asked:
    if options.here:
        return Here(part, options.shape, options.device, options.quick)
    command = [sys.executable, "-m", "benchmarks.gpu", "--worker", part]
    command += ["--shape", options.shape, "--device", options.device, *(["--quick"] if options.quick else [])]
    return Worker(part, command, logs / f"{part}.log")


def in_time(asked: Asked, name: str, ends: float) -> Answer:
    """The answer; a worker that takes too long is ended in the midst of it."""
    left = min(FIGURE_S, ends - time.monotonic())
    if left <= 0:
        raise WorkerError("no time was left")
    late = threading.Event()

    def end() -> None:
        late.set()
        asked.close()

    timer = threading.Timer(left, end)
    timer.daemon = True
    timer.start()
    try:
        return asked.ask(do=name)
    except (ValueError, WorkerError) as error:  # ValueError: its pipe was closed under our hands
        if late.is_set():
            raise WorkerError(f"ended, since it took longer than {left:.0f} s") from None
        raise WorkerError(str(error)) from None
    finally:
        timer.cancel()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="6b", choices=SHAPES)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true", help="few tokens and repeats")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds for all of it")
    parser.add_argument("--here", action="store_true", help="all in this process")
    parser.add_argument("--worker", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        serve(answers(options.worker, SHAPES[options.shape], options.device, options.quick))
        return
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as logs:
        figures, left_out = measure(options, Path(logs))
    about = figures.pop("ours.about", {})
    print(", ".join(f"{name} {value}" for name, value in {"shape": options.shape, **about}.items()))
    rows = table(figures, judged=(options.shape, options.device) == ("6b", "cuda"))
    for row in rows:
        met = {None: "", True: "reached", False: "not reached"}[row.met]
        print(f"{row.name:64} {row.figure:>34} {row.goal:>9}  {met}".rstrip())
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}")
    seconds = round(time.monotonic() - began, 1)
    goals = {row.name: row.met for row in rows if row.goal}
    print(
        json.dumps(
            {
                "shape": options.shape,
                **about,
                "seconds": seconds,
                "figures": figures,
                "goals": goals,
                "left_out": left_out,
            }
        )
    )


if __name__ == "__main__":
    main()
