"""`tertulia dialogues`: what the log holds, for its operator; JSON lines out and in."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bot.errors import BotError

if TYPE_CHECKING:
    from training.dialogues import DialogueLog

app = typer.Typer(name="dialogues", no_args_is_help=True, help="The log of dialogues: list, export, import, forget.")

Limit = Annotated[int, typer.Option("--limit", min=1, max=1_000_000, help="How many, the newest first.")]


@app.command("list")
def list_(limit: Limit = 20) -> None:
    """List the newest conversations: number, chat, when, how many messages have text."""
    from training import browsing

    with _log() as log:
        rows = log.database.read(lambda conn: browsing.recent(conn, limit))
    for row in rows:
        chat = f"{row['platform']}/{row['chat_id']}" + (f"/{row['thread_id']}" if row["thread_id"] else "")
        state = "open" if row["closed_at"] is None else "closed"
        opened_at = f"{row['opened_at']:%Y-%m-%d %H:%M}"
        typer.echo(f"{row['id']:>8}  {chat:<32}  {opened_at}  {state:<6}  {row['num_messages']:>6} messages")


@app.command()
def show(number: Annotated[int, typer.Argument(metavar="NUMBER", help="The conversation's, from list.")]) -> None:
    """Print one conversation."""
    from bot.screen import harmless
    from training import browsing

    with _log() as log:
        found = log.database.read(lambda conn: browsing.conversation(conn, number))
    if found is None:
        raise BotError(f"there is no conversation {number}: see tertulia dialogues list")
    for message in found["messages"]:
        marks = {1: " 👍", -1: " 👎"}.get(message.get("rating", 0), "")
        typer.echo(f"{message['created_at'][:16]} {message['role']}{marks}: {harmless(message['content'])}")
        for text in message.get("corrections", ()):
            typer.echo(f"    better: {harmless(text)}")


@app.command()
def export(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Where to write; default: the output.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what people have not let be used in training.")
    ] = False,
    user: Annotated[
        int | None,
        typer.Option("--user", metavar="ID", help="All that is stored of this person instead, as one object."),
    ] = None,
) -> None:
    """Write conversations as JSON lines, only those whose writers consent to training."""
    from training import browsing

    with _log() as log:
        if user is not None:
            _write(file, iter([log.export_user(user)]))
        else:
            _write(file, browsing.every(log.database, consented_only=not everything))


@app.command()
def forget(
    user: Annotated[int, typer.Argument(metavar="USER", help="The person's number, as in an export.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase all that is stored of a person, for good."""
    if not yes:
        typer.confirm(f"Erase all that is stored of {user}, for good?", abort=True, err=True)
    from bot.adapters import forget_taken_back
    from bot.settings import load_settings

    with _log() as log:
        typer.echo(f"erased {log.forget(user)} rows")
        for adapter_id in forget_taken_back(load_settings(), log):
            typer.echo(f"the adapter {adapter_id} was trained on some of them: see tertulia adapters list")


@app.command()
def stats() -> None:
    """Print the log's figures, one a line."""
    with _log() as log:
        for name, value in log.stats().items():
            typer.echo(f"{name:<24}{value:>14,.3f}" if isinstance(value, float) else f"{name:<24}{value:>14,}")


@app.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="JSON lines as export writes, or Telegram Desktop's result.json.")
    ],
    consent: Annotated[
        bool, typer.Option("--consent", help="Those who wrote it let it be used in training; you answer for that.")
    ] = False,
    assistant: Annotated[
        int | None, typer.Option("--assistant", metavar="ID", help="Whose messages of a Telegram chat are the replies.")
    ] = None,
) -> None:
    """Put dialogues into the log, for training; what was imported before is left as it is."""
    if not consent:
        raise BotError("an import is for training: say --consent if those who wrote the dialogues agree to that")
    from training import dialogue_files, telegram_export

    values = dialogue_files.parse_json_file(file)
    if len(values) == 1 and telegram_export.is_export(values[0]):
        dialogues = telegram_export.read_export(file, values[0], assistant)
    elif assistant is not None:
        raise BotError(f"--assistant is for an export of Telegram Desktop, and {file} is none")
    else:
        dialogues = list(dialogue_files.read_dialogues(file, values))
    with _log() as log:
        done = log.database.write(lambda conn: dialogue_files.store(conn, dialogues))
    typer.echo(f"imported {done.dialogues} dialogues with {done.messages} messages")
    if done.known:
        typer.echo(f"{done.known} messages were there already")
    if done.withdrawn:
        typer.echo(f"{done.withdrawn} messages left out: their writers have withdrawn their consent")


@contextmanager
def _log() -> "Iterator[DialogueLog]":
    from bot.settings import load_settings
    from training.dialogues import DialogueLog

    with DialogueLog(load_settings().log_url()) as log:
        yield log
        if log.notice is not None:
            typer.echo(f"tertulia: {log.notice}", err=True)


def _write(file: Path | None, values: Iterator[dict[str, Any]]) -> None:
    """JSON lines on the output, or in a file that is there whole or not at all, for its owner only."""
    if file is None:
        for value in values:
            typer.echo(json.dumps(value, ensure_ascii=False))
        return
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
            for value in values:
                out.write(json.dumps(value, ensure_ascii=False) + "\n")
            out.flush()
            os.fsync(out.fileno())
        aside.rename(file)
    finally:
        aside.unlink(missing_ok=True)
