"""A conversation with the bot, printed as a person would see it: `python -m tests.emulator`.

The real `tertulia bot` with the embedded model talks to the emulator; what is printed stands in the README.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.bot.reliability.bot_process import EMBEDDED, BotProcess
from tests.emulator import Emulator

SCRIPT = (
    "/start",
    "Hola, me llamo Lucía",
    "¿Cómo me llamo?",
    "¿Cuál es la capital de Perú?",
    "👍",
    "Cuéntame un chiste",
    "/repetir",
    "/consentir",
    "/version",
    "/olvidar",
)


def main() -> None:
    """A line that is the text of a button of the last message is pressed, any other is written."""
    with Emulator() as telegram, tempfile.TemporaryDirectory() as folder:
        lucia = telegram.user("Lucía")
        chat = telegram.private(lucia)
        bot = BotProcess(telegram, Path(folder), EMBEDDED, TERTULIA_SEED="1").start()

        def num_calls() -> int:
            return len(telegram.calls(chat=chat)) + len(telegram.calls("answerCallbackQuery"))

        try:
            for line in SCRIPT:
                shown, before = telegram.shown(chat), num_calls()
                if shown and line in dict(shown[-1].buttons):
                    telegram.press(shown[-1], line)
                else:
                    telegram.say(chat, lucia, line)
                telegram.wait_for(lambda before=before: num_calls() > before)
                telegram.wait_quiet(2.0)
            print(telegram.transcript(chat))
        finally:
            bot.stop()


if __name__ == "__main__":
    main()
