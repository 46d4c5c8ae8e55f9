"""What is seen of a training run while it goes: a bar on a terminal, a line now and then in a log."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from bot.activity import Activity
from bot.settings import Settings

if TYPE_CHECKING:
    from training.retrain_options import Watch
    from training.tuning.results import TuneProgress

LINE_EVERY_S = 60.0  # where nobody looks at a bar


@contextmanager
def screen(settings: Settings) -> "Iterator[Watch]":
    """Someone to look on, on stderr; who also says that the machine may be used while nobody is being answered."""
    from training.retrain_options import Watch

    activity = Activity(settings.state_dir)
    with _Screen() as shown:
        yield Watch(
            say=shown.say,
            tuning=shown.tuning,
            judging=shown.judging,
            may_run=lambda: activity.is_quiet(settings.train_idle_s),
        )


class _Screen:
    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[what]}", style="dim"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        self._title = ""
        self._line_at = time.monotonic()

    def __enter__(self) -> "_Screen":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def tuning(self, progress: "TuneProgress") -> None:
        loss = f"loss {progress.loss:.3f}" if progress.loss is not None else ""
        held = f"watched {progress.held_out_loss:.3f}" if progress.held_out_loss is not None else ""
        speed = f"{progress.tokens_per_s:,.0f} tokens/s" if progress.tokens_per_s else ""
        left = f"{_time(progress.eta_s)} left" if progress.eta_s is not None else ""
        memory = f"{progress.memory_mb:,.0f} MB" if progress.memory_mb else ""
        what = ", ".join(part for part in (loss, held, speed, left, memory) if part)
        self._show(progress.phase, progress.step, progress.total_steps, what)

    def judging(self, what: str, done: int, total: int) -> None:
        self._show(what, done, total, "")

    def _show(self, title: str, done: int, total: int, what: str) -> None:
        if self._task is None:
            self._task = self._bar.add_task(title, total=total, what=what)
        self._bar.update(self._task, description=title, completed=done, total=total, what=what)
        is_news = title != self._title or time.monotonic() - self._line_at > LINE_EVERY_S
        if not self._console.is_terminal and is_news:
            self._line_at = time.monotonic()
            self.say(f"{title} {done}/{total} {what}".rstrip() if total else title)
        self._title = title


def _time(seconds: float) -> str:
    from training.report.facts import duration

    return duration(seconds)
