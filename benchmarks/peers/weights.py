"""Random int8 weights as numpy arrays, and as ggml's Q8_0 blocks."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

GAIN = 0.7  # of a layer: standard deviation out over in
Q8_BLOCK = 32


@cache
def _pattern() -> Any:
    return np.random.default_rng(1).integers(-127, 128, 2**24 + 4099, dtype=np.int8)


def int8(rows: int, columns: int, shift: int = 0) -> Any:
    """(rows, columns) int8, an array of its own; another `shift`, other content."""
    return np.resize(np.roll(_pattern(), shift), (rows, columns))


def scale(columns: int) -> float:
    """What to multiply the integers with, so that a layer over `columns` inputs keeps activations finite."""
    return float(GAIN / (columns**0.5 * _pattern()[:65536].astype(np.float32).std()))


@cache
def q8_0(rows: int, columns: int) -> Any:
    """(rows, columns / 32 * 34) uint8: blocks of a float16 scale and 32 int8; the same array for the same size."""
    blocks = np.empty((rows * columns // Q8_BLOCK, 2 + Q8_BLOCK), dtype=np.uint8)
    blocks[:, :2] = np.frombuffer(np.float16(scale(columns)).tobytes(), dtype=np.uint8)
    blocks[:, 2:] = int8(rows * columns // Q8_BLOCK, Q8_BLOCK).view(np.uint8)
    return blocks.reshape(rows, -1)
