"""The page of a run, and the curves in it and on the terminal."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from training.report.curves import draw, sparkline
from training.report.facts import Row, RunReport, duration
from training.report.page import render_page, write_page

LOSSES = ((1, 4.0), (2, 3.0), (3, 2.5))


def report(**more: object) -> RunReport:
    fields: dict[str, object] = {
        "run_id": "20260101-000000-ab12",
        "began_at": "2026-01-01 00:00 UTC",
        "outcome": "promoted",
        "reasons": ("held-out loss falls",),
        "options": (("tune.rank", "8"),),
        "counts": (("train_turns", 1234),),
        "warnings": (),
        "losses": LOSSES,
        "held_out_losses": ((0, 4.5), (3, 3.5)),
        "contestants": ("base", "candidate"),
        "table": (Row("held-out loss", ("4.50", "3.50"), "lower"),),
        "side_by_side": (("¿Qué tal?", ("Bien.", "Estupendamente.")),),
        "costs": (("tune", "3 min 5 s"),),
    }
    return RunReport(**fields | more)  # type: ignore[arg-type]


def test_what_people_wrote_cannot_run_in_the_page() -> None:
    """The page quotes strangers, and is opened by whoever looks after the bot."""
    attack = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&"
    page = render_page(report(side_by_side=((attack, (attack, attack)),), reasons=(attack,)))
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("&lt;script&gt;") == 4
    assert "default-src 'none'" in page


def test_a_run_that_was_cut_has_a_page_of_what_there_is() -> None:
    page = render_page(report(losses=(), held_out_losses=(), table=(), side_by_side=(), contestants=(), costs=()))
    assert "Before and after" not in page
    assert "<svg" not in page
    assert "1,234" in page


def test_the_page_is_the_same_for_the_same_run(tmp_path: Path) -> None:
    write_page(report(), tmp_path / "a.html")
    write_page(report(), tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_the_drawing_is_sound_and_loads_nothing() -> None:
    drawing = ElementTree.fromstring(draw(LOSSES, ()))
    links = [value for element in drawing.iter() for name, value in element.attrib.items() if name.endswith("href")]
    assert all(link.startswith("#") for link in links)


def test_a_single_point_is_drawn() -> None:
    assert "<svg" in draw(((1, 2.0),), ())
    assert sparkline(((1, 2.0),)) == "▁"


def test_a_long_curve_keeps_its_ends_on_the_terminal() -> None:
    curve = [(step, 10.0 - step / 100) for step in range(900)]
    line = sparkline(curve, 60)
    assert (len(line), line[0], line[-1]) == (60, "█", "▁")
    assert sparkline(()) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.4, "59.4 s"), (185, "3 min 5 s"), (3600, "1 h 0 min"), (9000, "2 h 30 min")],
)
def test_times_are_told_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text
