"""Subprocesses that are asked for one measurement at a time, so that rivals can take turns while each stays loaded.

Questions and answers are JSON objects, one a line; whatever else a worker prints goes to its log. Only the standard
library here: a worker may run under another Python.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

SETTLE_S = 0.3  # before a question: by then the threads of the one asked before have stopped spinning
MARK = "answer: "  # what a library prints before `serve` begins may still come first
Answer = dict[str, Any]


class WorkerError(Exception):
    """A worker could not do what it was asked; the text is one line for people."""


class Worker:
    """One subprocess; `name` is for people."""

    def __init__(self, name: str, command: Sequence[str], log: Path, **environment: str) -> None:
        self.name, self._log = name, log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **environment},
            )

    def ask(self, **question: object) -> Answer:
        """Raises WorkerError with the worker's own line, or with the end of its log if it died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        time.sleep(SETTLE_S)
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            line = next((line for line in self._process.stdout if line.startswith(MARK)), "")
        except BrokenPipeError:
            line = ""
        if not line:
            code = self._process.wait()
            last = (self._log.read_text(errors="replace").strip().splitlines() or ["nothing in its log"])[-1]
            raise WorkerError(f"ended with exit code {code}: {last[:200]} (see {self._log})")
        answer: Answer = json.loads(line.removeprefix(MARK))
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def close(self) -> None:
        """Waits until it has ended and its memory is free."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # a question that a dead worker never read
                    pipe.close()


def serve(answer: Callable[[Answer], Answer]) -> None:
    """In the worker: answer questions until there are no more. An exception is an answer too, its traceback logged."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line))
        except Exception as error:
            import traceback

            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        out.write(f"{MARK}{json.dumps(reply)}\n")
        out.flush()
