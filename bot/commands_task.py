"""`tertulia task`: the small jobs of bot/tasks.jsonl on the command line."""

import sys
from typing import Annotated

import typer

from bot import options
from bot.errors import BotError


def task(
    name: Annotated[str, typer.Argument(metavar="NAME", help="traducir, resumir, ...: a wrong one lists them all.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What it is about; - reads it from the input.")],
    model: options.Model = None,
    adapter: options.Adapter = None,
    prompt_format: options.PromptFormat = None,
    seed: options.Seed = None,
) -> None:
    """Translate, sum up, classify, ...: print what the model makes of a text after a few worked examples."""
    from bot.tasks import TASKS

    if name not in TASKS:
        listed = ", ".join(f"{one.name} ({one.about})" for one in TASKS.values())
        raise BotError(f"NAME is {name!r}: expected one of {listed}")
    if text == "-":
        text = sys.stdin.read()
    if not text.strip():
        raise BotError("TEXT is empty: expected what the task is about")
    from bot.loading import find_folder, load
    from bot.progress import progress_bar
    from bot.screen import harmless
    from bot.settings import load_settings

    settings = load_settings({"model": model, "adapter": adapter, "prompt_format": prompt_format, "seed": seed})
    with progress_bar("converting") as progress:
        folder = find_folder(settings, progress)
    loaded = load(settings, folder)
    chosen = TASKS[name]
    show = harmless if sys.stdout.isatty() else str
    for piece in loaded.service.reply(chosen.history, chosen.ask(text.strip()), chosen.params(loaded.params)):
        sys.stdout.write(show(piece))
        sys.stdout.flush()
    sys.stdout.write("\n")
