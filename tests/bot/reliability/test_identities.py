"""Admin commands by everybody who is not an admin but looks like one: refused, and nothing happens."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bot import texts_es as es
from tests.bot.reliability.conftest import StartBot
from tests.bot.reliability.talks import QUIET_S, Talk, wait_answered
from tests.emulator import Chat, Emulator, User

ADMIN_ID = 424_242
GRANTED = es.STATE_IS.partition("{")[0]
REFUSALS = (es.ADMIN_ONLY, es.FORWARDED_COMMAND, es.NOTHING_TO_STOP)  # the last: /parar before it is edited
COMMANDS = ["/estado", "/adaptadores", "/promover 1", "/revertir", "/entrenar"]
Identity = Callable[[Emulator, User, User, str], Chat]


def stranger(telegram: Emulator, admin: User, other: User, text: str) -> Chat:
    telegram.say(telegram.private(other), other, text)
    return telegram.private(other)


def namesake(telegram: Emulator, admin: User, other: User, text: str) -> Chat:
    twin = telegram.user(admin.first_name, username=f"{admin.username}_")
    telegram.say(telegram.private(twin), twin, text)
    return telegram.private(twin)


def forwards_the_admins_words(telegram: Emulator, admin: User, other: User, text: str) -> Chat:
    telegram.say(telegram.private(other), other, text, forwarded_from=admin)
    return telegram.private(other)


def admin_forwards_anothers_words(telegram: Emulator, admin: User, other: User, text: str) -> Chat:
    telegram.say(telegram.private(admin), admin, text, forwarded_from=other)
    return telegram.private(admin)


def anonymous_admin_of_a_group(telegram: Emulator, admin: User, other: User, text: str) -> Chat:
    group = telegram.group("Amigos")
    telegram.say(group, None, text, anonymous=True)
    return group


def writes_as_a_channel(telegram: Emulator, admin: User, other: User, text: str) -> Chat:
    group, channel = telegram.group("Amigos"), telegram.channel("Canal")
    channel_bot = telegram.user("Channel", id=136817688, username="Channel_Bot", is_bot=True)
    telegram.say(group, channel_bot, text, sender_chat=channel.as_json())
    return group


def channel_post(telegram: Emulator, admin: User, other: User, text: str) -> Chat:
    channel = telegram.channel("Canal")
    telegram.post(channel, text)
    return channel


def forwarded_by_the_linked_channel(telegram: Emulator, admin: User, other: User, text: str) -> Chat:
    group, channel = telegram.group("Amigos"), telegram.channel("Canal")
    service = telegram.user("Telegram", id=777000, username=None)
    telegram.say(group, service, text, sender_chat=channel.as_json(), is_automatic_forward=True)
    return group


def edits_an_old_message(telegram: Emulator, admin: User, other: User, text: str) -> Chat:
    update_id = telegram.say(telegram.private(other), other, "/parar")
    telegram.edit(update_id, text)
    return telegram.private(other)


def through_an_inline_bot(telegram: Emulator, admin: User, other: User, text: str) -> Chat:
    inline = telegram.user("Otro bot", is_bot=True)
    telegram.say(telegram.private(other), other, text, via_bot=inline.as_json())
    return telegram.private(other)


def another_bot(telegram: Emulator, admin: User, other: User, text: str) -> Chat:
    group = telegram.group("Amigos")
    telegram.say(group, telegram.user("Otro bot", is_bot=True), text)
    return group


def negative_of_the_admins_id(telegram: Emulator, admin: User, other: User, text: str) -> Chat:
    """A chat with the admin's number: ids of people and of chats are told apart."""
    group = telegram.group("Amigos", "group")
    telegram.say(group, other, text, sender_chat={"id": -admin.id, "type": "group", "title": "Amigos"})
    return group


IDENTITIES: list[Identity] = [
    stranger,
    namesake,
    forwards_the_admins_words,
    admin_forwards_anothers_words,
    anonymous_admin_of_a_group,
    writes_as_a_channel,
    channel_post,
    forwarded_by_the_linked_channel,
    edits_an_old_message,
    through_an_inline_bot,
    another_bot,
    negative_of_the_admins_id,
]


@pytest.fixture
def admin(telegram: Emulator) -> User:
    return telegram.user("Jefa", id=ADMIN_ID)


def test_nobody_else_is_an_admin(telegram: Emulator, start_bot: StartBot, admin: User) -> None:
    start_bot(TERTULIA_ADMIN_IDS=ADMIN_ID)
    (target,) = Talk.begin(telegram, 1)
    telegram.say(telegram.private(admin), admin, "/estado")
    assert GRANTED in telegram.wait_reply(telegram.private(admin)).text
    before = len(telegram.sent())
    chats: dict[int, str] = {}
    for identity in IDENTITIES:
        for command in [*COMMANDS, f"/bloquear {target.user.id}"]:
            chat = identity(telegram, admin, telegram.user("Otra"), command)
            chats[chat.id] = f"{identity.__name__} {command}"
    telegram.wait_quiet(QUIET_S)
    for sent in telegram.sent()[before:]:
        assert sent.chat_id is not None
        assert sent.text in REFUSALS, chats[sent.chat_id]
    target.say()
    assert wait_answered(telegram, [target]).lost == []  # nobody could block this person


def test_an_admin_blocks_and_unblocks_by_number(telegram: Emulator, start_bot: StartBot, admin: User) -> None:
    """So that the test above means something."""
    start_bot(TERTULIA_ADMIN_IDS=ADMIN_ID)
    blocked, other = Talk.begin(telegram, 2)
    telegram.say(telegram.private(admin), admin, f"/bloquear {blocked.user.id}")
    telegram.wait_reply(telegram.private(admin))
    blocked.say()
    other.say()
    wait_answered(telegram, [other])
    assert blocked.answers() == []


def test_an_admins_button_is_no_one_elses(telegram: Emulator, start_bot: StartBot, admin: User) -> None:
    """A forwarded or guessed button of an admin's answer does nothing for others."""
    start_bot(TERTULIA_ADMIN_IDS=ADMIN_ID)
    group, other = telegram.group("Amigos"), telegram.user("Otra")
    telegram.say(group, admin, "/promover 1")
    telegram.say(group, admin, "/entrenar")
    telegram.wait_for(lambda: telegram.sent(group))
    telegram.wait_quiet(QUIET_S)
    before = telegram.transcript(group)
    for shown in telegram.shown(group):
        for _, data in shown.buttons:
            telegram.press(shown, data, user=other)
    telegram.wait_quiet(QUIET_S)
    assert telegram.transcript(group) == before
