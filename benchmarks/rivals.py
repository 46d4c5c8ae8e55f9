"""Rivals that take turns at a measurement, each a worker of its own, all loaded together where memory allows.

Always: between two measurements of one rival every other has its own, so that a change of the machine's mood meets them
all. Where all do not fit at once, ours meets the others one by one; where not even two fit, they are loaded in turn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

from benchmarks.workers import Answer, Worker, WorkerError

HEADROOM_MIB = 1024  # that the machine keeps


@dataclass
class Rival:
    """`start` gives its worker, which needs about `needs_mib`; `answers` fill up, or `trouble` says why they do not.

    `built` is what the worker said of itself.
    """

    name: str
    start: Callable[[], Worker]
    needs_mib: int
    built: Answer = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    trouble: str = ""


def compete(ours: Rival, others: Sequence[Rival], rounds: int, available_mib: int) -> str:
    """Fills everyone's answers, `rounds` of them at least -> how it was done. Ends the program if ours has none."""
    everyone = [ours, *others]
    if _fit(everyone, available_mib):
        _side_by_side(everyone, rounds)
        said = ["all loaded together, taking turns"]
    else:
        said = _one_by_one(ours, others, rounds, available_mib)
    if not ours.answers:
        raise SystemExit(f"nothing to compare with: {ours.name} gave no answer ({ours.trouble})")
    return "; ".join(said)


def _one_by_one(ours: Rival, others: Sequence[Rival], rounds: int, available_mib: int) -> list[str]:
    said = []
    for other in others:
        if _fit([ours, other], available_mib):
            _side_by_side([ours, other], rounds)
            said.append(f"{other.name} in turns with ours")
        else:
            for rival in (ours, other, ours):
                _side_by_side([rival], rounds)
            said.append(f"{other.name} between two loadings of ours")
    return said


def _fit(rivals: Sequence[Rival], available_mib: int) -> bool:
    return sum(rival.needs_mib for rival in rivals) + HEADROOM_MIB <= available_mib


def _side_by_side(rivals: Sequence[Rival], rounds: int) -> None:
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for turn in range(rounds + 1):  # the first builds
            for rival in rivals:
                if rival.trouble:
                    continue
                try:
                    if turn == 0:
                        workers[rival.name] = stack.enter_context(closing(rival.start()))
                        rival.built = workers[rival.name].ask(do="build")
                    else:
                        answer = workers[rival.name].ask(do="measure")
                        rival.answers.append({**answer, "at": time.monotonic()})
                except WorkerError as error:
                    rival.trouble = str(error)
                    print(f"{rival.name} is left out: {error}", flush=True)


def ratios(ours: Rival, other: Rival, key: str) -> list[float]:
    """How many times as long the other took, for each of its answers, against ours nearest in time."""
    pairs = ((answer, min(ours.answers, key=lambda own: abs(own["at"] - answer["at"]))) for answer in other.answers)
    return [answer[key] / own[key] for answer, own in pairs]
