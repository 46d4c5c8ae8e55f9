"""A trained network made deeper without changing what it computes, so that a run can begin small and end large."""

from __future__ import annotations

from torch import Tensor

ADDS_TO_STREAM = ("attn.out_proj.weight", "mlp.fc_out.weight", "mlp.fc_out.bias")


def grown(weights: dict[str, Tensor], n_layer: int) -> dict[str, Tensor]:
    """The weights of an `n_layer` network of the same function: some blocks, evenly spread, are followed by a copy of
    themselves that adds nothing yet (block expansion: Wu et al. 2024, arXiv:2401.02415).

    Raises ValueError when there are more blocks already, or fewer than half as many.
    """
    old = 1 + max(int(name.split(".")[2]) for name in weights if name.startswith("transformer.h."))
    if not old <= n_layer <= 2 * old:
        raise ValueError(f"a network of {old} layers grows to {old}-{2 * old}, not to {n_layer}")
    added = n_layer - old
    doubled = {(place + 1) * old // added - 1 for place in range(added)}
    sources = [(block, copy) for block in range(old) for copy in ((False, True) if block in doubled else (False,))]
    result = {name: values for name, values in weights.items() if not name.startswith("transformer.h.")}
    for place, (block, is_copy) in enumerate(sources):
        prefix = f"transformer.h.{block}."
        for name, values in weights.items():
            if name.startswith(prefix):
                part = name.removeprefix(prefix)
                silent = is_copy and part in ADDS_TO_STREAM
                result[f"transformer.h.{place}.{part}"] = values.new_zeros(values.shape) if silent else values.clone()
    return result
