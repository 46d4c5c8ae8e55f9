"""LoRA adapters as serving wants them: several at once on one base, each row of a batch with its own.

A reply holds on to the adapter it began with, so a swap never mixes two in one reply, and an adapter nobody uses any
more is freed. Files are checked key by key by `model.lora` before anything is read. Hu et al. 2021, LoRA:
y = W x + (alpha / r) B A x.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from model.gptj import GPTJ8bitPreTrainedModel
from model.lora import ADAPTER_WEIGHTS, checked_config


@dataclass(frozen=True, eq=False)
class Adapter:
    """name, and by layer name ("transformer.h.0.attn.q_proj") A (r, in), B (out, r) and the scale."""

    name: str
    matrices: dict[str, tuple[Tensor, Tensor, float]]

    def add(self, y: Tensor, x: Tensor, layer: str) -> None:
        """Adds B A x to y (N, out) in place where the adapter reaches `layer`; x (N, in)."""
        if found := self.matrices.get(layer):
            a, b, scale = found
            y.add_(F.linear(F.linear(x, a), b), alpha=scale)


def read_adapter(model: GPTJ8bitPreTrainedModel, folder: str | Path, name: str | None = None) -> Adapter:
    """The PEFT adapter in `folder`, in the model's dtype on its device.

    Raises CheckpointError naming what is wrong, see `model.lora.load_adapter`.
    """
    folder = Path(folder)
    config = checked_config(folder, model)
    scale = config.lora_alpha / (config.r**0.5 if config.use_rslora else config.r)
    tensors = load_file(folder / ADAPTER_WEIGHTS)
    matrices = {}
    for key, a in tensors.items():
        if key.endswith(".lora_A.weight"):
            layer = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            b = tensors[key.replace(".lora_A.", ".lora_B.")]
            matrices[layer] = (_placed(a, model), _placed(b, model), scale)
    return Adapter(name or folder.name, matrices)


def _placed(tensor: Tensor, model: GPTJ8bitPreTrainedModel) -> Tensor:
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    return tensor.to(model.device, dtype).contiguous()
