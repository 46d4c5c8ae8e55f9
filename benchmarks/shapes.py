"""The shapes that are measured: the true 6B one, four layers of it, and a tiny one to try the benchmarks themselves.

Only the standard library here: other engines are measured under a Python of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shape:
    """The numbers of a GPT-J."""

    n_layer: int
    n_embd: int = 4096
    n_head: int = 16
    rotary_dim: int = 64
    vocab_size: int = 50400
    num_tokens: int = 50257
    n_positions: int = 2048
    block_size: int = 4096

    @property
    def layer_weights(self) -> int:
        return 12 * self.n_embd**2

    @property
    def streamed_weights(self) -> int:
        """Weights that one token of decoding reads: all but the embedding table."""
        return self.n_layer * self.layer_weights + self.vocab_size * self.n_embd

    @property
    def size_mib(self) -> int:
        """Of all its weights at a byte each."""
        return (self.streamed_weights + self.vocab_size * self.n_embd) // 2**20

    def numbers(self, *names: str) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names}


SHAPES = {
    "6b": Shape(28),
    "6b-4layers": Shape(4),
    "tiny": Shape(2, 256, 4, 32, 512, 500, 512, 256),
}
