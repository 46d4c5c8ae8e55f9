"""The chat on a real pseudo-terminal: streaming, commands, paste, Ctrl-C, Ctrl-D."""

import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from bot import texts_es as es

_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")


class Screen:
    """A `tertulia` on a terminal of 24 x 80; what it wrote since the last step, without control codes."""

    def __init__(self, args: list[str], environment: dict[str, str], cwd: Path) -> None:
        self.child: pexpect.spawn[str] = pexpect.spawn(
            sys.executable,
            ["-m", "bot.cli", *args],
            # a pexpect "terminal" cannot answer where its cursor is
            env=environment | {"PROMPT_TOOLKIT_NO_CPR": "1"},
            cwd=str(cwd),
            encoding="utf-8",
            timeout=600,
            dimensions=(24, 80),
        )

    def until(self, text: str) -> str:
        self.child.expect_exact(text)
        return plain(self.child.before or "")

    def prompt(self) -> str:
        """Everything up to the next prompt that waits for input (it shows the cursor again)."""
        self.child.expect("tú › [^\\r\\n]*\x1b\\[\\?25h")
        return plain(self.child.before or "")

    def say(self, text: str) -> str:
        """Type a line; what was written until the next prompt, without the echo."""
        self.child.send(text + "\r")
        self.until("\x1b[?2004l")  # the prompt is over: what follows is the answer
        return self.prompt().strip()

    def paste(self, text: str) -> None:
        self.child.send(f"\x1b[200~{text}\x1b[201~")

    def reply(self, text: str) -> str:
        """Say something and return the reply alone."""
        return self.say(text).split("tertulia › ")[-1].strip()


def plain(text: str) -> str:
    return _CODES.sub("", text)


@pytest.fixture
def screen(tiny: Path, environment: dict[str, str], tmp_path: Path) -> Iterator[Screen]:
    it = Screen(["--model", str(tiny), "--seed", "4", "--max-new-tokens", "12"], environment, tmp_path)
    yield it
    it.child.close(force=True)


def test_a_conversation_on_a_terminal(screen: Screen, tmp_path: Path) -> None:
    assert "Tertulia" in screen.prompt()
    first = screen.reply("Hola")  # typed while the model loads
    assert first
    second = screen.reply("¿Qué tal?")
    assert es.UNKNOWN_COMMAND.format(name="/xyz") in screen.say("/xyz")
    assert "bloques de 64" in screen.say("/modelo")
    assert all(command in screen.say("/ayuda") for command in ("/nueva", "/repetir", "/salir"))
    assert es.UNDONE.format(text="¿Qué tal?") in screen.say("/deshacer")
    assert screen.reply("¿Qué tal?") == second  # the same seed, the same turn
    again = screen.reply("/repetir")
    assert again
    assert again != second
    assert es.SYSTEM_IS.format(text="Eres poeta.") in screen.say("/sistema Eres poeta.")
    assert es.NO_SYSTEM in screen.say("/sistema -")
    assert es.TEMPERATURE_IS.format(value="0,9") in screen.say("/temperatura")
    assert es.WRONG_TEMPERATURE.format(value="mucha") in screen.say("/temperatura mucha")
    assert es.TEMPERATURE_IS.format(value="0,5") in screen.say("/temperatura 0,5")
    assert es.TEMPERATURE_IS.format(value="0,9") in screen.say("/temperatura 0.9")
    assert es.TAKES_NOTHING.format(name="/nueva") in screen.say("/nueva x")
    assert es.NEW_CONVERSATION in screen.say("/nueva")
    assert es.NOTHING_TO_UNDO in screen.say("/deshacer")
    assert es.NOTHING_TO_REPEAT in screen.say("/repetir")
    assert screen.reply("Hola") == first
    assert es.SUICIDE[:30] in screen.say("me quiero morir")
    assert "tertulia: the last message needs" in " ".join(screen.say("palabra " * 300).split())
    assert screen.reply("Hola")

    screen.paste("primera línea\nsegunda línea")
    screen.child.send("\x1b\r")  # Alt-Enter: another line
    screen.child.send("tercera\r")
    screen.until("\x1b[?2004l")
    assert screen.prompt().strip()
    assert es.UNDONE.format(text="primera línea segunda línea tercera") in screen.say("/deshacer")

    screen.child.send("a medias\x03")  # Ctrl-C at the prompt drops the line
    assert es.HINT_LEAVE in screen.until(es.HINT_LEAVE) + es.HINT_LEAVE
    screen.prompt()
    screen.child.send("\x04")
    assert es.GOODBYE in screen.until(es.GOODBYE) + es.GOODBYE
    screen.child.expect(pexpect.EOF)
    screen.child.close()
    assert screen.child.exitstatus == 0

    history = tmp_path / "home" / ".local" / "state" / "tertulia" / "history"
    assert "+¿Qué tal?" in history.read_text(encoding="utf-8")
    assert oct(history.stat().st_mode & 0o777) == "0o600"


def test_ctrl_c_stops_a_reply_and_not_the_program(tiny: Path, environment: dict[str, str], tmp_path: Path) -> None:
    args = ["--model", str(tiny), "--seed", "4", "--max-new-tokens", "200", "--repetition-penalty", "1.5"]
    screen = Screen(args, environment | {"TERTULIA_HISTORY": "false"}, tmp_path)
    screen.prompt()
    screen.child.send("Hola\r")
    screen.until("tertulia › ")
    screen.child.sendintr()
    assert es.STOPPED in screen.prompt()
    assert es.TEMPERATURE_IS.format(value="0,9") in screen.say("/temperatura")
    assert es.UNDONE.format(text="Hola") in screen.say("/deshacer")  # what was said of it was kept
    screen.child.send("/salir\r")
    screen.child.expect(pexpect.EOF)
    screen.child.close()
    assert screen.child.exitstatus == 0
    assert not (tmp_path / "home" / ".local").exists()


def test_leaving_does_not_wait_for_the_model(tiny: Path, environment: dict[str, str], tmp_path: Path) -> None:
    screen = Screen(["--model", str(tiny)], environment, tmp_path)
    screen.prompt()
    screen.child.send("\x04")
    screen.child.expect(pexpect.EOF)
    screen.child.close()
    assert screen.child.exitstatus == 0


def test_ctrl_c_ends_the_wait_for_the_model(tiny: Path, environment: dict[str, str], tmp_path: Path) -> None:
    screen = Screen(["--model", str(tiny)], environment, tmp_path)
    screen.prompt()
    screen.child.send("Hola\r")
    screen.until("Cargando")
    os.kill(screen.child.pid, signal.SIGINT)
    screen.prompt()
    assert screen.reply("Hola")
    screen.child.close(force=True)


def test_a_model_that_cannot_be_loaded_ends_the_prompt(tiny: Path, environment: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    for path in tiny.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "config.json").write_text("{")
    screen = Screen(["--model", str(folder)], environment, tmp_path)
    screen.child.expect(pexpect.EOF)
    screen.child.close()
    last = plain(screen.child.before or "").strip().splitlines()[-1]
    assert "tertulia: " in last
    assert "config.json" in last
    assert screen.child.exitstatus == 2
