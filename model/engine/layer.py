"""A block's products, with what the adapters of a pass add to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from model.engine.adapters import Adapter
from model.engine.products import BlockProducts, activated, products
from model.engine.rows import TorchRows

if TYPE_CHECKING:
    from model.kernels.cpu_rows import CompiledRows


class Adapted(NamedTuple):
    """An adapter and the rows of a pass that are its own."""

    adapter: Adapter
    rows: slice


class Layer:
    """A block's products, by what they do for a row: read it, tell what attention found, tell what the MLP made."""

    def __init__(self, name: str, block: Any) -> None:
        self.name, self.norm_name, self.ln_1, self._act = name, f"{name}.ln_1", block.ln_1, block.mlp.act
        attn, mlp = block.attn, block.mlp
        self._read = products([attn.q_proj, attn.k_proj, attn.v_proj, mlp.fc_in])
        self._read_activated = activated(self._read)
        self._names = [f"{name}.attn.q_proj", f"{name}.attn.k_proj", f"{name}.attn.v_proj", f"{name}.mlp.fc_in"]
        self._attend, self._tell = products([attn.out_proj]), products([mlp.fc_out])

    @property
    def parts(self) -> BlockProducts:
        return self.ln_1, self._read, self._attend, self._tell

    def read(
        self, x: Tensor, adapted: Sequence[Adapted], into: list[Tensor] | None, rows: TorchRows | CompiledRows
    ) -> list[Tensor]:
        """x (N, n_embd) -> query, key, value (N, n_embd), the MLP's inner rows (N, n_inner), activated."""
        inner_adapted = any(adapter.reaches(self._names[-1]) for adapter, _ in adapted)
        in_one_call = None if inner_adapted or isinstance(rows, TorchRows) else self._read_activated
        ys = in_one_call(x, into) if in_one_call else self._read(x, into)
        for y, name in zip(ys, self._names, strict=True) if adapted else ():
            _add(y, x, name, adapted)
        return ys if in_one_call else [*ys[:-1], rows.activate(self._act, ys[-1])]

    def attend(self, mixed: Tensor, adapted: Sequence[Adapted], into: list[Tensor] | None) -> list[Tensor]:
        """What the heads mixed (N, n_embd) -> one tensor (N, n_embd)."""
        ys = self._attend(mixed, into)
        _add(ys[0], mixed, f"{self.name}.attn.out_proj", adapted)
        return ys

    def tell(self, inner: Tensor, adapted: Sequence[Adapted], into: list[Tensor] | None) -> list[Tensor]:
        """The MLP's inner rows (N, n_inner), activated -> one tensor (N, n_embd)."""
        ys = self._tell(inner, into)
        _add(ys[0], inner, f"{self.name}.mlp.fc_out", adapted)
        return ys


def _add(y: Tensor, x: Tensor, name: str, adapted: Sequence[Adapted]) -> None:
    """Adds to y what the adapters of its rows make of x."""
    for adapter, rows in adapted:
        adapter.add(y[rows], x[rows], name)
