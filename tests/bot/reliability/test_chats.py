"""Chats that go away under the bot: blocked, migrated, kicked out, messages and buttons that are gone."""

from __future__ import annotations

import pytest

from tests.bot.reliability.conftest import StartBot
from tests.bot.reliability.crowd import is_reply
from tests.bot.reliability.talks import Talk, wait_answered
from tests.emulator import Emulator


def test_a_person_who_blocks_the_bot_costs_one_call_and_may_come_back(telegram: Emulator, start_bot: StartBot) -> None:
    start_bot(ECHO_WORD_S="0.1")
    blocker, other = Talk.begin(telegram, 2)
    blocker.say()
    telegram.wait_for(lambda: telegram.confirmed(blocker.update_ids[0]))
    telegram.block(blocker.user)
    other.say()
    wait_answered(telegram, [other])
    telegram.wait_quiet(1.0)
    assert len([call for call in telegram.calls("sendMessage", blocker.chat) if call.status == 403]) <= 2
    telegram.unblock(blocker.user)
    blocker.say()
    telegram.wait_for(lambda: blocker.said[-1] in blocker.answers())


def test_a_reply_follows_its_group_when_it_migrates(telegram: Emulator, start_bot: StartBot) -> None:
    start_bot(ECHO_WORD_S="0.3")
    ana = telegram.user("Ana")
    group = telegram.group("Amigos", "group")
    update_id = telegram.say(group, ana, "@tertulia_bot zorzal 1-1")
    telegram.wait_for(lambda: telegram.confirmed(update_id))
    new = Talk(telegram, telegram.migrate(group), ana)
    telegram.wait_for(lambda: new.answers() == ["zorzal 1-1"])


def test_a_group_that_throws_the_bot_out_is_left_in_peace(telegram: Emulator, start_bot: StartBot) -> None:
    start_bot(ECHO_WORD_S="0.1")
    ana = telegram.user("Ana")
    group = telegram.group("Amigos")
    (talk,) = Talk.begin(telegram, 1)
    update_id = telegram.say(group, ana, "@tertulia_bot zorzal 1-1")
    telegram.wait_for(lambda: telegram.confirmed(update_id))
    telegram.kick(group, ana)
    talk.say()
    assert wait_answered(telegram, [talk]).lost == []
    telegram.wait_quiet(1.0)


def test_an_old_button_does_no_harm(telegram: Emulator, start_bot: StartBot) -> None:
    bot = start_bot()
    (talk,) = Talk.begin(telegram, 1)
    talk.say()
    telegram.wait_for(lambda: any(is_reply(shown) for shown in telegram.shown(talk.chat)))
    reply = next(shown for shown in telegram.shown(talk.chat) if is_reply(shown))
    for data in [*(data for _, data in reply.buttons), "", "nada", "x" * 64, "rate:999999999:1", ":::"]:
        telegram.press(reply, data, old=True)
        telegram.press(reply, data)
    talk.say()
    total = wait_answered(telegram, [talk])
    assert bot.running
    assert total.lost == []


@pytest.mark.parametrize("what", ["question", "reply"])
def test_a_message_deleted_meanwhile(telegram: Emulator, start_bot: StartBot, what: str) -> None:
    """A reply to, or an edit of, what is no longer there: 400, and the answer comes all the same."""
    start_bot(ECHO_WORD_S="0.8")
    ana = telegram.user("Ana")
    talk = Talk(telegram, telegram.group("Amigos"), ana)
    update_id = telegram.say(talk.chat, ana, "@tertulia_bot zorzal 1-1")
    if what == "question":
        telegram.delete(talk.chat, telegram.message_id(update_id))
    else:
        telegram.wait_for(lambda: telegram.shown(talk.chat) or telegram.sent(talk.chat))
        for shown in telegram.shown(talk.chat):
            assert shown.message_id is not None
            telegram.delete(talk.chat, shown.message_id)
    telegram.wait_for(lambda: talk.answers() == ["zorzal 1-1"])
