"""`tertulia chat` and `tertulia complete`: talk to the model, or let it continue a text."""

import sys
from typing import Annotated, Any

import typer

from bot import options
from bot.errors import BotError


def chat(
    once: Annotated[
        str | None, typer.Option("--once", metavar="TEXT", help="Print the reply to TEXT, nothing else, and leave.")
    ] = None,
    model: options.Model = None,
    adapter: options.Adapter = None,
    prompt_format: options.PromptFormat = None,
    system: options.System = None,
    max_new_tokens: options.MaxNewTokens = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    top_k: options.TopK = None,
    min_p: options.MinP = None,
    repetition_penalty: options.RepetitionPenalty = None,
    seed: options.Seed = None,
) -> None:
    """Talk to the model. With input from a pipe: one line of reply for each line."""
    given = dict(locals())
    given.pop("once")
    from bot.settings import load_settings

    settings = load_settings(given)
    if once is not None and not once.strip():
        raise BotError("--once is empty: expected what you want to say")
    if once is None and sys.stdin.isatty() and sys.stdout.isatty():
        from bot.loading import find_folder, is_here
        from bot.progress import progress_bar
        from bot.terminal import chat as chat_on_terminal

        folder = None
        if not is_here(settings):  # a download shows its progress before the prompt, not across it
            with progress_bar("converting") as progress:
                folder = find_folder(settings, progress)
        raise typer.Exit(chat_on_terminal(settings, folder))

    from bot import plain
    from bot.talk import Talk

    loaded = _load(settings)
    talk = Talk(loaded.service, loaded.params, settings.system)
    if once is not None:
        plain.once(talk, once)
    else:
        plain.pipe(talk, sys.stdin)


def complete(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The text to continue; - reads it from the input.")],
    model: options.Model = None,
    adapter: options.Adapter = None,
    max_new_tokens: options.MaxNewTokens = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    top_k: options.TopK = None,
    min_p: options.MinP = None,
    repetition_penalty: options.RepetitionPenalty = None,
    seed: options.Seed = None,
) -> None:
    """Continue a raw text, without any conversation around it; prints the text and what follows."""
    given = dict(locals())
    given.pop("text")
    from bot.screen import harmless
    from bot.settings import load_settings

    loaded = _load(load_settings(given))
    if text == "-":
        text = sys.stdin.read().removesuffix("\n")
    pieces = loaded.service.complete(text, loaded.params)
    show = harmless if sys.stdout.isatty() else str
    sys.stdout.write(show(text))
    for piece in pieces:
        sys.stdout.write(show(piece.text))
        sys.stdout.flush()
    sys.stdout.write("\n")


def _load(settings: Any) -> Any:
    from bot.loading import find_folder, load
    from bot.progress import progress_bar

    with progress_bar("converting") as progress:
        folder = find_folder(settings, progress)
    return load(settings, folder)
