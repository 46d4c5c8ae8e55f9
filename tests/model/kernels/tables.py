"""Code tables that files hold or could hold: every implementation must follow the one it is given."""

import torch

from model.dynamic8 import code_table


def tables() -> dict[str, torch.Tensor]:
    """Each (256,) float32, to be changed at will. "published": old quantisers wrote -1.0 over the first entry."""
    published = code_table().clone()
    published[0] = -1.0
    bent = code_table().clone()
    bent[200] *= 1.001
    ends_below_one = code_table().clone()
    ends_below_one[255] = 0.9999
    return {
        "today": code_table().clone(),
        "published": published,
        "bent": bent,
        "ends below one": ends_below_one,
        "even": torch.linspace(-1, 1, 256),
    }
