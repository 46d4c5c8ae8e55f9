"""A training run told on the terminal: the same facts as its page."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bot.screen import harmless

if TYPE_CHECKING:
    from training.report import RunReport
    from training.retrain import Preview


def print_report(report: "RunReport", page: Path | None) -> None:
    """Verdict, before/after, loss, data, twenty replies, time and memory; and where the page is."""
    from training.report.curves import sparkline

    console = _console()
    _line(console, f"run {report.run_id}, begun {report.began_at}: {report.outcome}")
    for reason in report.reasons:
        _line(console, f"  - {reason}")
    if report.table:
        rows = [(row.name, *row.cells) for row in report.table]
        console.print(_grid(("before and after", *report.contestants), rows))
    for name, curve in (("training", report.losses), ("watched", report.held_out_losses)):
        if curve:
            _line(console, f"loss, {name:<9} {curve[0][1]:.3f} {sparkline(curve)} {curve[-1][1]:.3f}")
    for warning in report.warnings:
        _line(console, f"warning: {warning}")
    if report.counts:
        console.print(_grid(("data", ""), [(name, f"{count:,}") for name, count in report.counts]))
    if report.side_by_side:
        said = [(prompt, *replies) for prompt, replies in report.side_by_side]
        console.print(_grid(("replies side by side", *report.contestants), said, numbers=False, lines=True))
    if report.costs:
        console.print(_grid(("time and memory", ""), report.costs))
    if page is not None:
        _line(console, f"page: {page}")


def print_preview(preview: "Preview") -> None:
    """What a run would learn from and what it would take."""
    from training.report.facts import duration

    console, found = _console(), preview.validation
    console.print(_grid(("data", ""), [(name, f"{count:,}") for name, count in preview.counts.items()]))
    names = {
        "examples": "examples to train on",
        "held_out": "examples held out",
        "preferences": "preferences",
        "tokens": "tokens",
        "trained_tokens": "of them learnt",
        "longest": "longest example, tokens",
        "cut": "examples cut to the context",
        "dropped_turns": "turns too long for the context, left out",
    }
    figures: list[tuple[str, str]] = [(text, f"{found[name]:,}") for name, text in names.items()]
    figures += [
        ("training takes about", duration(found["forecast_s"])),
        ("peak memory, about", f"{found['forecast_mb']:,.0f} MB"),
    ]
    console.print(_grid(("a run", ""), figures))
    if found["fitted"]:
        _line(console, found["fitted"])
    for warning in found["warnings"]:
        _line(console, f"warning: {warning}")


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160)


def _line(console: Console, text: str) -> None:
    console.print(harmless(text), markup=False, soft_wrap=True)


def _grid(head: tuple[str, ...], rows: Any, *, numbers: bool = True, lines: bool = False) -> Table:
    table = Table(box=None, pad_edge=False, title_justify="left", show_lines=lines, padding=(0, 2, 0, 0))
    for at, name in enumerate(head):
        justify: Literal["left", "right"] = "right" if numbers and at else "left"
        table.add_column(name, justify=justify, overflow="fold", ratio=None if numbers else 1)
    for row in rows:
        table.add_row(*(Text(harmless(cell)) for cell in row))
    return table
