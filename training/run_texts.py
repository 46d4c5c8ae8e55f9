"""What people said stands in a run's folder as long as it is needed, and not an hour longer than they let it.

A run's data, checkpoints and adapter go when it ends (the registry has the adapter); its page and its judgement, which
quote people, go when one of the rows they were made of may no longer be used. Figures, hashes and row ids stay.
"""

import shutil
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path

from training import runs
from training.errors import RegistryBusy
from training.registry import Registry
from training.runs import Run

QUOTING = (runs.JUDGEMENT, runs.PAGE)
ASIDE = tuple(f".{name}.*" for name in QUOTING)  # what `write_whole` leaves of them if it is killed
WITHDRAWN = "people have taken back what it was learning from"

Lost = Callable[[Iterable[int]], set[int]]  # those of some rows of the log that may no longer be used


def erase_data(run: Run) -> None:
    """The data's text goes, and what was trained on it, which stands in the registry; hashes and row ids stay."""
    from training.curation.snapshot import erase_text  # the bot comes here, and needs nothing else of curation

    half_written = run.folder.glob(".*.partial")
    for folder in (run.folder / runs.CHECKPOINTS, run.folder / runs.ADAPTER, *half_written):
        shutil.rmtree(folder, ignore_errors=True)
    for pattern in ASIDE:
        for path in run.folder.glob(pattern):
            path.unlink(missing_ok=True)
    if run.is_done("collect") and (run.folder / runs.DATA).is_dir():
        erase_text(run.folder / runs.DATA)
    else:
        shutil.rmtree(run.folder / runs.DATA, ignore_errors=True)


def erase_all(run: Run) -> None:
    """Everything that quotes people, also the page."""
    erase_data(run)
    for name in QUOTING:
        (run.folder / name).unlink(missing_ok=True)


def give_up(run: Run, reason: str) -> None:
    """End an unfinished run without a verdict, and erase what it holds of people."""
    run.give_up(reason)
    erase_all(run)


def has_lost(run: Run, lost: Lost) -> bool:
    """Whether a row that it learns from may no longer be used; what was cut while it collected, nobody knows of."""
    if not run.is_done("collect"):
        return True
    return bool(lost((run.kept(runs.SNAPSHOT) or {}).get("row_ids", ())))


def forget_rows(runs_folder: Path, lost: Lost, *, is_trainer: bool = False) -> list[str]:
    """Erase the texts of the runs that hold a row which may no longer be used -> ids of those runs.

    An unfinished one is given up, unless a process is at it, which notices by itself; `is_trainer`: we are that one.
    """
    changed = []
    for run in runs.every(runs_folder):
        goes_on = is_trainer and not run.is_done("collect")  # we collect anew
        if goes_on or not _holds_text(run) or not has_lost(run, lost):
            continue
        if run.next_phase is None:
            erase_all(run)
        else:
            try:
                with nullcontext() if is_trainer else Registry(runs_folder.parent / "adapters").lock("forgetting"):
                    give_up(run, WITHDRAWN)
            except RegistryBusy:
                continue
        changed.append(run.id)
    return changed


def _holds_text(run: Run) -> bool:
    patterns = (*QUOTING, *ASIDE, f"{runs.DATA}/*.jsonl", f"{runs.CHECKPOINTS}/*", ".*.partial")
    return any(True for pattern in patterns for _ in run.folder.glob(pattern))
