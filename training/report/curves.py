"""The loss curves of a run as a drawing for the page (SVG) or for the terminal (a row of blocks)."""

import io
from collections.abc import Sequence

Curve = Sequence[tuple[int, float]]

_BLOCKS = "▁▂▃▄▅▆▇█"


def draw(losses: Curve, held_out: Curve) -> str:
    """Loss against steps as an <svg> element; the same curves give the same text."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"svg.hashsalt": "tertulia", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure, axes = pyplot.subplots(figsize=(7.5, 3.2))
        if losses:
            axes.plot(*zip(*losses, strict=True), label="training", color="#8aa4c8", linewidth=1.2)
        if held_out:
            axes.plot(*zip(*held_out, strict=True), label="people watched", color="#b3402a", marker="o", markersize=4)
        axes.set_xlabel("step")
        axes.set_ylabel("loss, nats a token")
        axes.spines[["top", "right"]].set_visible(False)
        if losses or held_out:
            axes.legend(frameon=False)
        figure.tight_layout()
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    text = file.getvalue()
    return text[text.index("<svg") :]


def sparkline(curve: Curve, width: int = 60) -> str:
    """The curve in `width` characters, each the mean of its share of the points; empty without points."""
    values = [value for _, value in curve]
    if not values:
        return ""
    width = min(width, len(values))
    parts = [values[at * len(values) // width : (at + 1) * len(values) // width] for at in range(width)]
    means = [sum(part) / len(part) for part in parts]
    low, high = min(means), max(means)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BLOCKS[round((mean - low) * scale)] for mean in means)
