"""The options of `tertulia train` and its steps, each defined once, and what they make: the numbers of a run."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bot.durations import parse_duration
from bot.errors import BotError

if TYPE_CHECKING:
    from bot.settings import Settings
    from training.retrain_options import RetrainOptions
    from training.tuning.presets import TuneOptions


class Method(StrEnum):
    sft = "sft"
    dpo = "dpo"


RunId = Annotated[str | None, typer.Argument(metavar="[RUN]", help="The run; default: the newest.")]
Data = Annotated[
    list[Path] | None,
    typer.Option("--data", metavar="FILE", help="Learn from this file too; may be given several times."),
]
NoLog = Annotated[bool, typer.Option("--no-log", help="Leave the log of dialogues out.")]
New = Annotated[bool, typer.Option("--new", help="Give an unfinished run up and begin another.")]
Force = Annotated[bool, typer.Option("--force", help="Into service though the gate refuses; the history says so.")]
Share = Annotated[
    float | None, typer.Option("--share", metavar="SHARE", help="Try it on this share of the chats first, as 0.1.")
]

# How an adapter is trained: the name in `TuneOptions` (but for preset and time_budget), and the option.
TUNING: dict[str, Any] = {
    "preset": Annotated[str | None, typer.Option(metavar="NAME", help="lora-gpt3, lora-gpt2 or notebook.")],
    "method": Annotated[Method | None, typer.Option(help="sft: replies; dpo: what people preferred (👍 👎 ✏️).")],
    "targets": Annotated[
        str | None, typer.Option(metavar="NAMES", help="all, or some of q_proj,k_proj,v_proj,out_proj,fc_in,fc_out.")
    ],
    "rank": Annotated[int | None, typer.Option(help="Of the adapter's matrices.")],
    "alpha": Annotated[float | None, typer.Option(help="The adapter counts alpha / rank.")],
    "train_norms": Annotated[bool | None, typer.Option("--train-norms", help="LayerNorms and biases too.")],
    "epochs": Annotated[int | None, typer.Option(help="How often everything is read.")],
    "learning_rate": Annotated[float | None, typer.Option(help="After the warm-up.")],
    "batch_size": Annotated[int | None, typer.Option(help="Examples a step.")],
    "context": Annotated[int | None, typer.Option(help="The longest example, in tokens.")],
    "row_tokens": Annotated[int | None, typer.Option(help="In memory at once; an example that is longer counts.")],
    "memory_gb": Annotated[
        float | None, typer.Option(metavar="GB", help="Take no more memory; the fastest way that fits is measured.")
    ],
    "neftune": Annotated[float | None, typer.Option(help="Noise on the embeddings; 5 is usual.")],
    "time_budget": Annotated[str | None, typer.Option(metavar="TIME", help="Train no longer, as 90m or 8h.")],
    "seed": Annotated[int | None, typer.Option(help="The same seed and data give the same adapter.")],
}


def takes_tuning(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of TUNING; they come to it as the dict `tune`."""

    @functools.wraps(function)
    def command(**given: Any) -> None:
        function(**{name: value for name, value in given.items() if name not in TUNING}, tune=_chosen(given))

    signature = inspect.signature(function)
    own = [parameter for parameter in signature.parameters.values() if parameter.name != "tune"]
    kind = inspect.Parameter.KEYWORD_ONLY
    more = [inspect.Parameter(name, kind, default=None, annotation=option) for name, option in TUNING.items()]
    command.__signature__ = inspect.Signature([*own, *more])  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *more)}
    return command


def tune_options(settings: "Settings", given: dict[str, Any]) -> "TuneOptions":
    """The preset's numbers with those that were given on top. Raises TuneError or BotError."""
    from training.tuning.presets import ALL_TARGETS, preset

    given = dict(given)
    numbers = replace(preset(given.pop("preset", settings.train_preset)), memory_gb=settings.train_memory_gb)
    if "method" in given:
        given["method"] = given["method"].value
    if "targets" in given:
        names = given["targets"].replace(",", " ").split()
        given["targets"] = ALL_TARGETS if names == ["all"] else tuple(names)
    if "time_budget" in given:
        given["time_budget_s"] = parse_duration(given.pop("time_budget"), "--time-budget")
    return replace(numbers, **given)


def retrain_options(settings: "Settings", model: Path, tune: dict[str, Any], **more: Any) -> "RetrainOptions":
    """What a run is asked, by the settings and the options. Raises BotError, TrainingError."""
    from training.retrain_options import RetrainOptions

    for path in more.get("data", ()):
        if not path.is_file():
            raise BotError(f"--data is {str(path)!r}: there is no such file")
    return RetrainOptions(
        state_dir=settings.state_dir.expanduser(),
        log_url=settings.log_url(),
        model=model,
        prompt_format=settings.prompt_format,
        system=settings.system,
        device=settings.device,
        dtype=settings.dtype,
        tune=tune_options(settings, tune),
        **more,
    )


def _chosen(given: dict[str, Any]) -> dict[str, Any]:
    return {name: given[name] for name in TUNING if given.get(name) is not None}
