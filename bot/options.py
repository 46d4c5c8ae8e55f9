"""Options that several commands take, each defined once; None is "not given": the settings decide then."""

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str | None,
    typer.Option("--model", metavar="NAME_OR_DIR", help="The model: embedded, a folder, or a name on the hub."),
]
Adapter = Annotated[Path | None, typer.Option("--adapter", metavar="DIR", help="A LoRA adapter (PEFT) for the model.")]
PromptFormat = Annotated[
    str | None,
    typer.Option("--prompt-format", metavar="NAME", help="tertulia, plain or alpaca-es; default: the model's own."),
]
MaxNewTokens = Annotated[int | None, typer.Option("--max-new-tokens", help="The longest reply, in tokens.")]
Temperature = Annotated[float | None, typer.Option("--temperature", help="0: always the likeliest token.")]
TopP = Annotated[float | None, typer.Option("--top-p", help="Only the likeliest tokens up to this probability.")]
TopK = Annotated[int | None, typer.Option("--top-k", help="Only this many of the likeliest tokens; 0: all.")]
MinP = Annotated[float | None, typer.Option("--min-p", help="Only tokens at least this likely, against the likeliest.")]
RepetitionPenalty = Annotated[
    float | None, typer.Option("--repetition-penalty", help="Above 1: what was said becomes less likely.")
]
Seed = Annotated[int | None, typer.Option("--seed", help="The same seed gives the same replies.")]
System = Annotated[str | None, typer.Option("--system", metavar="TEXT", help="A text before the conversation.")]
