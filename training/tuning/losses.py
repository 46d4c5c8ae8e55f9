"""The two losses over a packed row: next token of the replies (SFT), and preference of one reply over another (DPO).

Always: a loss is a sum over its items (learnt tokens, or pairs), to be divided by the items of the whole step; so rows,
accumulation and processes may be cut in any way. Logits are computed only where a token is learnt.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from training.tuning.dataset import Encoded, Row
from training.tuning.presets import TuneOptions


def num_items(unit: tuple[Encoded, ...], options: TuneOptions) -> int:
    """By how many items a unit counts: its learnt tokens, or 1 for a pair."""
    return 1 if options.method == "dpo" else sum(encoded.num_learnt for encoded in unit)


def loss_sum(model: Any, row: Row, options: TuneOptions) -> Tensor:
    """The summed loss of a row, to go back through; NEFTune's noise only while the model trains."""
    if options.method == "dpo":
        return _dpo(model, row, options)
    return _token_losses(model, row, options.neftune).sum()


def _dpo(model: Any, row: Row, options: TuneOptions) -> Tensor:
    """Rafailov et al. 2023, eq. 7: -log sigmoid(beta * (margin of the policy - margin of the reference)), the reference
    being the same base with the adapter off; plus `chosen_weight` times the chosen reply's own loss a token, without
    which DPO makes both replies less likely and a held-out loss rises (Dubey et al. 2024, 4.1.4).
    """
    with torch.no_grad(), model.disable_adapter():
        training = model.training
        model.eval()
        reference = _sums(_token_losses(model, row, 0.0), row)
        model.train(training)
    losses = _sums(_token_losses(model, row, options.neftune), row)
    gained = reference - losses  # log-probability over the reference's; (chosen, rejected) in turn
    preference = -F.logsigmoid(options.beta * (gained[0::2] - gained[1::2]))
    chosen = losses[0::2] / losses.new_tensor(row.counts[0::2])
    return (preference + options.chosen_weight * chosen).sum()


def _sums(losses: Tensor, row: Row) -> Tensor:
    """(P,) -> (examples,). Not index_add, whose order of addition is not fixed on a GPU."""
    return torch.stack([part.sum() for part in losses.split(row.counts)])


def _token_losses(model: Any, row: Row, neftune: float) -> Tensor:
    """-log p of each learnt token, (P,) float32 at least."""
    inputs: dict[str, Tensor] = {"input_ids": row.input_ids}
    if neftune and model.training:
        inputs = {"inputs_embeds": _noisy(model.get_input_embeddings()(row.input_ids), row, neftune)}
    logits = model(**inputs, position_ids=row.position_ids, use_cache=False, logits_to_keep=row.kept).logits
    logits = logits[0].to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(logits, row.targets, reduction="none")


def _noisy(embeds: Tensor, row: Row, neftune: float) -> Tensor:
    """Jain et al. 2023: uniform noise of -1 to 1, times alpha / sqrt(L * D), L the length of each example."""
    lengths = torch.tensor(row.lengths, device=embeds.device)
    scale = neftune / (lengths.repeat_interleave(lengths) * embeds.shape[-1]).sqrt()  # (T,)
    return embeds + (torch.rand_like(embeds) * 2 - 1) * scale[:, None]
