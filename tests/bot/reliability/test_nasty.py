"""Two hundred nasty messages: each gets an answer or a polite refusal, none forges a turn, none stops the bot."""

from __future__ import annotations

import contextlib
import json
from operator import gt
from pathlib import Path

import pytest

from tests.bot.reliability import nasty
from tests.bot.reliability.bot_process import ECHO, EMBEDDED
from tests.bot.reliability.conftest import StartBot
from tests.bot.reliability.crowd import is_reply
from tests.bot.reliability.talks import QUIET_S, Talk, wait_answered
from tests.emulator import Emulator

NUM_CHATS = 100


@pytest.mark.parametrize("module", [ECHO, pytest.param(EMBEDDED, marks=pytest.mark.slow)])
def test_every_nasty_message_is_answered(telegram: Emulator, start_bot: StartBot, tmp_path: Path, module: str) -> None:

    def count(said: list[tuple[Talk, str]]) -> list[int]:
        return [len(telegram.shown(talk.chat)) for talk, _ in said]

    prompts = tmp_path / "prompts.jsonl"
    bot = start_bot(module, ECHO_WORD_S="0", ECHO_PROMPTS=str(prompts))
    talks = Talk.begin(telegram, NUM_CHATS)
    texts = nasty.messages()
    for talk in talks:  # before the first answer there is a notice
        talk.say()
    telegram.wait_for(lambda: all(with_reply(telegram, talk) for talk in talks), 600, every_s=0.5)
    telegram.wait_quiet(QUIET_S)
    unanswered = []
    for at in range(0, len(texts), NUM_CHATS):  # one message a chat at a time, so that answers can be told apart
        said = list(zip(talks, texts[at : at + NUM_CHATS], strict=False))
        before = count(said)
        for talk, text in said:
            telegram.say(talk.chat, talk.user, text)
        with contextlib.suppress(AssertionError):  # then the messages are told below
            telegram.wait_for(lambda said=said, old=before: all(map(gt, count(said), old)), 300, every_s=0.5)
        telegram.wait_quiet(QUIET_S if module == ECHO else 5.0, 600)  # the second half of a long answer
        after = count(said)
        unanswered += [repr(text[:40]) for (_, text), old, new in zip(said, before, after, strict=True) if new <= old]
        assert bot.running, bot.output[-2000:]
    assert unanswered == []
    refused = [call for call in telegram.calls() if call.status >= 400]
    assert [(call.method, call.description) for call in refused] == []
    if module == ECHO:
        for talk in talks:
            talk.say()
        assert wait_answered(telegram, talks).lost == []
        for line in prompts.read_text().splitlines():
            roles = [role for role in json.loads(line) if role != "system"]
            assert roles == ["user", "assistant"] * (len(roles) // 2), "a message opened a turn of its own"


def with_reply(telegram: Emulator, talk: Talk) -> bool:
    return any(is_reply(sent) for sent in telegram.sent(talk.chat))


def test_a_message_without_anything_known_in_it(telegram: Emulator, start_bot: StartBot) -> None:
    """New kinds of messages and updates come with every version of Telegram."""
    bot = start_bot()
    (talk,) = Talk.begin(telegram, 1)
    telegram.say(talk.chat, talk.user, None)
    telegram.say(talk.chat, talk.user, None, hologram={"x": 1})
    telegram.say(talk.chat, talk.user, None, dice={"emoji": "🎲", "value": 3})
    telegram.say(talk.chat, talk.user, None, location={"latitude": 1.0, "longitude": 2.0})
    telegram.push({"hologram_post": {"x": 1}})
    telegram.push({})
    talk.say()
    assert wait_answered(telegram, [talk]).lost == []
    assert bot.running
