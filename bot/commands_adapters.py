"""`tertulia adapters`: what was learnt, which adapter serves, and changing that under a running bot."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bot import options
from bot.commands_model import Dtype

if TYPE_CHECKING:
    from bot.settings import Settings
    from training.registry import Pointer, Registry

app = typer.Typer(
    name="adapters",
    no_args_is_help=True,
    help="What was learnt: list, show, compare, promote, rollback, delete, export.",
)

Id = Annotated[str, typer.Argument(metavar="ID", help="An adapter's, from list.")]
Either = Annotated[str, typer.Argument(metavar="ID", help="An adapter's, or base: the model without any.")]


@app.command("list")
def list_() -> None:
    """List all adapters: which serves (*) or is on trial (%), what the gate said, what has to be forgotten."""
    from bot.adapters_report import list_lines

    settings, registry = _open()
    if registry.list():
        _mark_forgotten(settings)
    for line in list_lines(registry.list(), registry.serving()):
        typer.echo(line)


@app.command()
def show(adapter_id: Id) -> None:
    """Print all that is known of an adapter: base, data, options, figures, verdict, and what was done with it."""
    from bot.adapters_report import show_lines

    settings, registry = _open()
    registry.get(adapter_id)
    _mark_forgotten(settings)
    for line in show_lines(registry.get(adapter_id), registry.serving()):
        typer.echo(line)


@app.command()
def compare(
    first: Either,
    second: Either,
    prompts: Annotated[int, typer.Option("--prompts", min=0, help="How many prompts both answer.")] = 5,
    model: options.Model = None,
) -> None:
    """Print where two adapters differ in making and figures, and what they say to the same prompts."""
    from bot.adapters_report import difference_lines
    from training.registry.entry import BASE

    settings, registry = _open(model)
    entries = {name: None if name == BASE else registry.get(name) for name in (first, second)}
    for line in difference_lines(entries):
        typer.echo(line)
    if not prompts:
        return
    from bot.adapters_compare import replies_side_by_side
    from bot.screen import harmless

    for prompt, replies in replies_side_by_side(settings, entries, prompts):
        typer.echo(f"\n> {harmless(' '.join(prompt.split()))}")
        for name, reply in replies.items():
            typer.echo(f"  {name}: {harmless(' '.join(reply.split()))}")


@app.command()
def promote(
    adapter_id: Id,
    share: Annotated[
        float | None,
        typer.Option("--share", metavar="SHARE", help="Only for this share of the chats, as a trial; 0.1 is a tenth."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also if the gate refused it; the history says so.")] = False,
    model: options.Model = None,
) -> None:
    """Put an adapter into service; bots and chats that run take it up within seconds."""
    from bot.loading import find_folder
    from training.registry import base_hash

    settings, registry = _open(model)
    registry.get(adapter_id)
    _mark_forgotten(settings)
    base = base_hash(find_folder(settings))
    if share is None:
        pointer = registry.promote(adapter_id, forced=force, base=base)
    else:
        pointer = registry.start_share(adapter_id, share, forced=force, base=base)
    _say_what_serves(pointer)


@app.command()
def rollback() -> None:
    """End the trial, or take the last promotion back; again: the one before that."""
    _, registry = _open()
    _say_what_serves(registry.rollback())


@app.command()
def delete(adapter_id: Id, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Delete an adapter that does not serve, for good."""
    _, registry = _open()
    if not yes:
        typer.confirm(f"Delete the adapter {adapter_id}, for good?", abort=True, err=True)
    registry.delete(adapter_id)
    typer.echo(f"deleted {adapter_id}")


@app.command()
def export(
    adapter_id: Id,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write.")],
    merged: Annotated[
        bool, typer.Option("--merged", help="A whole stock GPT-J with the adapter in its weights, for other servers.")
    ] = False,
    dtype: Annotated[Dtype, typer.Option("--dtype", help="What merged weights are stored in.")] = Dtype.FLOAT16,
    model: options.Model = None,
) -> None:
    """Write an adapter as a plain PEFT folder, or merged into its base as a stock GPT-J folder."""
    settings, registry = _open(model)
    entry = registry.get(adapter_id)
    entry.check_files()
    if not merged:
        from training.registry.entry import copy_files

        copy_files(entry.folder, out)
        typer.echo(f"wrote {out} (PEFT)")
        return
    from bot.loading import find_folder, prepare_torch
    from bot.progress import progress_bar
    from bot.quiet import quiet_libraries, set_up_logging
    from training.registry import base_hash

    set_up_logging(settings.log_level)
    quiet_libraries()
    folder = find_folder(settings)
    entry.check_base(base_hash(folder))
    prepare_torch(settings)
    from model.export import export as export_folder

    with progress_bar("exporting") as progress:
        export_folder(folder, out, dtype.value, progress, adapter=entry.folder)
    typer.echo(f"wrote {out} ({dtype.value})")


def _open(model: str | None = None) -> "tuple[Settings, Registry]":
    from bot.settings import load_settings
    from training.registry import Registry

    settings = load_settings({"model": model})
    return settings, Registry(settings.adapters_dir)


def _mark_forgotten(settings: "Settings") -> None:
    """What the log says now; without the log, what was marked before."""
    from bot.adapters import forget_taken_back
    from training.dialogues import DialogueLog
    from training.errors import LogError

    try:
        with DialogueLog(settings.log_url()) as log:
            forget_taken_back(settings, log)
    except LogError as error:
        typer.echo(f"tertulia: what people took back is not known: {error}", err=True)


def _say_what_serves(pointer: "Pointer") -> None:
    serves = pointer.adapter or "the bare base"
    trial = f", and {pointer.candidate} for {pointer.share:.0%} of the chats" if pointer.candidate else ""
    typer.echo(f"in service: {serves}{trial}")
