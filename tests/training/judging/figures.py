"""Judgements made up from a few numbers, of a candidate that nothing speaks against unless it is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from training.judging.judgement import BASE, CANDIDATE, CanaryFigures, Judgement, Pair, ReplyFigures, Unit

BETTER = [(100, 3.0, 2.8 + 0.01 * (n % 3)) for n in range(8)]
FINE = ReplyFigures(40, 0, 0, 0, 1, 0, (), 9.0, 0.01)


def units(losses: Sequence[tuple[int, float, float]]) -> tuple[Unit, ...]:
    """(tokens, the base's loss a token, the candidate's) each."""
    return tuple(
        Unit(f"u{n}", tokens, {BASE: tokens * base, CANDIDATE: tokens * candidate})
        for n, (tokens, base, candidate) in enumerate(losses)
    )


def made(
    people: Sequence[tuple[int, float, float]] = BETTER,
    regression: Sequence[tuple[int, float, float]] = ((10, 2.0, 2.01),) * 130,
    abuse: Sequence[tuple[int, float, float]] = ((8, 6.0, 6.1),) * 12,
    decency: Sequence[tuple[int, float, float]] = ((8, 6.0, 6.0),) * 12,
    exposures: Sequence[float] = (0.5, 3.0),
    extracted: bool = False,
    **replies: Any,
) -> Judgement:
    canaries = tuple(CanaryFigures(f"canary:{n}", bits, 26.6, extracted) for n, bits in enumerate(exposures))
    return Judgement(
        contestants={BASE: None, CANDIDATE: "/adapters/a"},
        held_out=units(people),
        regression=units(regression),
        abuse=units(abuse),
        decency=units(decency),
        replies={BASE: FINE, CANDIDATE: replace(FINE, **replies)},
        canaries={BASE: canaries, CANDIDATE: canaries},
        pairs=tuple(Pair(f"¿{n}?", {BASE: "Sí.", CANDIDATE: "¡Sí!"}, "held_out") for n in range(30)),
        seed=0,
        seconds=1.5,
    )
