"""Training inside a memory budget: how much goes into a row and what is computed again, chosen by measuring.

Always: what is chosen changes how much memory a step takes and how long, never what it learns: the examples of a step
and its mean loss stay the same, only cut into more or fewer rows. One way forward and back is measured for each
candidate, from the most frugal one up, so that none that is tried takes more than about twice what one before it took
beside the weights. On a GPU the budget is then a hard limit.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from training.errors import TuneError
from training.gpu_memory import at_most, is_out_of_memory
from training.tuning.dataset import size
from training.tuning.learner import Learner, Units
from training.tuning.memory import forget_peak, peak_mb
from training.tuning.presets import Checkpointing, TuneOptions
from training.tuning.random_rows import full_row

SPARE = 0.03  # of the budget: rows of other lengths leave gaps, and the optimizer's state is not in the measurement
MIN_ROW = 64
FITTED = ("row_tokens", "checkpointing", "offload")  # the options that are chosen
# What is computed again, the most frugal first; in words, for people.
WAYS: tuple[tuple[Checkpointing, bool, str], ...] = (
    ("layers", True, "every layer computed again, its input waiting in the CPU's memory"),
    ("layers", False, "every layer computed again"),
    ("attention", False, "attention computed again"),
    ("mlp", False, "the MLPs computed again"),
    ("none", False, "nothing computed again"),
)


@dataclass(frozen=True)
class Candidate:
    """One way to spend memory: an index into WAYS, and the tokens of a row."""

    way: int
    row_tokens: int

    def of(self, options: TuneOptions) -> TuneOptions:
        checkpointing, offload, _ = WAYS[self.way]
        return replace(options, row_tokens=self.row_tokens, checkpointing=checkpointing, offload=offload)

    def __str__(self) -> str:
        return f"rows of {self.row_tokens:,} tokens, {WAYS[self.way][2]}"


@dataclass(frozen=True)
class Cost:
    """Of one way forward and back. peak_mb is infinite where memory ran out."""

    peak_mb: float
    tokens_per_s: float


@dataclass(frozen=True)
class Fit:
    """What was chosen, and the line that says so."""

    options: TuneOptions
    said: str


def fit(learner: Learner, longest: int, most: int) -> Fit:
    """The fastest way that keeps within `learner.options.memory_gb`; the learner takes it.

    longest: tokens of the longest unit, below which a row cannot be cut; most: tokens of a step. Every process measures
    on its own and takes what the main one chose. Raises TuneError naming the smallest budget that would do.
    """
    options, device = learner.options, learner.processes.device
    ways = range(0 if device.type == "cuda" else 1, len(WAYS))
    rows = row_sizes(options.row_tokens, longest, most)

    def measure(candidate: Candidate) -> Cost:
        learner.use(candidate.of(options))
        return _measure(learner, candidate.row_tokens)

    first = measure(Candidate(ways[0], rows[0]))  # reads the weights too; without the limit, to name it if it is more
    if fits(first, options.memory_gb):
        at_most(str(device), options.memory_gb)
    found: tuple[Candidate, Cost, int] | TuneError
    try:
        found = choose(ways, rows, options.memory_gb, measure)
    except TuneError as error:
        found = error
    found = learner.processes.object_from_main(found)
    if isinstance(found, TuneError):
        raise found
    chosen, cost, tried = found
    learner.use(chosen.of(options))
    return Fit(
        learner.options,
        f"within {options.memory_gb:g} GB: {chosen}; {cost.peak_mb / 1000:.2f} GB at most, "
        f"{cost.tokens_per_s:,.0f} tokens/s (the fastest of {tried} ways tried)",
    )


def choose(
    ways: range, rows: list[int], memory_gb: float, measure: Callable[[Candidate], Cost]
) -> tuple[Candidate, Cost, int]:
    """The fastest candidate that fits, and how many were measured. Raises TuneError if none does.

    ways and rows are ordered from little memory to much. From the smallest row on, each row is tried in the least
    frugal way that the one before it could afford, then in more frugal ones until it fits.
    """
    found: dict[Candidate, Cost] = {}
    way = ways[0]
    smallest = Candidate(way, rows[0])
    found[smallest] = measure(smallest)
    if not fits(found[smallest], memory_gb):
        raise TuneError(
            f"memory_gb is {memory_gb:g}: nothing fits; the least, {smallest}, takes "
            f"{_enough(found[smallest].peak_mb)}, or less with a shorter context"
        )
    for more in ways[1:]:
        found[Candidate(more, rows[0])] = cost = measure(Candidate(more, rows[0]))
        if not fits(cost, memory_gb):
            break
        way = more
    for row in rows[1:]:
        while way >= ways[0]:
            found[Candidate(way, row)] = cost = measure(Candidate(way, row))
            if fits(cost, memory_gb):
                break
            way -= 1
        else:
            break
    good = {candidate: cost for candidate, cost in found.items() if fits(cost, memory_gb)}
    best = max(good, key=lambda candidate: good[candidate].tokens_per_s)
    return best, good[best], len(found)


def fits(cost: Cost, memory_gb: float) -> bool:
    return cost.peak_mb <= memory_gb * 1000 * (1 - SPARE)


def row_sizes(row_tokens: int, longest: int, most: int) -> list[int]:
    """Halves of `row_tokens` down to the longest unit, which has a row to itself in any case; up to a whole step."""
    least = max(longest, min(MIN_ROW, row_tokens))
    sizes = {max(least, min(row_tokens, most))}
    while (half := min(sizes) // 2) > least:
        sizes.add(half)
    return sorted(sizes | {least})


def bounds(units: Units, options: TuneOptions) -> tuple[int, int]:
    """-> tokens of the longest unit, tokens of the largest step."""
    sizes = sorted(map(size, units), reverse=True)
    return sizes[0], sum(sizes[: options.batch_size])


def _enough(peak: float) -> str:
    if math.isinf(peak):
        return "more than there is"
    return f"{math.ceil(peak / 100 / (1 - SPARE)) / 10:g} GB"


def _measure(learner: Learner, tokens: int) -> Cost:
    device = learner.processes.device
    units = full_row(tokens, learner.options, learner.model.config)
    seconds = 0.0
    for _ in range(2 if device.type == "cuda" else 1):  # a kernel is chosen or compiled the first time
        forget_peak(device)
        began = time.monotonic()
        try:
            learner.rehearse(units)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            seconds = math.inf
        if math.isinf(seconds):
            gc.collect()
            return Cost(math.inf, 0.0)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.monotonic() - began
    return Cost(peak_mb(device), sum(map(size, units)) / seconds)
