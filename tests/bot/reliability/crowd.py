"""Many people at once: who was answered, who was told that the bot is busy, and how long each waited."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from bot import texts_es as es
from tests.emulator import Emulator, Sent

ASKED = ("hola, ¿cómo estás?", "¿cuál es la capital de Perú?", "cuéntame un cuento", "me llamo Nerea", "¿quién eres?")


@dataclass
class Crowd:
    num_answered: int = 0
    num_busy: int = 0
    num_nothing: int = 0
    first_s: list[float] = field(default_factory=list)  # until something of the reply was seen
    total_s: list[float] = field(default_factory=list)  # until all of it was


def ask_at_once(telegram: Emulator, count: int, timeout_s: float) -> Crowd:
    """`count` people, whom the bot knows, ask at the same moment."""
    chats = [telegram.private(telegram.user(f"Persona {number}")) for number in range(count)]
    for chat in chats:  # who has answered the notice about consent gets no other before the first reply
        telegram.say(chat, None, "/consentir")
    telegram.wait_for(lambda: {chat.id for chat in chats} <= {sent.chat_id for sent in telegram.sent()}, timeout_s, 0.5)
    time.sleep(1.1)  # a second after a message the bot may speak again
    telegram.hold()
    for number, chat in enumerate(chats):
        telegram.say(chat, None, ASKED[number % len(ASKED)])
    begin = time.monotonic()
    telegram.release()

    def all_done() -> bool:
        done = {call.chat_id for call in telegram.sent() if is_reply(call) or call.text == es.BUSY}
        return all(chat.id in done for chat in chats)

    telegram.wait_for(all_done, timeout_s, every_s=0.5)
    crowd = Crowd()
    for chat in chats:
        calls = [call for call in telegram.calls(chat=chat) if call.applied and call.text]
        final = [call for call in calls if is_reply(call)]
        if final:
            drafts = [call.at for call in calls if call.method == "sendMessageDraft"]
            crowd.num_answered += 1
            crowd.first_s.append(min([final[0].at, *drafts]) - begin)
            crowd.total_s.append(final[0].at - begin)
        elif any(call.text == es.BUSY for call in calls):
            crowd.num_busy += 1
        else:
            crowd.num_nothing += 1
    return crowd


def is_reply(sent: Sent) -> bool:
    """A whole reply has the buttons to rate it under it."""
    return es.BUTTON_GOOD in dict(sent.buttons)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all do not exceed; NaN without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")
