"""Our engine beside others, on random weights of one shape: decoding, prefill, memory.

    python -m benchmarks.peers.run                                  # 4 layers of the 6B shape, what is installed
    python -m benchmarks.peers.run --python PEERS/bin/python        # the other engines from an environment of their own
    python -m benchmarks.peers.run --shape 6b --only llama_cpp openvino     # the whole shape, where memory allows

Each engine is a process of its own and they take turns; ratios compare answers that are nearest in time. What 28 layers
would do is extrapolated from four: decoding by the weights that a token streams (head included), prefill by the number
of layers. An engine that is not installed or fails is left out with a line. The last line is the figures as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers import OURS, PEERS
from benchmarks.process import available_mib, median
from benchmarks.rivals import Rival, compete, ratios
from benchmarks.shapes import SHAPES, Shape
from benchmarks.workers import Worker

OVERHEAD_MIB = 500  # of an interpreter, its libraries and activations
HEAD = ("", "ms/token", "tokens/s", "x ours", "28 layers", "prefill", "x ours", "28 layers", "resident", "at most")
LINE = "{:54} {:>8} {:>8} {:>6} {:>9} {:>8} {:>6} {:>9} {:>8} {:>7}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="6b-4layers", choices=SHAPES)
    parser.add_argument("--only", nargs="+", choices=PEERS, default=list(PEERS), help="these beside ours")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has the other engines")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=24, help="of decoding, each round")
    parser.add_argument("--prompt", type=int, default=512, help="tokens of prefill, each round")
    parser.add_argument("--folder", type=Path, default=Path("build/peers"), help="for the files some engines load")
    parser.add_argument("--quick", action="store_true", help="two rounds of 8 tokens")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.tokens = 2, 8
    shape = SHAPES[options.shape]
    options.prompt = min(options.prompt, shape.n_positions - 1)
    with tempfile.TemporaryDirectory() as logs:
        ours, *others = (rival(name, options, Path(logs)) for name in ("ours", *options.only))
        print(f"{options.shape}, {options.threads} threads, prefill of {options.prompt}", flush=True)
        print(compete(ours, others, options.rounds, available_mib()), flush=True)
    report(shape, options, [ours, *others])


def rival(name: str, options: argparse.Namespace, logs: Path) -> Rival:
    """Its worker under the interpreter that has it: ours and what is built on ours under this one."""
    peer = PEERS.get(name, OURS)
    python = sys.executable if peer.package == OURS.package else options.python
    command = [python, "-m", "benchmarks.peers.worker", name, "--folder", str(options.folder / options.shape)]
    for option in ("shape", "threads", "prompt", "tokens"):
        command += [f"--{option}", str(getattr(options, option))]
    needs_mib = int(SHAPES[options.shape].size_mib * peer.needs) + OVERHEAD_MIB
    return Rival(name, lambda: Worker(name, command, logs / f"{name}.log"), needs_mib)


def report(shape: Shape, options: argparse.Namespace, rivals: Sequence[Rival]) -> None:
    whole = SHAPES["6b"]
    is_part = (shape.n_embd, shape.vocab_size) == (whole.n_embd, whole.vocab_size) and shape.n_layer < whole.n_layer
    figures: dict[str, Any] = {"shape": options.shape, "threads": options.threads, "prompt": options.prompt}
    print(LINE.format(*HEAD))
    for rival in rivals:
        if not rival.answers:
            figures[rival.name] = {"left out": rival.trouble}
            continue
        step_s, prefill_s = (median([answer[key] for answer in rival.answers]) for key in ("step_s", "prefill_s"))
        row: dict[str, Any] = {
            "ms_per_token": round(1000 * step_s, 2),
            "tokens_per_s": round(1 / step_s, 2),
            "decode_x_ours": round(1 / median(ratios(rivals[0], rival, "step_s")), 2),
            "decode_28_layers": None,
            "prefill_tokens_per_s": round(options.prompt / prefill_s, 1),
            "prefill_x_ours": round(1 / median(ratios(rivals[0], rival, "prefill_s")), 2),
            "prefill_28_layers": None,
            "resident_gib": round(max(answer["resident_mib"] for answer in rival.answers) / 1024, 2),
            "peak_gib": round(max(answer["peak_mib"] for answer in rival.answers) / 1024, 2),
        }
        if is_part:
            row["decode_28_layers"] = round(1 / step_s * shape.streamed_weights / whole.streamed_weights, 2)
            row["prefill_28_layers"] = round(options.prompt / prefill_s * shape.n_layer / whole.n_layer, 1)
        title = f"{PEERS.get(rival.name, OURS).title} ({rival.built['version']})"
        print(LINE.format(title, *("" if value is None else value for value in row.values())))
        figures[rival.name] = {"version": rival.built["version"], **row}
    probes = [answer for answer in rivals[0].answers if "read_gbs" in answer]
    if probes:
        figures["read_gbs"] = round(median([answer["read_gbs"] for answer in probes]), 1)
        figures["bf16_gflops"] = round(max(answer["bf16_gflops"] for answer in probes), 1)
        streamed = [shape.streamed_weights / 1e9 / answer["step_s"] / answer["read_gbs"] for answer in probes]
        figures["share_of_read"] = round(median(streamed), 3)
        print(
            f"reading our weights: {figures['read_gbs']} GB/s, ours streams {100 * figures['share_of_read']:.0f} % of "
            f"it end to end; best bf16 matrix product: {figures['bf16_gflops']} GFLOP/s"
        )
    print("decoding and prefill in tokens/s, x ours: so many times our speed, memory in GiB", end="")
    print(f"; 28 layers: tokens/s extrapolated from {shape.n_layer}" if is_part else "")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
