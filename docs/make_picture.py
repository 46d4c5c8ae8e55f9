"""Draws docs/chat.svg: a real conversation with the model, as it looks on a terminal.

    python docs/make_picture.py [--model NAME_OR_DIR] [--seed N] [--out docs/chat.svg]

What the person says is fixed below, what the model says is what it says: run it again after a new model. The seed is
chosen: of 1 to 10 it is the one with which all six replies are right, with most of the others one or two are not.
"""

import argparse
import io
import sys
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent.parent))

from bot import texts_es as es
from bot.loading import load
from bot.screen import WordWrap, harmless
from bot.settings import load_settings
from bot.talk import Talk

SAID = (
    "Hola, me llamo Nerea",
    "¿Y tú quién eres?",
    "¿Cuál es la capital de Portugal?",
    "cuentame un chiste",
    "¿Te acuerdas de cómo me llamo?",
    "Gracias, me voy a dormir",
)
COLUMNS = 76


def draw(talk: Talk) -> Console:
    """The conversation on a console that records what it shows."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, highlight=False)
    for text in SAID:
        console.print(f"[bold cyan]{es.YOU} ›[/] ", end="")
        console.print(text, markup=False)
        wrap = WordWrap(COLUMNS - 1, len(es.BOT) + 3)
        reply = "".join(wrap.push(harmless(piece)) for piece in talk.say(text)) + wrap.flush()
        console.print(f"[bold green]{es.BOT} ›[/] ", end="")
        console.print(reply, markup=False, soft_wrap=True)
        console.print()
    return console


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=None)
    parser.add_argument("--seed", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "chat.svg")
    args = parser.parse_args()
    loaded = load(load_settings({"model": args.model, "seed": args.seed}))
    draw(Talk(loaded.service, loaded.params)).save_svg(str(args.out), title="tertulia", unique_id="tertulia")
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
