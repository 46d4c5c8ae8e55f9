"""`tertulia train --every 7d --min-new 200`: stay, and train when enough time and enough messages have come together.

Always: each run is a process of its own, whose memory is given back; a run that fails is told in its line, and tried
again, with what it had done kept. What no run could ever begin with is refused at once.
"""

import logging
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from bot.durations import parse_duration
from bot.settings import Settings

logger = logging.getLogger(__name__)

OWN_OPTIONS = ("--every", "--min-new")
LOOK_S = 600.0  # between two looks; less if --every is short
RETRY_S = 3600.0  # after a run that failed


def keep_training(settings: Settings, every: str, min_new: int) -> NoReturn:
    """Train again and again, by the command line that began this process.

    Raises BotError if `every` is no time, ModelError if there is no such model.
    """
    every_s = parse_duration(every, "--every")
    _find_model(settings)
    command = [sys.executable, "-m", "bot.cli", *without(sys.argv[1:], OWN_OPTIONS)]
    said = ""
    while True:
        reason = why_not(settings, timedelta(seconds=every_s), min_new)
        if reason is None:
            none = subprocess.DEVNULL  # the report quotes people, and this output may be a journal that is kept
            code = subprocess.run(command, stdin=none, stdout=none, check=False).returncode
            time.sleep(min(RETRY_S, every_s) if code else 0.0)
            continue
        if reason != said:
            print(reason, file=sys.stderr, flush=True)
            said = reason
        time.sleep(min(LOOK_S, every_s / 10))


def why_not(settings: Settings, every: timedelta, min_new: int) -> str | None:
    """Why no run is due now, in a sentence; None: one is. An unfinished one always is."""
    from training import runs

    runs_folder = settings.runs_dir
    if runs.unfinished(runs_folder):
        return None
    ended = [run for run in runs.every(runs_folder) if run.outcome != runs.GIVEN_UP]
    if ended and datetime.now(UTC) < (due := ended[-1].began_at + every):
        return f"the last training began {ended[-1].began_at:%Y-%m-%d %H:%M} UTC: the next is due {due:%Y-%m-%d %H:%M}"
    kept = (ended[-1].kept(runs.SNAPSHOT) or {}) if ended else {}
    # Also what curation dropped was seen: it would count as new for ever.
    num_new = len(_usable_rows(settings) - set(kept.get("seen_ids", kept.get("row_ids", ()))))
    if num_new < min_new:
        return f"{num_new} new messages may be learnt from, {min_new} are wanted"
    return None


def _find_model(settings: Settings) -> None:
    """Look for the model, and fetch and convert it if it is not here, in a process that gives its memory back."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from bot.loading import find_folder

    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pool.submit(find_folder, settings).result()


def without(args: Sequence[str], names: Sequence[str]) -> list[str]:
    """A command line without these options and their values."""
    kept: list[str] = []
    is_value = False
    for arg in args:
        name, equals, _ = arg.partition("=")
        if is_value:
            is_value = False
        elif name in names:
            is_value = not equals
        else:
            kept.append(arg)
    return kept


def _usable_rows(settings: Settings) -> set[int]:
    from training.curation import read_log
    from training.dialogues import DialogueLog

    with DialogueLog(settings.log_url()) as log:
        return {row for example in read_log(log).examples for row in example.row_ids}
