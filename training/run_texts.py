"""What people said stands in a run's folder as long as it is needed, and not an hour longer than they let it.

A run's data, checkpoints and adapter go when it ends (the registry has the adapter); its page and its judgement, which
quote people, go when one of the rows they were made of may no longer be used. Figures, hashes and row ids stay.
Always: what has to go is gone before the run's state says so; what a kill leaves is erased by the next `forget_rows`.
"""

import shutil
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from training import runs
from training.errors import DataError, RegistryBusy, RunError
from training.registry import Registry
from training.runs import Run

QUOTING = (runs.JUDGEMENT, runs.PAGE)
ASIDE = tuple(f".{name}.*" for name in QUOTING)  # what `write_whole` leaves of them if it is killed
# What a run that has ended does not hold any more.
GONE = (*ASIDE, f"{runs.DATA}/*.jsonl", f"{runs.CHECKPOINTS}/*", f"{runs.ADAPTER}/*", ".*.partial")
WITHDRAWN = "people have taken back what it was learning from"
CUT = "its data were erased before it ended"  # why they were, the kill kept from being said

Lost = Callable[[Iterable[int]], set[int]]  # those of some rows of the log that may no longer be used


def erase_data(run: Run) -> None:
    """The data's text goes, and what was trained on it, which stands in the registry; hashes and row ids stay.

    The data first: a run of which other things are missing, and these are not, would be gone on with.
    """
    from training.curation.snapshot import erase_text  # the bot comes here, and needs nothing else of curation

    data = run.folder / runs.DATA
    try:
        erase_text(data)
    except (DataError, OSError):  # half collected, or damaged, or there is no room for a line in its manifest
        shutil.rmtree(data, ignore_errors=True)
    half_written = run.folder.glob(".*.partial")
    for folder in (run.folder / runs.CHECKPOINTS, run.folder / runs.ADAPTER, *half_written):
        shutil.rmtree(folder, ignore_errors=True)
    for pattern in ASIDE:
        for path in run.folder.glob(pattern):
            path.unlink(missing_ok=True)


def erase_all(run: Run) -> None:
    """Everything that quotes people, also the page."""
    erase_data(run)
    for name in QUOTING:
        (run.folder / name).unlink(missing_ok=True)


def give_up(run: Run, reason: str) -> None:
    """End an unfinished run without a verdict, and erase what it holds of people.

    Erased before it ends: killed in between, the run is one of `forget_rows` to end; the other way round nobody who
    lets what they said be used would ever be a reason to look into it again.
    """
    erase_all(run)
    run.give_up(reason)


def has_lost(run: Run, lost: Lost) -> bool:
    """Whether a row that it learns from may no longer be used, or nobody can say which rows these are."""
    if run.is_readable and not run.is_done("collect"):
        return True  # what was cut while it collected, nobody knows of
    try:
        rows = [int(row) for row in run.kept(runs.SNAPSHOT)["row_ids"]]
    except (OSError, ValueError, KeyError, TypeError):
        return True
    return bool(lost(rows))


def forget_rows(runs_folder: Path, lost: Lost, *, is_trainer: bool = False) -> list[str]:
    """Erase from the runs what may no longer be used, and what a kill left behind -> ids of the runs that changed.

    An unfinished one is given up, unless a process is at it, which notices by itself; `is_trainer`: we are that one.
    One whose state cannot be read stays as it is, but for what quotes people if a row is lost or nobody knows them.
    """
    changed = []
    for folder in runs.folders(runs_folder):
        run = _opened(folder)
        erase = _due(run, lost, is_trainer)
        if erase is not None and run.ended_at is None and not is_trainer:
            try:
                with Registry(runs_folder.parent / "adapters").lock("forgetting"):
                    run = _opened(folder)  # whoever was at it may have ended it by now
                    erase = _due(run, lost, is_trainer)
                    if erase is not None:
                        erase(run)
            except RegistryBusy:
                continue
        elif erase is not None:
            erase(run)
        if erase is not None:
            changed.append(run.id)
    return changed


def _opened(folder: Path) -> Run:
    try:
        return Run.open(folder)
    except RunError:  # the commands that look for a run say so; nobody else's text may wait for that
        return Run.unreadable(folder)


def _due(run: Run, lost: Lost, is_trainer: bool) -> Callable[[Run], None] | None:
    """How the run is to be erased now; None: not at all."""
    if run.ended_at is not None:
        if _holds(run, (*QUOTING, *GONE)) and (run.outcome == runs.GIVEN_UP or has_lost(run, lost)):
            return erase_all
        return erase_data if _holds(run, GONE) else None
    if not run.is_readable:
        return erase_all if _holds(run, (*QUOTING, *GONE)) and has_lost(run, lost) else None
    if not run.is_done("collect"):  # a trainer collects anew
        return None if is_trainer or not _holds(run, (*QUOTING, *GONE)) else partial(give_up, reason=WITHDRAWN)
    if has_lost(run, lost):
        return partial(give_up, reason=WITHDRAWN)
    return partial(give_up, reason=CUT) if _was_cut(run) else None


def _was_cut(run: Run) -> bool:
    """Whether a kill cut `give_up`: nothing else erases the data of a run that has no verdict yet."""
    from training.curation.snapshot import is_erased

    return not run.is_done("promote") and is_erased(run.folder / runs.DATA)


def _holds(run: Run, patterns: Iterable[str]) -> bool:
    return any(True for pattern in patterns for _ in run.folder.glob(pattern))
