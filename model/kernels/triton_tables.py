"""The dynamic code as straight lines, for decoding by arithmetic; only for a stored table that they follow.

With v = index - 127 the magnitudes of today's table lie on one line in each octave of |v| (seven decades of 2^i evenly
spaced fractions, and 1.0 alone at v = 128). The lines are fitted to the stored table, never assumed, and each of the
256 values is compared with it.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

OCTAVES = 9  # of |v| + 0.5: from 0.5 (v = 0) to 128.5
_TOLERANCE = 6e-7  # relative: about ten roundings of float32


@dataclass(frozen=True)
class Table:
    """lines (16,) int64 on the table's device: slope and offset as two float32 an octave; which values follow them."""

    lines: Tensor
    followed: bool
    first_apart: bool  # old quantisers wrote -1.0 over the first value: that one is taken as stored

    def decoder(self, name: str) -> str:
        """The kernels' name of a decoder: "load", "gather" or one of the two of "lines"."""
        return "lines_first" if name == "lines" and self.first_apart else name


_seen = WeakIdKeyDictionary()  # code tensor -> (its version, its Table): looking at one waits for the device


def lines(code: Tensor) -> Table:
    """code (256,) float32 on any device -> its Table. Waits for the device once a tensor, never in a captured graph."""
    version = 0 if code.is_inference() else code._version
    known = _seen.get(code)
    if known is not None and known[0] == version:
        return known[1]
    if code.is_cuda and torch.cuda.is_current_stream_capturing():
        return Table(code.view(torch.int64), followed=False, first_apart=False)
    table = _fit(tuple(code.tolist()), code.device)
    _seen[code] = (version, table)
    return table


@cache
def _fit(values: tuple[float, ...], device: torch.device) -> Table:
    slopes, offsets = torch.zeros(16), torch.zeros(16)
    for octave in range(1, OCTAVES):
        low, high = 2 ** (octave - 1), min(2**octave - 1, 128)
        first, last = values[127 + low], values[127 + high]
        slope = (last - first) / (high - low) if high > low else 0.0
        slopes[octave] = slope
        offsets[octave] = first - float(slopes[octave]) * low
    v = torch.arange(-127, 129)
    octaves = (v.abs().double() + 0.5).log2().floor().long() + 1
    drawn = (slopes[octaves].double() * v + offsets[octaves].double() * v.sign()).float()
    stored = torch.tensor(values)
    near = (drawn - stored).abs() <= _TOLERANCE * stored.abs()
    packed = torch.stack([slopes, offsets], dim=1).contiguous().view(torch.int64).flatten()
    return Table(packed.to(device), followed=bool(near[1:].all()), first_apart=not bool(near[0]))
