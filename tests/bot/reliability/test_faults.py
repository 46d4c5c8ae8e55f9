"""Every fault that Telegram and the network have, hitting one chat or the polling: nothing lost, the others go on."""

from __future__ import annotations

import pytest

from tests.bot.reliability.conftest import StartBot
from tests.bot.reliability.talks import Talk, account, wait_answered
from tests.emulator import Emulator

SENDING = ["429", "500", "502", "bad_json", "401", "cut_before", "cut_after"]
PREVIEWS = ["429", "500", "400", "404"]
MORE_PREVIEWS = [
    pytest.param(kind, marks=pytest.mark.slow) for kind in ("502", "bad_json", "403", "cut_before", "cut_after")
]
POLLING = ["401", "409", "429", "500", "502", "bad_json", "cut_before", "cut_after", "forget_offset"]


@pytest.mark.parametrize("kind", SENDING)
def test_a_fault_of_sending_in_one_chat(telegram: Emulator, start_bot: StartBot, kind: str) -> None:
    start_bot()
    talks = Talk.begin(telegram, 4)
    telegram.fail("sendMessage", 2, kind, chat=talks[0].chat, retry_after=1)
    for _ in range(2):
        for talk in talks:
            talk.say()
    total = wait_answered(telegram, talks)
    assert (total.lost, total.in_order) == ([], True)
    assert account(talks[1:]).repeated == 0
    done_unknown = 2 if kind == "cut_after" else 0  # it was done, and the bot cannot know it
    assert talks[0].account().repeated <= done_unknown


@pytest.mark.parametrize("kind", [*PREVIEWS, *MORE_PREVIEWS])
def test_a_fault_of_a_preview_costs_no_reply(telegram: Emulator, start_bot: StartBot, kind: str) -> None:
    """Drafts and "typing" are a courtesy: whatever becomes of them, the reply comes."""
    start_bot(ECHO_WORD_S="1.1")
    talks = Talk.begin(telegram, 2)
    for method in ("sendMessageDraft", "sendChatAction"):
        telegram.fail(method, 2, kind, chat=talks[0].chat, retry_after=1)
    for talk in talks:
        talk.say()
    total = wait_answered(telegram, talks)
    assert (total.lost, total.repeated) == ([], 0)
    assert telegram.drafts(talks[1].chat)


@pytest.mark.parametrize("kind", POLLING)
def test_a_fault_of_the_polling(telegram: Emulator, start_bot: StartBot, kind: str) -> None:
    bot = start_bot()
    talks = Talk.begin(telegram, 3)
    for talk in talks:
        talk.say()
    telegram.wait_for(lambda: all(talk.is_answered() for talk in talks))
    telegram.fail("getUpdates", 1, kind)
    for talk in talks:
        talk.say()
    total = wait_answered(telegram, talks)
    assert bot.running
    assert (total.lost, total.repeated, total.in_order) == ([], 0, True)


def test_a_flooded_chat_waits_alone(telegram: Emulator, start_bot: StartBot) -> None:
    start_bot()
    flooded, *others = Talk.begin(telegram, 5)
    telegram.fail("sendMessage", 1, "429", chat=flooded.chat, retry_after=4)
    for talk in (flooded, *others):
        talk.say()
    telegram.wait_for(lambda: all(talk.is_answered() for talk in others))
    assert not flooded.is_answered()
    asked_early = [call for call in telegram.calls("sendMessage", flooded.chat) if call.status == 429]
    assert wait_answered(telegram, [flooded, *others]).lost == []
    assert len(asked_early) <= 2


@pytest.mark.slow
def test_an_answer_that_takes_seven_seconds_is_not_sent_for_ever(telegram: Emulator, start_bot: StartBot) -> None:
    start_bot()
    talks = Talk.begin(telegram, 3)
    telegram.fail("sendMessage", 1, "slow_after", chat=talks[0].chat, seconds=7.0)
    for talk in talks:
        talk.say()
    total = wait_answered(telegram, talks)
    assert (total.lost, total.in_order) == ([], True)
    assert total.repeated <= 1


@pytest.mark.parametrize(("method", "kind"), [("editMessageText", "429"), ("editMessageText", "500")])
def test_a_fault_of_edits_in_a_group(telegram: Emulator, start_bot: StartBot, method: str, kind: str) -> None:
    start_bot(ECHO_WORD_S="1.5")
    ana = telegram.user("Ana")
    group = Talk(telegram, telegram.group("Amigos"), ana)
    telegram.fail(method, 1, kind, chat=group.chat)
    telegram.say(group.chat, ana, "@tertulia_bot zorzal 1-1")
    telegram.wait_for(lambda: group.answers() == ["zorzal 1-1"])


@pytest.mark.parametrize("seconds", [2.0, pytest.param(30.0, marks=pytest.mark.slow)])
def test_an_outage(telegram: Emulator, start_bot: StartBot, seconds: float) -> None:
    bot = start_bot(ECHO_WORD_S="0.1")
    talks = Talk.begin(telegram, 5)
    for talk in talks:
        talk.say()
    telegram.wait_for(lambda: telegram.confirmed(talks[0].update_ids[0]))
    telegram.outage(seconds)
    for talk in talks:
        talk.say()
    total = wait_answered(telegram, talks, 60 + 2 * seconds)
    assert bot.running
    assert (total.lost, total.in_order) == ([], True)
    assert total.repeated <= 5


def test_an_update_delivered_again_is_answered_once(telegram: Emulator, start_bot: StartBot) -> None:
    bot = start_bot()
    (talk,) = Talk.begin(telegram, 1)
    talk.say()
    wait_answered(telegram, [talk])
    telegram.redeliver(talk.update_ids[0])
    talk.say()
    wait_answered(telegram, [talk])
    bot.kill()
    telegram.fail("getUpdates", 1, "forget_offset")
    bot.start()
    talk.say()
    total = wait_answered(telegram, [talk])
    assert (total.said, total.lost, total.repeated) == (3, [], 0)


def test_a_poisoned_update_is_skipped_at_once(telegram: Emulator, start_bot: StartBot) -> None:
    start_bot()
    talk, other = Talk.begin(telegram, 2)
    telegram.hold()
    talk.say()
    poison = [telegram.poison(), telegram.push({"message": "nada"}), telegram.push({"callback_query": {"id": 1}})]
    talk.say()
    other.say()
    telegram.release()
    total = wait_answered(telegram, [talk, other])
    assert (total.lost, total.repeated, total.in_order) == ([], 0, True)
    assert all(telegram.confirmed(update_id) for update_id in poison)
