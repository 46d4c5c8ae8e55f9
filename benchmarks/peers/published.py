"""The published scheme: dequantise a whole layer with bitsandbytes, then multiply; glue and engine are ours."""

from __future__ import annotations

from pathlib import Path

from benchmarks.peers import Generate, ours
from benchmarks.shapes import Shape


def build(shape: Shape, threads: int, folder: Path) -> Generate:
    return ours.build(shape, threads, folder, kernels="bitsandbytes").__call__
