"""`tertulia eval`, `quantize`, `verify`, `export`: measure and convert checkpoints."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from bot import options
from bot.errors import BotError

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A native checkpoint's folder, or embedded.")]


class Dtype(StrEnum):
    """What an export can be stored in."""

    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


def evaluate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Texts in UTF-8.", show_default=False)],
    model: options.Model = None,
    adapter: options.Adapter = None,
    context: Annotated[
        int | None, typer.Option("--context", min=2, help="Tokens that the model sees at once; default: all it can.")
    ] = None,
    stride: Annotated[
        int | None, typer.Option("--stride", min=1, help="Tokens from one window to the next; default: half a window.")
    ] = None,
) -> None:
    """Print perplexity and bits per byte of texts, for a native checkpoint or any stock one that transformers reads."""
    from bot.settings import load_settings

    settings = load_settings({"model": model, "adapter": adapter})
    texts = [_read(file) for file in files]
    from bot.evaluating import load_for_evaluation
    from bot.progress import progress_bar
    from training.evaluation import evaluate_text

    subject = load_for_evaluation(settings)
    window = context or subject.context
    if window > subject.context:
        raise BotError(f"--context is {window}: expected at most {subject.context}, which is all that the model sees")
    step = stride or max(1, window // 2)
    if step >= window:
        raise BotError(f"--stride is {step}: expected less than the window of {window} tokens")
    typer.echo(f"{'perplexity':>12} {'bits/byte':>10} {'tokens':>9}  file")
    for file, text in zip(files, texts, strict=True):
        with progress_bar(file.name) as progress:
            try:
                found = evaluate_text(
                    subject.model, subject.encode, text, window, step, bos_id=subject.bos_id, progress=progress
                )
            except ValueError as error:
                raise BotError(f"{file}: {error}") from None
        typer.echo(f"{found.perplexity:12.3f} {found.bits_per_byte:10.4f} {found.tokens:9d}  {file}")


def quantize(
    src: Annotated[str, typer.Argument(metavar="SRC", help="A GPT-J checkpoint: a folder, or a weights file.")],
    dst: Annotated[Path, typer.Argument(metavar="DST", help="The native folder to write.")],
    block_size: Annotated[
        int | None, typer.Option("--block-size", help="Weights that share a scale: 64, 128, ... 4096.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option("--tokenizer", metavar="DIR", help="Where the tokenizer is, if SRC has none.")
    ] = None,
    prompt_format: options.PromptFormat = None,
) -> None:
    """Turn a GPT-J checkpoint (float, or the published 8-bit one) into the native 8-bit format."""
    from bot.progress import progress_bar
    from bot.quiet import quiet_libraries, set_up_logging
    from bot.settings import load_settings

    settings = load_settings({"prompt_format": prompt_format})
    set_up_logging(settings.log_level)
    quiet_libraries()
    from bot.loading import prepare_torch
    from model.convert import quantize_checkpoint

    prepare_torch(settings)
    with progress_bar("quantizing") as progress:
        quantize_checkpoint(
            src, dst, block_size, prompt_format=settings.prompt_format, tokenizer=tokenizer, progress=progress
        )
    typer.echo(f"wrote {dst}; check it with: tertulia verify {dst} --against {src}")


def verify(
    folder: Folder,
    against: Annotated[
        str | None, typer.Option("--against", metavar="SRC", help="Also measure how far each tensor is from SRC.")
    ] = None,
) -> None:
    """Check every file, hash, key, dtype, shape and value of a native checkpoint, and say what it is."""
    from bot.progress import progress_bar
    from bot.quiet import quiet_libraries, set_up_logging
    from bot.report import report_lines
    from bot.settings import load_settings

    settings = load_settings()
    set_up_logging(settings.log_level)
    quiet_libraries()
    from bot.loading import prepare_torch
    from model.verify import verify as verify_folder

    prepare_torch(settings)
    with progress_bar("verifying") as progress:
        report = verify_folder(_native(folder), against, progress)
    for line in report_lines(report):
        typer.echo(line)


def export(
    folder: Folder,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write.")],
    dtype: Annotated[Dtype, typer.Option("--dtype", help="What the weights are stored in.")] = Dtype.FLOAT16,
) -> None:
    """Write a native checkpoint as a stock GPT-J folder that transformers and other tools read."""
    from bot.progress import progress_bar
    from bot.quiet import quiet_libraries, set_up_logging
    from bot.settings import load_settings

    settings = load_settings()
    set_up_logging(settings.log_level)
    quiet_libraries()
    from bot.loading import prepare_torch
    from model.export import export as export_folder

    prepare_torch(settings)
    with progress_bar("exporting") as progress:
        export_folder(_native(folder), out, dtype.value, progress)
    typer.echo(f"wrote {out} ({dtype.value})")


def _native(folder: Path) -> Path:
    """The folder, or where the embedded model lies; names of the hub are not downloaded for this."""
    from model import hub

    return hub.resolve(hub.EMBEDDED) if str(folder) == hub.EMBEDDED else folder.expanduser()


def _read(file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BotError(f"{file} is not UTF-8 text (byte {error.start}): convert it first") from None
    except OSError as error:
        raise BotError(f"cannot read {file}: {error.strerror}") from None
    if not text.strip():
        raise BotError(f"{file} is empty: expected some text")
    return text
