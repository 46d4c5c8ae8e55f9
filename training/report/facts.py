"""The facts of a run's report, read from its folder: one source for the page and for the terminal.

Always: only what the run kept is told; a phase that was not reached is simply not in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from training.judging.judgement import BASE, CANDIDATE, IN_SERVICE, Judgement
from training.runs import JUDGEMENT, SNAPSHOT, Run

NAMES = {BASE: "base", IN_SERVICE: "in service", CANDIDATE: "candidate"}


@dataclass(frozen=True)
class Row:
    """One figure of the before/after table: its cells in the order of `RunReport.contestants`."""

    name: str
    cells: tuple[str, ...]
    better: str = ""  # "lower", "higher" or nothing: which way is good


@dataclass(frozen=True)
class RunReport:
    """All that is told of a run, as text and plain numbers."""

    run_id: str
    began_at: str
    outcome: str
    reasons: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    counts: tuple[tuple[str, int], ...]
    warnings: tuple[str, ...]
    losses: tuple[tuple[int, float], ...]  # (step, nats a token)
    held_out_losses: tuple[tuple[int, float], ...]
    contestants: tuple[str, ...]
    table: tuple[Row, ...]
    side_by_side: tuple[tuple[str, tuple[str, ...]], ...]  # prompt, replies in the order of `contestants`
    costs: tuple[tuple[str, str], ...]  # memory and time


def read_report(run: Run) -> RunReport:
    """What the run kept so far."""
    judgement = Judgement.read(run.folder / JUDGEMENT) if run.is_done("judge") else None
    validation = run.kept("validation") or {}
    tuning = run.kept("tuning") or {}
    names = [name for name in NAMES if judgement is not None and name in judgement.contestants]
    pairs = judgement.side_by_side if judgement is not None else []
    return RunReport(
        run_id=run.id,
        began_at=f"{run.began_at:%Y-%m-%d %H:%M} UTC",
        outcome=run.outcome or f"not ended: {run.next_phase} comes next",
        reasons=run.reasons,
        options=tuple((name, _text(value)) for name, value in _flat(run.options)),
        counts=tuple((name, int(count)) for name, count in (run.kept(SNAPSHOT) or {"counts": {}})["counts"].items()),
        warnings=tuple(validation.get("warnings", ())),
        losses=_curve(tuning.get("losses", ())),
        held_out_losses=_curve(tuning.get("held_out_losses", ())),
        contestants=tuple(NAMES[name] for name in names),
        table=tuple(_table(judgement, names)) if judgement is not None else (),
        side_by_side=tuple((prompt, tuple(said[name] for name in names)) for prompt, said in pairs),
        costs=tuple(_costs(run, tuning)),
    )


def _table(judgement: Judgement, names: list[str]) -> list[Row]:
    """Before and after, side by side."""

    def row(label: str, better: str, cell: Any) -> Row:
        return Row(label, tuple(cell(name) for name in names), better)

    def exposure(name: str) -> str:
        canaries = judgement.canaries.get(name, ())
        return f"{max(c.exposure for c in canaries):.1f} of {canaries[0].bits:.0f} bits" if canaries else "–"

    def extracted(name: str) -> str:
        return str(sum(canary.extracted for canary in judgement.canaries.get(name, ())))

    replies = judgement.replies
    return [
        row("held-out loss, nats a token", "lower", lambda name: f"{judgement.loss(name):.4f}"),
        row("held-out perplexity", "lower", lambda name: f"{judgement.perplexity(name):.2f}"),
        row("regression loss, nats a token", "lower", lambda name: f"{judgement.loss(name, 'regression'):.4f}"),
        row("replies that loop", "lower", lambda name: f"{replies[name].loops} of {replies[name].replies}"),
        row("repeated word pairs", "lower", lambda name: f"{replies[name].repetition:.1%}"),
        row("empty replies", "lower", lambda name: str(replies[name].empty)),
        row("refusals", "", lambda name: str(replies[name].refusals)),
        row("toxic replies", "lower", lambda name: str(replies[name].toxic)),
        row("words in a reply, median", "", lambda name: f"{replies[name].median_words:g}"),
        row("planted secrets said", "lower", extracted),
        row("exposure of a planted secret, largest", "lower", exposure),
    ]


def _costs(run: Run, tuning: dict[str, Any]) -> list[tuple[str, str]]:
    costs = [(phase, duration(seconds)) for phase, seconds in run.seconds.items()]
    if tuning:
        costs += [
            ("training steps", f"{tuning['steps']:,} ({tuning['epochs']:.2f} epochs), ended by {tuning['stopped']}"),
            ("trained on", f"{tuning['tokens']:,} tokens, {tuning['tokens_per_s']:,.0f} a second"),
            ("peak memory of training", f"{tuning['peak_mb']:,.0f} MB"),
        ]
        costs += [("memory budget", said)] if (said := tuning.get("fitted")) else []
    return costs


def duration(seconds: float) -> str:
    """For people: "3 h 20 min", "45 s"."""
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {s} s" if minutes else f"{seconds:.1f} s"


def _curve(points: Any) -> tuple[tuple[int, float], ...]:
    return tuple((int(step), float(loss)) for step, loss in points)


def _flat(options: dict[str, Any]) -> list[tuple[str, Any]]:
    """Nested options one a line: ("tune.rank", 8)."""
    flat: list[tuple[str, Any]] = []
    for name, value in options.items():
        if isinstance(value, dict):
            flat += [(f"{name}.{inner}", deep) for inner, deep in _flat(value)]
        else:
            flat.append((name, value))
    return flat


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
