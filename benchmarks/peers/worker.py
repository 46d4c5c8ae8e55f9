"""One engine in a process of its own, measured on demand. Started by `benchmarks.peers.run`."""

from __future__ import annotations

import argparse
import random
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from benchmarks.peers import OURS, PEERS, Generate
from benchmarks.process import forget_peak, resident_mib, seconds
from benchmarks.shapes import SHAPES, Shape
from benchmarks.workers import Answer, serve

SHORT = 16  # tokens of the prompt that decoding starts from
DECODE_S = 4.0  # of decoding in a round: an engine that is too slow for all the tokens gets fewer


def measure(generate: Generate, shape: Shape, prompt: int, tokens: int) -> Answer:
    """step_s: a token of decoding, what the prompt and the first token take subtracted; prefill_s: `prompt` tokens."""

    def fresh(length: int) -> list[int]:  # no engine has seen it
        return random.choices(range(1, shape.num_tokens), k=length)

    first = seconds(lambda: generate(fresh(SHORT), 1))
    whole = seconds(lambda: generate(fresh(SHORT), tokens + 1))
    prefill = seconds(lambda: generate(fresh(prompt), 1))
    return {"step_s": (whole - first) / tokens, "prefill_s": prefill}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=("ours", *PEERS))
    parser.add_argument("--shape", choices=SHAPES)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--prompt", type=int)
    parser.add_argument("--tokens", type=int)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    shape, peer = SHAPES[options.shape], PEERS.get(options.name, OURS)
    made: list[Generate] = []

    def answer(question: Answer) -> Answer:
        if question["do"] == "build":
            try:
                module = import_module(f"benchmarks.peers.{peer.module}")
                made.append(module.build(shape, options.threads, options.folder))
            except ModuleNotFoundError as error:
                raise RuntimeError(f"{error}; pip install {peer.package}") from None
            built = resident_mib("VmHWM")
            made[0]([1] * SHORT, 3)  # warms up
            step_s = measure(made[0], shape, SHORT, 2)["step_s"]
            options.tokens = max(2, min(options.tokens, int(DECODE_S / max(step_s, 1e-6))))
            forget_peak()
            return {"build_mib": built, "version": version(peer.package)}
        figures = measure(made[0], shape, options.prompt, options.tokens)
        figures |= {"resident_mib": resident_mib(), "peak_mib": resident_mib("VmHWM")}
        if probe := getattr(made[0], "probe", None):
            figures |= probe()
            forget_peak()  # its own matrices do not count
        return figures

    serve(answer)


if __name__ == "__main__":
    main()
