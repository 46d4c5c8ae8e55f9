"""Page of a run: one HTML file with its drawing inside, no script, nothing from elsewhere; all text is escaped."""

from pathlib import Path

from training.report.curves import draw
from training.report.facts import RunReport
from training.whole_file import write_whole

TEMPLATE = Path(__file__).parent / "page.html"


def write_page(report: RunReport, path: Path) -> None:
    """Write it whole or not at all, for its owner only: it quotes people."""
    write_whole(path, render_page(report).encode())


def render_page(report: RunReport) -> str:
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    has_curves = bool(report.losses or report.held_out_losses)
    drawing = Markup(draw(report.losses, report.held_out_losses)) if has_curves else None
    return template.render(report=report, drawing=drawing)
