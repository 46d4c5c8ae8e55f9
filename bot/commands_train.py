"""`tertulia train`: the whole learning loop or one of its steps, in a process of its own at the lowest priority."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bot import options, options_train
from bot.errors import BotError

if TYPE_CHECKING:
    from training.retrain_options import RetrainOptions, Watch

app = typer.Typer(
    name="train",
    invoke_without_command=True,
    help="Learn from the dialogues that may be learnt from, and put what is better into service. Killed at any moment, "
    "the same command goes on.",
)

LOWEST_PRIORITY = 19

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would learn from and take; change nothing.")]
Every = Annotated[
    str | None, typer.Option("--every", metavar="TIME", help="Stay, and train each time so much has passed, as 7d.")
]
MinNew = Annotated[int | None, typer.Option("--min-new", min=1, help="With --every: only with so many new messages.")]


@app.callback()
@options_train.takes_tuning
def train(
    ctx: typer.Context,
    tune: dict[str, Any],
    data: options_train.Data = None,
    no_log: options_train.NoLog = False,
    dry_run: DryRun = False,
    new: options_train.New = False,
    force: options_train.Force = False,
    share: options_train.Share = None,
    every: Every = None,
    min_new: MinNew = None,
    model: options.Model = None,
    prompt_format: options.PromptFormat = None,
) -> None:
    """The whole loop; the steps alone are commands of their own."""
    if ctx.invoked_subcommand is not None:
        _refuse_options_before(ctx)
        return
    if every is None and min_new is not None:
        raise BotError("--min-new goes with --every, for instance --every 7d --min-new 200")
    if every is not None and dry_run:
        raise BotError("--dry-run does not go with --every: it looks once")
    if every is not None:
        from bot.scheduling import keep_training

        settings = _settings(model, prompt_format)
        more = {"data": tuple(data or ()), "use_log": not no_log, "force": force, "share": share}
        options_train.retrain_options(settings, Path(settings.model), tune, **more)  # refused now or never
        keep_training(settings, every, min_new or 1)
    with _asked(model, prompt_format, tune, data, no_log=no_log, force=force, share=share) as (asked, watch):
        if dry_run:
            from bot.training_report import print_preview
            from training.retrain import preview

            print_preview(preview(asked))
            return
        from bot.training_report import print_report
        from training.report import read_report
        from training.retrain import retrain
        from training.runs import find

        outcome = retrain(asked, watch, new=new)
        print_report(read_report(find(asked.runs, outcome.run_id)), outcome.page)


@app.command()
def collect(
    data: options_train.Data = None,
    no_log: options_train.NoLog = False,
    model: options.Model = None,
    prompt_format: options.PromptFormat = None,
) -> None:
    """Begin a run: freeze what may be learnt from, and print its number."""
    with _asked(model, prompt_format, {}, data, no_log=no_log) as (asked, watch):
        from training.retrain import step

        if (run := step("collect", None, asked, watch)) is not None:
            typer.echo(run.id)


@app.command()
@options_train.takes_tuning
def validate(
    tune: dict[str, Any],
    run: options_train.RunId = None,
    model: options.Model = None,
    prompt_format: options.PromptFormat = None,
) -> None:
    """Say what a run will learn from, how long it will take and what memory."""
    _step("validate", run, model, prompt_format, tune)


@app.command("tune")
@options_train.takes_tuning
def tune_(
    tune: dict[str, Any],
    run: options_train.RunId = None,
    model: options.Model = None,
    prompt_format: options.PromptFormat = None,
) -> None:
    """Train a run's adapter; started again it goes on. Several GPUs: accelerate launch --multi_gpu
    --num_processes 2 -m bot.cli train tune."""
    _step("tune", run, model, prompt_format, tune)


@app.command()
def judge(
    run: options_train.RunId = None, model: options.Model = None, prompt_format: options.PromptFormat = None
) -> None:
    """Compare a run's adapter with the one in service and the bare model."""
    _step("judge", run, model, prompt_format, {})


@app.command()
def promote(
    run: options_train.RunId = None,
    force: options_train.Force = False,
    share: options_train.Share = None,
    model: options.Model = None,
    prompt_format: options.PromptFormat = None,
) -> None:
    """Put a run's adapter into service, if the gate agrees."""
    _step("promote", run, model, prompt_format, {}, force=force, share=share)


@app.command()
def report(
    run: options_train.RunId = None, model: options.Model = None, prompt_format: options.PromptFormat = None
) -> None:
    """Write a run's page and print what is in it."""
    _step("report", run, model, prompt_format, {})


def _step(
    phase: str, run: str | None, model: str | None, prompt_format: str | None, tune: dict[str, Any], **more: Any
) -> None:
    with _asked(model, prompt_format, tune, **more) as (asked, watch):
        from bot.training_report import print_report
        from training.report import read_report
        from training.retrain import step
        from training.runs import PAGE

        done = step(phase, run, asked, watch)
        if done is None:
            return
        page = done.folder / PAGE
        print_report(read_report(done), page if page.is_file() else None)


@contextmanager
def _asked(
    model: str | None,
    prompt_format: str | None,
    tune: dict[str, Any],
    data: Any = None,
    *,
    no_log: bool = False,
    force: bool = False,
    share: float | None = None,
) -> "Iterator[tuple[RetrainOptions, Watch]]":
    """What is asked, and a screen for whoever looks on; the process gets ready for it."""
    settings = _settings(model, prompt_format)
    # What can be refused is refused before the model is looked for.
    options_train.tune_options(settings, tune)
    from bot.loading import find_folder, prepare_torch
    from bot.progress import progress_bar
    from bot.quiet import quiet_libraries, set_up_logging
    from bot.training_screen import screen

    set_up_logging(settings.log_level)
    with progress_bar("converting") as progress:
        folder = find_folder(settings, progress)
    more = {"data": tuple(data or ()), "use_log": not no_log, "force": force, "share": share}
    asked = options_train.retrain_options(settings, folder, tune, **more)
    quiet_libraries()
    prepare_torch(settings)
    os.nice(LOWEST_PRIORITY)
    with screen(settings) as watch:
        yield asked, watch


def _settings(model: str | None, prompt_format: str | None) -> Any:
    from bot.settings import load_settings

    return load_settings({"model": model, "prompt_format": prompt_format})


def _refuse_options_before(ctx: typer.Context) -> None:
    """`train --rank 4 tune` would train with another rank than it says."""
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE":
            step, name = ctx.invoked_subcommand, parameter.opts[0]
            raise BotError(f"{name} stands before {step}: write `tertulia train {step} {name}`")
