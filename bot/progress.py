"""A progress bar on stderr, so that a command's output stays clean; it appears with the first step."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[..., None]]:
    """Yields `report(done, total, what="")`; nothing is drawn where stderr is no terminal."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[what]}", style="dim"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    task = None

    def report(done: int, total: int, what: str = "") -> None:
        nonlocal task
        if task is None:
            bar.start()
            task = bar.add_task(title, total=total, what=what)
        bar.update(task, completed=done, total=total, what=what[-40:])

    try:
        yield report
    finally:
        bar.stop()
