"""What faults cost: lost and repeated replies and the waiting time of the chat that is hit and of the others.

    python -m benchmarks.reliability [--only NAME] [--people 200]

A real `tertulia bot` against the emulator of the tests. Faults meet the echo engine (a word takes 20 ms), so that only
the bot is measured; the crowd meets the embedded model. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bot.reliability.bot_process import ECHO, EMBEDDED, BotProcess
from tests.bot.reliability.crowd import ask_at_once, percentile
from tests.bot.reliability.talks import Account, Talk, wait_answered
from tests.bot.reliability.test_kills import talk_and_kill
from tests.bot.reliability.test_stopping import stop_in_the_middle
from tests.emulator import Chat, Emulator

CHATS, EACH, PAUSE_S = 8, 5, 1.2
Hit = Callable[[Emulator, Chat], None]
FAULTS: dict[str, Hit] = {
    "none": lambda telegram, chat: None,
    "429 on sends, 5 s, twice": lambda telegram, chat: telegram.fail("sendMessage", 2, "429", chat=chat, retry_after=5),
    "429 for the whole bot, 5 s": lambda telegram, chat: telegram.fail("sendMessage", 1, "429", retry_after=5),
    "500 on sends, three times": lambda telegram, chat: telegram.fail("sendMessage", 3, "500", chat=chat),
    "502 page on sends, three times": lambda telegram, chat: telegram.fail("sendMessage", 3, "502", chat=chat),
    "answers that are no JSON, three times": lambda telegram, chat: telegram.fail(
        "sendMessage", 3, "bad_json", chat=chat
    ),
    "connection cut before, three times": lambda telegram, chat: telegram.fail(
        "sendMessage", 3, "cut_before", chat=chat
    ),
    "connection cut after, twice": lambda telegram, chat: telegram.fail("sendMessage", 2, "cut_after", chat=chat),
    "answers after 7 s, twice": lambda telegram, chat: telegram.fail(
        "sendMessage", 2, "slow_after", chat=chat, seconds=7.0
    ),
    "401 on polling, once": lambda telegram, chat: telegram.fail("getUpdates", 1, "401"),
    "409 on polling, once": lambda telegram, chat: telegram.fail("getUpdates", 1, "409"),
    "all updates delivered again": lambda telegram, chat: telegram.fail("getUpdates", 1, "forget_offset"),
    "three poisoned updates": lambda telegram, chat: [telegram.poison() for _ in range(3)] and None,
    "outage of 30 s": lambda telegram, chat: telegram.outage(30.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="the rows whose name holds this")
    parser.add_argument("--people", type=int, default=200)
    options = parser.parse_args()
    print("| fault | messages | lost | answered twice | order kept | hit chat p95, s | other chats p50 / p95, s |")
    print("|---|---|---|---|---|---|---|")
    for name, hit in FAULTS.items():
        if options.only in name:
            row(name, *under_fault(hit))
    for seed in (1, 2, 3):
        name = f"kill -9 at 20 random moments, seed {seed}"
        if options.only in name:
            row(name, *killed(seed))
    print()
    if options.only in "SIGTERM":
        stopped()
    if options.only in "crowd":
        crowd(options.people)


def under_fault(hit: Hit) -> tuple[Account, list[float], list[float]]:
    """The account, the waits of the chat that is hit, those of the others."""
    with Emulator() as telegram, running(telegram, ECHO_WORD_S="0.02"):
        talks = Talk.begin(telegram, CHATS)
        for talk in talks:  # the first message has a notice before its answer
            talk.say()
        wait_answered(telegram, talks)
        hit(telegram, talks[0].chat)
        for _ in range(EACH):
            for talk in talks:
                talk.say()
            time.sleep(PAUSE_S)
        total = wait_answered(telegram, talks, 180)
        others = [wait for talk in talks[1:] for wait in talk.waits_s()[1:]]
        return total, talks[0].waits_s()[1:], others


def killed(seed: int) -> tuple[Account, list[float], list[float]]:
    with Emulator() as telegram, running(telegram, ECHO_WORD_S="0.05") as bot:
        return talk_and_kill(telegram, bot, messages=40, chats=8, kills=20, seed=seed), [], []


def stopped() -> None:
    print("| SIGTERM with 80 messages in 8 chats | seconds to stop | answered before | lost | answered twice |")
    print("|---|---|---|---|---|")
    for word_s in (0.05, 0.5):
        with Emulator() as telegram, running(telegram, ECHO_WORD_S=word_s) as bot:
            seconds, before, total = stop_in_the_middle(telegram, bot, chats=8, each=10)
        print(f"| a reply takes {3 * word_s:.2f} s | {seconds:.1f} | {before} | {len(total.lost)} | {total.repeated} |")
    print()


def crowd(people: int) -> None:
    print("| at once | answered | told busy | nothing | first words p50 / p95, s | whole reply p50 / p95, s |")
    print("|---|---|---|---|---|---|")
    for count in (1, people // 8, people):
        with Emulator() as telegram, running(telegram, EMBEDDED):
            ask_at_once(telegram, 1, 300)  # the model is loaded
            seen = ask_at_once(telegram, count, 1800)
        times = [f"{percentile(v, 0.5):.1f} / {percentile(v, 0.95):.1f}" for v in (seen.first_s, seen.total_s)]
        print(f"| {count} | {seen.num_answered} | {seen.num_busy} | {seen.num_nothing} | {times[0]} | {times[1]} |")


@contextlib.contextmanager
def running(telegram: Emulator, module: str = ECHO, **settings: str | float) -> Iterator[BotProcess]:
    """A bot in a folder of its own that is gone at the end."""
    with tempfile.TemporaryDirectory() as folder:
        bot = BotProcess(telegram, Path(folder), module, **{"TERTULIA_LOG_LEVEL": "warning"} | settings)
        try:
            yield bot.start()
        finally:
            bot.close()


def row(name: str, total: Account, hit: list[float], others: list[float]) -> None:
    p95 = f"{percentile(hit, 0.95):.1f}" if hit else ""
    rest = f"{percentile(others, 0.5):.2f} / {percentile(others, 0.95):.2f}" if others else ""
    order = "yes" if total.in_order else "no"
    print(f"| {name} | {total.said} | {len(total.lost)} | {total.repeated} | {order} | {p95} | {rest} |")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
