"""LoRA adapters as serving wants them: several at once on one base, each row of a batch with its own.

A reply holds on to the adapter it began with, so a swap never mixes two in one reply, and an adapter nobody uses any
more is freed. Files are checked key by key by `model.lora` before anything is read. Hu et al. 2021, LoRA:
y = W x + (alpha / r) B A x.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from model.gptj import GPTJ8bitPreTrainedModel
from model.lora import read_matrices, read_norms


@dataclass(frozen=True, eq=False)
class Adapter:
    """name; by layer name ("transformer.h.0.attn.q_proj") A (r, in), B (out, r) and the scale; and where it brings its
    own LayerNorms, their tensors by name ("transformer.ln_f.weight").
    """

    name: str
    matrices: dict[str, tuple[Tensor, Tensor, float]]
    norms: dict[str, Tensor] = field(default_factory=dict)

    def reaches(self, layer: str) -> bool:
        """Whether it adds to what `layer` gives."""
        return layer in self.matrices

    def add(self, y: Tensor, x: Tensor, layer: str) -> None:
        """Adds B A x to y (N, out) in place where the adapter reaches `layer`; x (N, in)."""
        if found := self.matrices.get(layer):
            a, b, scale = found
            y.add_(F.linear(F.linear(x, a), b), alpha=scale)

    @property
    def normed_layers(self) -> list[str]:
        """The LayerNorms that it brings."""
        return [name.removesuffix(".weight") for name in self.norms if name.endswith(".weight")]

    def norm(self, x: Tensor, layer: str, eps: float) -> Tensor:
        """x (N, D) through its own LayerNorm."""
        return F.layer_norm(x, x.shape[-1:], self.norms[f"{layer}.weight"], self.norms[f"{layer}.bias"], eps)


def read_adapter(model: GPTJ8bitPreTrainedModel, folder: str | Path, name: str | None = None) -> Adapter:
    """The PEFT adapter in `folder`, in the model's dtype on its device.

    Raises CheckpointError naming what is wrong, see `model.lora.load_adapter`.
    """
    folder = Path(folder)
    matrices = {
        layer: (_placed(a, model), _placed(b, model), scale)
        for layer, (a, b, scale) in read_matrices(folder, model).items()
    }
    norms = {key: _placed(tensor, model) for key, tensor in read_norms(folder).items()}
    return Adapter(name or folder.name, matrices, norms)


def _placed(tensor: Tensor, model: GPTJ8bitPreTrainedModel) -> Tensor:
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    return tensor.to(model.device, dtype).contiguous()
