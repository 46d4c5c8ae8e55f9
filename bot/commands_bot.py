"""`tertulia bot`: the Telegram bot."""

from typing import Annotated

import typer

from bot import options


def bot(
    webhook: Annotated[
        str | None,
        typer.Option("--webhook", metavar="URL", help="Let Telegram call this address instead of asking for updates."),
    ] = None,
    model: options.Model = None,
    adapter: options.Adapter = None,
    prompt_format: options.PromptFormat = None,
    system: options.System = None,
) -> None:
    """Talk on Telegram; all it needs is TELEGRAM_BOT_TOKEN in .env or the environment."""
    from bot.settings import load_settings

    given = {"model": model, "adapter": adapter, "prompt_format": prompt_format, "system": system}
    settings = load_settings({**given, "webhook_url": webhook})
    from bot.telegram_process import run

    raise typer.Exit(run(settings))
