"""What a person feels: seconds to the prompt, to the first reply, and tokens a second once it talks.

    python -m benchmarks.chat_speed [--model embedded]

The prompt and the first reply are those of a real `tertulia chat` in a pseudo-terminal; the rest is the engine in this
process. The last line is the figures as JSON.
"""

import argparse
import json
import os
import statistics
import sys
import time

import pexpect

from bot.loading import load
from bot.settings import load_settings
from bot.texts_es import YOU
from model.conversation import Message, render
from model.engine.params import SamplingParams

SAID = ("Hola, ¿qué tal?", "Me llamo Nerea", "¿Cuál es la capital de Perú?", "Cuéntame un cuento", "¿Cómo me llamo?")


def to_the_prompt(model: str) -> tuple[float, float]:
    """-> (seconds until the prompt can be typed at, seconds until the first reply is complete) of a fresh process."""
    start = time.perf_counter()
    command = ["-m", "bot.cli", "chat", "--seed", "1", "--model", model]
    child = pexpect.spawn(sys.executable, command, encoding="utf-8", timeout=300, env={**os.environ, "TERM": "xterm"})
    child.expect(f"{YOU} ›")
    prompt = time.perf_counter() - start
    child.send("Hola\r")
    child.expect(f"{YOU} ›")
    child.expect(f"{YOU} ›")  # the line that was typed is drawn once more, then the next prompt
    reply = time.perf_counter() - start
    child.send("\x04")
    child.expect(pexpect.EOF)
    return prompt, reply


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="embedded")
    model = parser.parse_args().model
    starts = [to_the_prompt(model) for _ in range(3)]
    loaded = load(load_settings({"model": model}))
    engine, fmt, tokenizer = loaded.service.engine, loaded.service.format, loaded.tokenizer
    first: list[float] = []
    speeds: list[float] = []
    messages: list[Message] = []
    for text in SAID * 2:
        messages.append(Message("user", text))
        ids = render(messages, fmt, tokenizer, max_tokens=engine.context - 64, reply=True).ids
        begin = time.perf_counter()
        made: list[int] = []
        times = []
        for piece in engine.submit(ids, SamplingParams(temperature=0, max_new_tokens=48)):  # no stop: always 48
            made += piece.ids
            times.append(time.perf_counter())
        first.append(times[0] - begin)
        speeds.append((len(made) - 1) / (times[-1] - times[0]))
        messages.append(Message("assistant", tokenizer.decode(made), tuple(made)))
    figures = {
        "seconds to the prompt": round(statistics.median(prompt for prompt, _ in starts), 2),
        "seconds to the end of the first reply": round(statistics.median(reply for _, reply in starts), 2),
        "milliseconds to the first token, median over ten turns": round(1000 * statistics.median(first), 1),
        "tokens/s, median over ten turns": round(statistics.median(speeds), 1),
    }
    for name, value in figures.items():
        print(f"{name:56} {value}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
