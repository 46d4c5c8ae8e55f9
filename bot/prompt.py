"""The line that a person types on: editing, paste, completion of commands, and what was typed before.

Always: what was typed is remembered only in the owner's state folder, and not at all if the settings say so.
"""

import os
from collections.abc import Iterator

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from bot.settings import Settings
from bot.texts_es import YOU


def make_session(settings: Settings, commands: list[str]) -> PromptSession[str]:
    """Line editing: Enter sends, Alt-Enter breaks the line, a paste keeps its lines, Tab completes commands."""
    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return PromptSession(
        history=open_history(settings),
        key_bindings=keys,
        multiline=True,
        prompt_continuation=" " * (len(YOU) + 3),
        completer=CommandCompleter(commands),
        complete_while_typing=False,
        enable_suspend=True,
    )


class CommandCompleter(Completer):
    """Completes the name of a command at the beginning of the text."""

    def __init__(self, commands: list[str]) -> None:
        self.commands = commands

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        typed = document.text_before_cursor
        if typed.startswith("/"):
            for name in self.commands:
                if name.startswith(typed):
                    yield Completion(name, start_position=-len(typed))


def open_history(settings: Settings) -> History:
    """What was typed before, readable by its owner only; in memory if switched off or if the folder is not writable."""
    if not settings.history:
        return InMemoryHistory()
    path = settings.state_dir.expanduser() / "history"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))
