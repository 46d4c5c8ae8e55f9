"""A training that the bot begins and does not wait for: a process of its own, which outlives the bot.

Always: there is one at most; whether it still runs is said by a lock that it holds, so a bot that was started again
knows it too; how it ended is told once.
"""

import contextlib
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from bot.settings import Settings
from training import runs
from training.whole_file import write_whole

ASKED, LOCK, OUTPUT = "training-asked.json", "training-asked.lock", "training-asked.log"
PASSED_ON = ("model", "prompt_format")  # settings that `tertulia bot` takes as options, and the training too


@dataclass(frozen=True)
class Asked:
    """In which chat a training was asked for, and when."""

    chat_id: int
    thread_id: int
    at: str


@dataclass(frozen=True)
class Ended:
    """How it ended: the run's state if it came to a verdict, else the line that says why not."""

    asked: Asked
    outcome: str | None
    failed: Mapping[str, str]  # the gate's rules that it failed: name -> its sentence
    reasons: tuple[str, ...]  # besides the gate's
    losses: tuple[float, float] | None  # held out, nats a token: what served before, the candidate
    error: str


class TrainingProcess:
    """The training of one state folder."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.state_dir.expanduser()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, chat_id: int, thread_id: int = 0) -> bool:
        """Begin; False if one runs, or its end was not told yet."""
        with self._locked() as lock:
            if lock is None or (self._folder / ASKED).exists():
                return False
            asked = Asked(chat_id, thread_id, datetime.now(UTC).isoformat())
            write_whole(self._folder / ASKED, json.dumps(asdict(asked)).encode())
            with (self._folder / OUTPUT).open("wb") as output:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "bot.cli", "train", *self._options()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,  # the report quotes people
                    stderr=output,
                    pass_fds=(lock,),  # the lock is held until the last of its copies is closed: until the process ends
                    start_new_session=True,
                )
            return True

    def asked(self) -> Asked | None:
        """Who asked for the training whose end was not told yet."""
        with contextlib.suppress(OSError, ValueError, TypeError):
            return Asked(**json.loads((self._folder / ASKED).read_text(encoding="utf-8")))
        return None

    def ended(self) -> Ended | None:
        """How the training that was asked for ended; None while it runs, or if none was asked for."""
        if self._process is not None:
            self._process.poll()  # else it stays as a zombie
        asked = self.asked()
        if asked is None:
            return None
        with self._locked() as lock:
            if lock is None:
                return None
            if self._process is not None:
                self._process.wait()  # it lets go of the lock a moment before it is gone
            return self._look(asked)

    def told(self) -> None:
        """Its end was told; another may be begun."""
        (self._folder / ASKED).unlink(missing_ok=True)

    def _look(self, asked: Asked) -> Ended:
        since = datetime.fromisoformat(asked.at)
        ended = [
            run for run in runs.every(self._settings.runs_dir) if run.ended_at is not None and run.ended_at > since
        ]
        if ended and ended[-1].outcome != runs.GIVEN_UP:
            run = ended[-1]
            failed, reasons = _told_by_gate(run)
            return Ended(asked, run.outcome, failed, reasons, _losses(run), "")
        lines = (self._folder / OUTPUT).read_text(encoding="utf-8", errors="replace").splitlines()
        said = [line for line in lines if line.startswith("tertulia: ")] or ["it was killed"]
        return Ended(asked, None, {}, (), None, said[-1].removeprefix("tertulia: "))

    def _options(self) -> list[str]:
        given = {name: getattr(self._settings, name) for name in PASSED_ON}
        return [part for name, value in given.items() if value for part in (f"--{name.replace('_', '-')}", str(value))]

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int | None]:
        """The lock's descriptor, or None if the training holds it."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield lock
        finally:
            os.close(lock)


def _told_by_gate(run: runs.Run) -> tuple[dict[str, str], tuple[str, ...]]:
    """The rules that the candidate failed, and the reasons that are no rule's."""
    try:
        checks = {str(check["words"]): check for check in run.kept("verdict")["checks"]}
        failed = {str(check["name"]): words for words, check in checks.items() if not check["passed"]}
    except (OSError, ValueError, KeyError, TypeError):  # of another tertulia, or damaged
        return {}, run.reasons
    return failed, tuple(reason for reason in run.reasons if reason not in checks)


def _losses(run: runs.Run) -> tuple[float, float] | None:
    if not (run.folder / runs.JUDGEMENT).is_file():
        return None  # somebody took something back since
    from training.judging.judgement import BASE, CANDIDATE, IN_SERVICE, Judgement

    judgement: Any = Judgement.read(run.folder / runs.JUDGEMENT)
    before = IN_SERVICE if IN_SERVICE in judgement.contestants else BASE
    return judgement.loss(before), judgement.loss(CANDIDATE)
