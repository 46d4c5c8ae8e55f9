"""People who talk to the echo bot, and the account of it afterwards: what was lost, repeated, out of order."""

from __future__ import annotations

import itertools
import re
import time
from dataclasses import dataclass, field

from tests.emulator import Chat, Emulator, User

WORD = "zorzal"  # in every text that people say, so that it can be looked for in files and output
QUIET_S = 1.3  # a bot sends a private chat a message a second at most: after so long nothing more comes
_ECHO = re.compile(rf"eco: (?:@\w+ )?({WORD} [\w-]+)\.")
_numbers = itertools.count(1)


@dataclass
class Account:
    said: int
    lost: list[str]
    repeated: int
    in_order: bool

    def __add__(self, other: Account) -> Account:
        return Account(
            self.said + other.said,
            self.lost + other.lost,
            self.repeated + other.repeated,
            self.in_order and other.in_order,
        )


@dataclass
class Talk:
    """One person in one chat."""

    telegram: Emulator
    chat: Chat
    user: User
    said: list[str] = field(default_factory=list)
    update_ids: list[int] = field(default_factory=list)
    said_at: list[float] = field(default_factory=list)

    @classmethod
    def begin(cls, telegram: Emulator, count: int) -> list[Talk]:
        """That many people, each in a private chat."""
        users = [telegram.user(f"Persona {next(_numbers)}") for _ in range(count)]
        return [cls(telegram, telegram.private(user), user) for user in users]

    def say(self) -> int:
        """The next message: a text of its own."""
        text = f"{WORD} {len(self.said) + 1}-{abs(self.chat.id) % 10_000}"
        self.said.append(text)
        self.said_at.append(time.monotonic())
        self.update_ids.append(self.telegram.say(self.chat, self.user, text))
        return self.update_ids[-1]

    def answers(self) -> list[str]:
        """The texts that the bot answered, in the order of the messages that the person sees now."""
        return [text for shown in self.telegram.shown(self.chat) for text in _ECHO.findall(shown.text)]

    def is_answered(self) -> bool:
        return set(self.said) <= set(self.answers())

    def waits_s(self) -> list[float]:
        """For each answered message the seconds until its answer was in the chat."""
        delivered: dict[str, float] = {}
        for call in self.telegram.calls(chat=self.chat):
            if call.applied and call.method in ("sendMessage", "editMessageText"):
                for text in _ECHO.findall(call.text):
                    delivered.setdefault(text, call.at)
        said = zip(self.said, self.said_at, strict=True)
        return [delivered[text] - at for text, at in said if text in delivered]

    def account(self) -> Account:
        answers = self.answers()
        first = list(dict.fromkeys(answers))
        wanted = [text for text in self.said if text in set(answers)]
        lost = [text for text in self.said if text not in set(answers)]
        return Account(len(self.said), lost, len(answers) - len(first), first == wanted)


def account(talks: list[Talk]) -> Account:
    return sum((talk.account() for talk in talks), Account(0, [], 0, True))


def wait_answered(telegram: Emulator, talks: list[Talk], timeout_s: float = 180.0) -> Account:
    """Wait until nobody waits any more, then a moment for what might come twice."""
    telegram.wait_for(lambda: all(talk.is_answered() for talk in talks), timeout_s)
    telegram.wait_quiet(QUIET_S, timeout_s)
    return account(talks)
