"""Muon for the matrices inside the blocks, AdamW for the rest, on float32 copies of bfloat16 weights.

Muon (Jordan 2024) orthogonalises each matrix's momentum and needs about half of AdamW's tokens on models of this
kind. Own lines instead of torch.optim.Muon, because there the orthogonalisation took 370 ms a step here, uncompiled,
half of what the whole step may take. The network computes in bfloat16; small updates would be lost there, so they are
added to float32 copies.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def orthogonalized(matrix: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz: (M, N) -> the nearest matrix with all singular values about 1, in bfloat16 (coefficients of Jordan
    2024).
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = matrix.size(0) <= matrix.size(1)
    x = (matrix if wide else matrix.T).to(torch.bfloat16).contiguous()
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T.contiguous()
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x if wide else x.T


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; the step of a tall matrix is scaled by sqrt(rows / columns)."""

    def __init__(
        self, params: list[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0, compiled: bool = True
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.orthogonalized = torch.compile(orthogonalized, dynamic=False) if compiled else orthogonalized

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                buffer = state.setdefault("momentum", torch.zeros_like(parameter))
                buffer.lerp_(parameter.grad, 1 - group["momentum"])
                update = self.orthogonalized(parameter.grad.lerp(buffer, group["momentum"]))
                scale = max(1.0, parameter.size(0) / parameter.size(1)) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"] * scale)


class MixedOptimizer:
    """Steps float32 copies of `model`'s parameters and writes them back in the model's dtype."""

    def __init__(
        self,
        model: nn.Module,
        master: dict[str, Tensor],
        *,
        matrix_lr: float,
        table_lr: float,
        vector_lr: float,
        weight_decay: float,
        compiled: bool = True,
    ) -> None:
        self.parameters = dict(model.named_parameters())
        self.master = {name: master[name].detach().clone().float().requires_grad_() for name in self.parameters}
        tables = ("transformer.wte.weight", "lm_head.weight")
        matrices = [p for name, p in self.master.items() if p.dim() == 2 and name not in tables]
        embeddings = [p for name, p in self.master.items() if name in tables]
        vectors = [p for p in self.master.values() if p.dim() < 2]
        groups = [
            {"params": embeddings, "lr": table_lr, "weight_decay": weight_decay},
            {"params": vectors, "lr": vector_lr, "weight_decay": 0.0},
        ]
        self.optimizers: list[torch.optim.Optimizer] = [
            Muon(matrices, lr=matrix_lr, weight_decay=weight_decay, compiled=compiled),
            torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-10, fused=True),
        ]
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["base_lr"] = group["lr"]
        self.write_back()

    @torch.no_grad()
    def write_back(self) -> None:
        torch._foreach_copy_(list(self.parameters.values()), list(self.master.values()))

    @torch.no_grad()
    def step(self, factor: float, clip: float = 1.0) -> float:
        """One update at `factor` times each learning rate from the model's .grad, which is cleared -> the gradient's
        norm.
        """
        for name, parameter in self.parameters.items():
            grad = parameter.grad
            self.master[name].grad = None if grad is None else grad.float()
            parameter.grad = None
        norm = torch.nn.utils.clip_grad_norm_(list(self.master.values()), clip)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * factor
            optimizer.step()
        self.write_back()
        return float(norm)

    def state_dict(self) -> dict[str, Any]:
        return {
            "master": {name: parameter.detach() for name, parameter in self.master.items()},
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, parameter in self.master.items():
            parameter.copy_(state["master"][name])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.write_back()
