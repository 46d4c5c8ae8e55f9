"""`tertulia bot` as a real process against the emulator: started, killed, asked to stop, its output kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.emulator import Emulator

ROOT = Path(__file__).parents[3]
ECHO, EMBEDDED = "tests.bot.reliability.echo_bot", "bot.cli"


class BotProcess:
    """One bot in `folder`; its state and output stay there over any number of starts."""

    def __init__(self, telegram: Emulator, folder: Path, module: str = ECHO, **settings: str | int | float) -> None:
        self.telegram = telegram
        self.folder = folder
        self.state = folder / "state"
        self.settings = {name: str(value) for name, value in settings.items()}
        self.args: list[str] = []
        self._module = module
        self._log = folder / "output.log"
        self._process: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        keep = {name: os.environ[name] for name in ("PATH", "LANG", "TZ", "OMP_NUM_THREADS") if name in os.environ}
        return (
            keep
            | {
                "HOME": str(self.folder),
                "PYTHONPATH": str(ROOT),
                "PYTHONUTF8": "1",
                "TELEGRAM_BOT_TOKEN": self.telegram.token,
                "TELEGRAM_BASE_URL": self.telegram.base_url,
                "TERTULIA_STATE_DIR": str(self.state),
                "TERTULIA_LOG_LEVEL": "debug",
                "TERTULIA_HEALTH_PORT": "0",
                "TERTULIA_MESSAGES_PER_MINUTE": "0",
                "TERTULIA_MESSAGES_PER_DAY": "0",
            }
            | self.settings
        )

    def start(self, *, wait: bool = True, timeout_s: float = 120.0) -> BotProcess:
        """Start it; with `wait`, return when it polls."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module, "bot", *self.args],
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        if wait:
            self.telegram.wait_for(lambda: self.telegram.listening() or self._check_alive(), timeout_s)
        return self

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the bot was not started"
        return self._process

    @property
    def output(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def stop(self, timeout_s: float = 60.0) -> tuple[float, int]:
        """SIGTERM -> (seconds until it ended, exit code)."""
        begin = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout_s)
        return time.monotonic() - begin, code

    def wait(self, timeout_s: float) -> int:
        return self.process.wait(timeout_s)

    def close(self) -> None:
        if self.running:
            self.kill()

    def _check_alive(self) -> bool:
        assert self.running, f"the bot ended with {self.process.returncode}:\n{self.output[-3000:]}"
        return False
