"""How the Triton kernels cut their work, and which cut is taken: a few that make sense on Ampere and Hopper, timed.

No cut was measured when this was written: the compiler's output was read (vector loads, no spilled registers).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import torch
from triton.testing import do_bench

from model.kernels.triton_tables import Table


class Tiles(NamedTuple):
    """How `jit.multiply` cuts the work: rows of x, outputs, terms of the sum; warps, pipeline stages; decoder."""

    rows: int
    outputs: int
    terms: int
    num_warps: int
    num_stages: int
    decode: str


class Strip(NamedTuple):
    """How `jit.matvec` cuts the work: weights a program holds at a time, warps, decoder."""

    size: int
    num_warps: int
    decode: str


STRIPS = (
    *(Strip(4096, 4, decode) for decode in ("gather", "gather4", "lines", "load")),
    *(Strip(2048, 4, decode) for decode in ("gather", "lines")),
    Strip(8192, 8, "gather4"),
)
# In a pipelined loop "load" and "lines" copy the table's values one by one into shared memory: only "gather" pays.
FEW = (  # up to 16 rows
    *(Tiles(16, 64, 128, 4, 3, decode) for decode in ("gather", "gather4")),
    Tiles(16, 32, 256, 4, 3, "gather"),
    Tiles(16, 64, 64, 4, 4, "gather"),
)
MANY = (
    Tiles(64, 128, 64, 4, 3, "gather"),
    Tiles(64, 64, 64, 4, 4, "gather"),
    *(Tiles(128, 128, 64, 8, 3, decode) for decode in ("gather", "gather4")),
)
# Not on tensor cores; larger ones spill their registers.
FLOAT32 = (Tiles(16, 64, 32, 4, 2, "gather"), Tiles(32, 64, 32, 4, 2, "gather"))
_T = TypeVar("_T", Tiles, Strip)
_chosen: dict[tuple, Any] = {}


def codes_in_a_row(tiles: Tiles, backward: bool) -> int:
    return tiles.outputs if backward else tiles.terms


def usable(choices: Sequence[_T], table: Table) -> list[_T]:
    return [choice for choice in choices if choice.decode != "lines" or table.followed]


def fastest(key: tuple, choices: Sequence[_T], launch: Callable[[_T], None], device: torch.device) -> _T:
    """The fastest choice for a shape, measured at its first call; the first one where nothing can be measured.

    While a CUDA graph is captured nothing can: run the shape once before. A choice may change the order of a sum.
    """
    if device.type != "cuda":
        return choices[0]
    key = (device, *key)
    if key not in _chosen:
        if torch.cuda.is_current_stream_capturing():
            return choices[0]
        times = [do_bench(partial(launch, choice), warmup=5, rep=20) for choice in choices]
        _chosen[key] = choices[times.index(min(times))]
    return _chosen[key]
