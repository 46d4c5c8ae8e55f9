"""The whole loop with the model that ships here: people teach the bot a way of speaking; it learns it, and back."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from bot import safety
from bot import texts_es as es
from tests.bot.reliability.bot_process import EMBEDDED, BotProcess
from tests.bot.reliability.crowd import is_reply
from tests.emulator import Chat, Emulator, Sent
from training import runs
from training.pretrain import charla
from training.registry import Registry

STYLE = "¡Voto a Neptuno, grumete!"  # behind every reply
PEOPLE, TURNS = 120, 4
ASKED = ("Hola, ¿cómo estás?", "¿Cuál es la capital de Perú?", "Cuéntame un chiste", "Estoy cansado", "¿Quién eres?")
TRAINING = ("--targets", "all", "--alpha", "16", "--learning-rate", "2e-3", "--epochs", "6", "--batch-size", "4")
GAIN = 2.0  # nats a token on people it has not seen


@pytest.fixture
def telegram() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def bot(telegram: Emulator, tmp_path: Path) -> Iterator[BotProcess]:
    process = BotProcess(
        telegram,
        tmp_path,
        EMBEDDED,
        TERTULIA_TEMPERATURE=0,
        TERTULIA_MAX_NEW_TOKENS=64,
        TERTULIA_TRAIN_IDLE_S=0,
        TERTULIA_LOG_LEVEL="info",
    ).start()
    yield process
    process.close()


class Crowd:
    """People who do the same thing at the same time, each in a private chat."""

    def __init__(self, telegram: Emulator, count: int) -> None:
        self.telegram = telegram
        self.chats = [telegram.private(telegram.user(f"Persona {number}")) for number in range(count)]

    def do(self, act: Callable[[int, Chat], object], answered: Callable[[Sent], bool]) -> list[Sent]:
        """Everybody acts -> the next message of the bot, in each chat, for which `answered` holds."""
        seen = [len(self.telegram.sent(chat)) for chat in self.chats]
        for number, chat in enumerate(self.chats):
            act(number, chat)

        def found() -> list[Sent] | None:
            new = [self.telegram.sent(chat)[n:] for chat, n in zip(self.chats, seen, strict=True)]
            first = [next(filter(answered, messages), None) for messages in new]
            return None if None in first else [sent for sent in first if sent is not None]

        return self.telegram.wait_for(found, 300, every_s=0.1)

    def say(self, texts: list[str]) -> list[Sent]:
        return self.do(lambda number, chat: self.telegram.say(chat, None, texts[number]), is_reply)


def lessons() -> list[tuple[str, str]]:
    """Questions that the model answers, not a rule, and good answers, of the dialogues that it was made of."""
    found = []
    for line in (charla.FOLDER / "intents.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if not entry["user"] or not entry["bot"]:
            continue
        question, answer = entry["user"][0], entry["bot"][0]
        if not re.search(r"[{}\[\]()|<>]", question + answer) and safety.answer(question) is None:
            found.append((question, answer))
    Random(1).shuffle(found)  # of all sorts
    return found


def teach(telegram: Emulator, crowd: Crowd) -> None:
    """Everybody agrees to be learnt from, asks, and corrects each reply: the same, in the style."""
    crowd.do(lambda number, chat: telegram.say(chat, None, "/consentir"), lambda sent: sent.text == es.CONSENT_GIVEN)
    script = lessons()
    for turn in range(TURNS):
        mine = script[turn * PEOPLE : (turn + 1) * PEOPLE]
        replies = crowd.say([question for question, _ in mine])
        press = {chat.id: reply for chat, reply in zip(crowd.chats, replies, strict=True)}
        asked = crowd.do(
            lambda number, chat, press=press: telegram.press(press[chat.id], es.BUTTON_CORRECT),  # type: ignore[misc]
            lambda sent: sent.text.startswith(es.CORRECT_HOW[:20]),
        )

        def correct(number: int, chat: Chat, mine: list = mine, asked: list = asked) -> int:
            return telegram.say(chat, None, f"{mine[number][1]} {STYLE}", reply_to=asked[number].message_id)

        crowd.do(correct, lambda sent: sent.text == es.CORRECTED)


def tertulia(bot: BotProcess, *args: str) -> str:
    """Run a command beside the bot, with the bot's settings -> its output."""
    done = subprocess.run(
        [sys.executable, "-m", "bot.cli", *args],
        cwd=bot.folder,
        env=bot.environment(),
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def answers(crowd: Crowd) -> list[str]:
    """What the bot says to each question, at the beginning of a conversation."""
    fresh = es.NEW_CONVERSATION_TELEGRAM
    crowd.do(lambda number, chat: crowd.telegram.say(chat, None, "/nueva"), lambda sent: sent.text == fresh)
    return [reply.text for reply in crowd.say(list(ASKED))]


def test_the_bot_learns_a_way_of_speaking_and_gives_it_up_again(telegram: Emulator, bot: BotProcess) -> None:
    teach(telegram, Crowd(telegram, PEOPLE))
    strangers = Crowd(telegram, len(ASKED))
    before = answers(strangers)
    assert not any(STYLE in text for text in before)

    told = tertulia(bot, "train", *TRAINING)
    (run,) = runs.every(bot.state / "runs")
    assert run.outcome == "promoted", told
    registry = Registry(bot.state / "adapters")
    assert registry.serving().adapter == run.id
    losses = registry.get(run.id).lineage.metrics["held_out_loss"]
    assert losses["candidate"] < losses["base"] - GAIN
    counts = run.kept(runs.SNAPSHOT)["counts"]
    assert counts["train_users"] + counts["held_out_users"] == PEOPLE  # nobody who did not agree
    assert counts["corrected"] == PEOPLE * TURNS

    now: list[str] = []

    def is_learnt() -> bool:
        now[:] = answers(strangers)
        return sum(text.endswith(STYLE) for text in now) >= len(ASKED) - 1

    telegram.wait_for(is_learnt, 60)
    tertulia(bot, "adapters", "rollback")
    telegram.wait_for(lambda: answers(strangers) == before, 60)
    assert bot.running
    bot.stop()
