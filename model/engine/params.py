"""How a reply is drawn: the numbers, checked where they are made. No torch here: settings and commands read this."""

import math
from dataclasses import dataclass, fields

# field: (lowest, highest, what is expected, in words)
RANGES: dict[str, tuple[float, float, str]] = {
    "temperature": (0.0, 100.0, "a number from 0 (always the likeliest token) to 100"),
    "top_p": (0.0, 1.0, "a number above 0, up to 1 (all tokens)"),
    "min_p": (0.0, 1.0, "a number from 0 (all tokens) to 1 (only the likeliest)"),
    "top_k": (0, 2**31, "an integer, 0 (all tokens) or more"),
    "repetition_penalty": (0.0, 100.0, "a number above 0 (1 is no penalty), up to 100"),
    "max_new_tokens": (1, 2**31, "an integer of 1 or more"),
    "seed": (0, 2**63 - 1, "an integer from 0 to 2^63 - 1"),
}
_INTEGERS = ("top_k", "max_new_tokens", "seed")
_ABOVE_ZERO = ("top_p", "repetition_penalty")


@dataclass(frozen=True)
class SamplingParams:
    """temperature 0 is greedy; top_k 0, min_p 0, top_p 1, repetition_penalty 1 do nothing; no seed: another each time.

    Raises ValueError naming the field, its value and its range.
    """

    temperature: float = 0.7
    top_p: float = 0.95
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    max_new_tokens: int = 256
    seed: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (in_range(field.name, value) or (field.name == "seed" and value is None)):
                raise ValueError(f"{field.name} is {value!r}: expected {RANGES[field.name][2]}")


def in_range(name: str, value: object) -> bool:
    """True if `value` is a number of the kind and range of the field `name`."""
    kind = int if name in _INTEGERS else int | float
    if not isinstance(value, kind) or isinstance(value, bool) or not math.isfinite(value):
        return False
    low, high, _ = RANGES[name]
    return low <= value <= high and not (name in _ABOVE_ZERO and value == 0)
