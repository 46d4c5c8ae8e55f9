"""The command `tertulia`: a table of subcommands, and how they fail.

Nothing heavy is imported here or in the modules of commands: `--help` answers at once, each command imports what it
needs. A failure is one line on stderr and exit code 2; a traceback is for bugs.
"""

import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer
from typer.exceptions import TyperException

from bot import (
    commands_adapters,
    commands_bot,
    commands_chat,
    commands_dialogues,
    commands_model,
    commands_pretrain,
    commands_task,
    commands_train,
)
from bot.errors import BotError
from model.errors import ModelError
from training.errors import TrainingError

app = typer.Typer(
    name="tertulia",
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help", "-h"]},
    help="A Spanish chatbot on your own machine. Without a command: [bold]chat[/].",
)
app.command("chat")(commands_chat.chat)
app.command("bot")(commands_bot.bot)
app.command("task")(commands_task.task)
app.command("complete")(commands_chat.complete)
app.command("eval")(commands_model.evaluate)
app.command("quantize")(commands_model.quantize)
app.command("verify")(commands_model.verify)
app.command("export")(commands_model.export)
app.add_typer(commands_adapters.app)
app.add_typer(commands_dialogues.app)
app.add_typer(commands_train.app)
app.add_typer(commands_pretrain.app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tertulia {version('tertulia')}")
        raise typer.Exit


@app.callback()
def common(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    pass


def main() -> None:
    """The entry point: run the command line and leave with its exit code."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    sys.exit(run(sys.argv[1:]))


def run(args: list[str]) -> int:
    """Run one command -> exit code: 0, 2 after a line on stderr, 130 after Ctrl-C, 141 if nobody reads the output."""
    if not args or (args[0].startswith("-") and args[0] not in ("--help", "-h", "--version")):
        args = ["chat", *args]
    try:
        code = app(args=args, prog_name="tertulia", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (ModelError, TrainingError, BotError) as error:
        return _fail(str(error))
    except TyperException as error:
        message = error.format_message().rstrip(".")
        return _fail(f"{message}. See tertulia --help." if message else "a command is missing. See tertulia --help.")
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        # The interpreter flushes stdout once more on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _fail(message: str) -> int:
    print("tertulia: " + " ".join(message.split()), file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
