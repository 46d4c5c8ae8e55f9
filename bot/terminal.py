"""The chat on a terminal: the prompt shows at once, the model loads meanwhile, replies stream.

Always: Ctrl-C stops a reply and never the program; nothing that the model says can control the terminal.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.formatted_text import FormattedText
from rich.console import Console
from rich.markup import escape

from bot import texts_es as es
from bot.errors import BotError
from bot.loading import Loaded, load_in_background
from bot.prompt import make_session
from bot.report import describe
from bot.screen import WordWrap, harmless, shorten
from bot.service import Reply
from bot.settings import Settings
from bot.talk import Talk
from model.engine.params import in_range
from model.errors import ModelError


class Terminal:
    """A conversation with a person at a terminal."""

    def __init__(self, settings: Settings, loading: Future[Loaded], console: Console) -> None:
        self.settings = settings
        self.loading = loading
        self.console = console
        self.system = settings.system
        self.temperature: float | None = None
        self._talk: Talk | None = None
        self._dropped = 0  # messages that the person was told are no longer read
        self._cancel = threading.Event()
        self.commands: dict[str, Callable[[str], bool]] = {
            "/nueva": self.new,
            "/ayuda": self.help,
            "/modelo": self.model,
            "/sistema": self.set_system,
            "/temperatura": self.set_temperature,
            "/deshacer": self.undo,
            "/repetir": self.repeat,
            "/salir": self.leave,
        }

    def run(self) -> None:
        """Ask and answer until the person leaves. Raises what the loading raised."""
        self.console.print(f"[bold]Tertulia[/] · {escape(es.WELCOME)}", highlight=False)
        session = make_session(self.settings, list(self.commands))
        self.loading.add_done_callback(lambda _: self._fail_at_the_prompt(session))
        prompt = FormattedText([("bold ansicyan", f"{es.YOU} › ")])
        while True:
            try:
                text = session.prompt(prompt, pre_run=lambda: self._fail_at_the_prompt(session)).strip()
            except KeyboardInterrupt:
                self.note(es.HINT_LEAVE)
                continue
            except EOFError:
                break
            if text and not self.answer(text):
                break
        self.note(es.GOODBYE)

    def answer(self, text: str) -> bool:
        """A command or a message; False to leave."""
        name, *rest = text.split(maxsplit=1)
        try:
            if name.startswith("/") and "/" not in name[1:]:
                if name not in self.commands:
                    self.note(es.UNKNOWN_COMMAND.format(name=name))
                    return True
                return self.commands[name](rest[0] if rest else "")
            self.show(lambda talk, cancel: talk.say(text, cancel))
        except (ModelError, BotError) as error:
            if self._talk is None:  # the model did not load: there is nothing to go on with
                raise
            self.console.print(f"tertulia: {error}", style="red", markup=False, highlight=False)
        return True

    # Commands

    def new(self, rest: str) -> bool:
        if self.takes_nothing("/nueva", rest):
            if self._talk is not None:
                self._talk.clear()
            self.note(es.NEW_CONVERSATION)
        return True

    def help(self, rest: str) -> bool:
        self.note(es.HELP)
        return True

    def model(self, rest: str) -> bool:
        if self.takes_nothing("/modelo", rest) and self.talk() is not None:
            self.note(describe(self.loading.result()))
        return True

    def set_system(self, rest: str) -> bool:
        if rest:
            self.system = "" if rest == "-" else rest
            if self._talk is not None:
                self._talk.system = self.system
        self.note(es.SYSTEM_IS.format(text=self.system) if self.system else es.NO_SYSTEM)
        return True

    def set_temperature(self, rest: str) -> bool:
        if rest:
            try:
                value = float(rest.replace(",", "."))
            except ValueError:
                value = -1.0
            if not in_range("temperature", value):
                self.note(es.WRONG_TEMPERATURE.format(value=rest))
                return True
            self.temperature = value
        talk = self.talk()
        if talk is not None:
            if self.temperature is not None:
                talk.params = replace(talk.params, temperature=self.temperature)
            self.note(es.TEMPERATURE_IS.format(value=f"{talk.params.temperature:g}".replace(".", ",")))
        return True

    def undo(self, rest: str) -> bool:
        if self.takes_nothing("/deshacer", rest):
            text = self._talk.undo() if self._talk is not None else None
            self.note(es.NOTHING_TO_UNDO if text is None else es.UNDONE.format(text=shorten(text)))
        return True

    def repeat(self, rest: str) -> bool:
        if self.takes_nothing("/repetir", rest):
            if self._talk is None or not self._talk.turns:
                self.note(es.NOTHING_TO_REPEAT)
            else:
                self.show(lambda talk, cancel: talk.repeat(cancel) or iter(()))
        return True

    def leave(self, rest: str) -> bool:
        return not self.takes_nothing("/salir", rest)

    def takes_nothing(self, name: str, rest: str) -> bool:
        if rest:
            self.note(es.TAKES_NOTHING.format(name=name))
        return not rest

    # Replies

    def talk(self) -> Talk | None:
        """The conversation, when the model is there; None if Ctrl-C ends the wait. Raises what the loading raised."""
        if self._talk is None:
            self._cancel.clear()
            with self.interrupts(), self.console.status(es.LOADING):
                while not self._cancel.is_set():
                    try:
                        loaded = self.loading.result(timeout=0.05)
                    except NotYet:
                        continue
                    self._talk = Talk(loaded.service, loaded.params, self.system)
                    break
        return self._talk

    def show(self, begin: Callable[[Talk, threading.Event], Iterator[str]]) -> None:
        """Print a reply as it comes; Ctrl-C stops it, and what was said stays in the conversation."""
        talk = self.talk()
        if talk is None:
            return
        self._cancel.clear()
        name = f"{es.BOT} › "
        wrap = WordWrap(self.console.width - 1, len(name))
        reply: Reply | None = None
        with self.interrupts():
            pieces = begin(talk, self._cancel)
            with self.console.status(es.THINKING):
                first = next(pieces, "")
            reply = talk.last
            if reply is not None and reply.dropped_messages > self._dropped:
                self.note(es.FORGOTTEN.format(count=reply.dropped_messages))
            self._dropped = reply.dropped_messages if reply is not None else 0
            self.console.print(name, style="bold green", end="", markup=False, highlight=False)
            self.write(wrap.push(harmless(first)))
            for piece in pieces:
                self.write(wrap.push(harmless(piece)))
            self.write(wrap.flush())
        if reply is not None and reply.finish == "cancelled":
            self.write(f" {es.STOPPED}")
        elif reply is not None and not reply.text:
            self.write(es.NOTHING_SAID)
        self.write("\n\n")

    @contextmanager
    def interrupts(self) -> Iterator[None]:
        """Ctrl-C sets the cancel event; pressed again it stops the wait for a token that takes long."""

        def stop(*_: object) -> None:
            if self._cancel.is_set():
                signal.default_int_handler(signal.SIGINT, None)
            self._cancel.set()

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield
        except KeyboardInterrupt:
            self.write("\n")
        finally:
            signal.signal(signal.SIGINT, before)

    def write(self, text: str) -> None:
        self.console.file.write(text)
        self.console.file.flush()

    def note(self, text: str) -> None:
        """A line of the program itself, not of the conversation."""
        self.console.print(harmless(text), style="dim", markup=False, highlight=False)

    def _fail_at_the_prompt(self, session: PromptSession[str]) -> None:
        """A model that cannot be loaded ends the waiting prompt, instead of the first message."""
        app = session.app
        error = self.loading.exception() if self.loading.done() else None
        if error is not None and app.is_running and app.loop is not None:
            app.loop.call_soon_threadsafe(lambda: app.exit(exception=error) if app.is_running else None)


def chat(settings: Settings, folder: Path | None = None) -> int:
    """Run the chat; `folder` is the model's if it has been resolved already. Returns the exit code."""
    loading = load_in_background(settings, folder)
    Terminal(settings, loading, Console(highlight=False)).run()
    if not loading.done():
        # A thread in the middle of importing torch can crash an orderly exit; nothing here needs one.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0
