"""Adapters as those meet them who talk to the bot and look after it: real model, real registry, a Bot API server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

import bot.loading
from bot import texts_es as es
from tests.bot.telegram_fixture import BotThread
from tests.bot.tiny_adapters import register
from tests.emulator import Chat, Emulator, Sent, User
from tests.training.conftest import FACTS
from training.dialogues import Chat as LogChat
from training.registry import Registry
from training.schema import replies

Start = Callable[..., BotThread]
Register = Callable[..., str]


@pytest.fixture
def telegram() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def ana(telegram: Emulator) -> User:
    return telegram.user("Ana")


@pytest.fixture
def chat(telegram: Emulator, ana: User) -> Chat:
    return telegram.private(ana)


@pytest.fixture
def start(
    telegram: Emulator, ana: User, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Start]:
    """A bot on the tiny model; Ana looks after it."""
    monkeypatch.setattr("bot.pacing.PRIVATE_S", 0.05)
    monkeypatch.setattr("bot.adapters.EVERY_S", 0.0)
    monkeypatch.setattr("bot.adapter_watch.EVERY_S", 0.1)
    monkeypatch.setattr("tests.bot.telegram_fixture.load", bot.loading.load)
    bots: list[BotThread] = []

    def begin(**settings: object) -> BotThread:
        values: dict[str, object] = {"model": str(tiny), "temperature": 0.0, "max_new_tokens": 12, "threads": 1}
        bots.append(BotThread(telegram, tmp_path, **values | {"admin_ids": (ana.id,)} | settings))
        return bots[-1]

    yield begin
    for one in bots:
        one.stop()


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "adapters")


@pytest.fixture
def make(registry: Registry, tiny: Path, tmp_path: Path) -> Register:
    def put(name: str, **lineage: object) -> str:
        return register(registry, tiny, tmp_path / "made", name, **lineage)

    return put


def ask(telegram: Emulator, chat: Chat, user: User, text: str, count: int = 1) -> Sent:
    before = len(telegram.sent(chat))
    telegram.say(chat, user, text)
    telegram.wait_for(lambda: len(telegram.sent(chat)) >= before + count, 60)
    return telegram.sent(chat)[before + count - 1]


def stored(running: BotThread) -> list[str | None]:
    """The adapter of each reply in the log."""
    query = select(replies.c.adapter).order_by(replies.c.message_id)
    return list(running.log.database.read(lambda conn: conn.execute(query).scalars()))


def test_an_admin_promotes_and_rolls_back_and_the_facts_name_what_answered(
    telegram: Emulator, start: Start, registry: Registry, make: Register, ana: User, chat: Chat
) -> None:
    running = start()
    assert es.NO_ADAPTERS in ask(telegram, chat, ana, "/adaptadores").text
    assert f"adaptador: {es.NO_ADAPTER}" in ask(telegram, chat, ana, "/version").text
    said = [ask(telegram, chat, ana, "Hola", 2).text]
    make("a", data_hash="abc123" * 10, parent=None)
    make("b", parent="a")
    make("failed", verdict={"promote": False, "reasons": ["un empate"]})
    for name in ("a", "b"):
        assert ask(telegram, chat, ana, f"/promover {name}").text == es.SERVES_NOW.format(adapter=name)
        ask(telegram, chat, ana, "/nueva")
        said.append(ask(telegram, chat, ana, "Hola").text)
    assert len(set(said)) == 3
    told = ask(telegram, chat, ana, "/version").text
    assert re.search(r"adaptador: b \(del \d{4}-\d\d-\d\d, datos d{12}, código 0\.1\.0, a partir de a\)", told)
    shown = ask(telegram, chat, ana, "/adaptadores").text
    assert re.search(r"• b \(\S+, en servicio\)", shown)
    assert re.search(rf"• failed \(\S+, {es.REFUSED}\)", shown)
    assert ask(telegram, chat, ana, "/revertir").text == es.SERVES_NOW.format(adapter="a")
    ask(telegram, chat, ana, "/nueva")
    assert ask(telegram, chat, ana, "Hola").text == said[1]
    assert stored(running) == [None, "a", "b", "a"]
    assert registry.changes()[-1].reasons == ("by an admin on Telegram",)


def test_what_cannot_be_promoted_is_said_and_force_leaves_a_trace(
    telegram: Emulator, start: Start, registry: Registry, make: Register, ana: User, chat: Chat
) -> None:
    start()
    make("failed", verdict={"promote": False, "reasons": ["un empate"]})
    make("strange", base_hash="5" * 64)
    eve = telegram.user("Eva")
    assert ask(telegram, telegram.private(eve), eve, "/promover failed").text == es.ADMIN_ONLY
    for text, words in (
        ("/promover", "Dime cuál"),
        ("/promover failed quizá", "Dime cuál"),
        ("/promover nada", "there is no adapter nada"),
        ("/promover ../x", "no id of an adapter"),
        ("/promover failed", "un empate"),
        ("/promover strange", "was made for the base 555555555555"),
        ("/revertir", "nothing to go back to"),
    ):
        assert words in ask(telegram, chat, ana, text).text
    assert registry.serving().serial == 0
    assert ask(telegram, chat, ana, "/promover failed forzar").text == es.SERVES_NOW.format(adapter="failed")
    [line] = registry.changes()
    assert line.forced
    assert line.reasons == ("by an admin on Telegram", "un empate")


def test_a_bot_that_nobody_talks_to_takes_up_what_another_process_promotes(
    start: Start, registry: Registry, make: Register, telegram: Emulator
) -> None:
    running = start()
    assert running.app is not None
    served = running.app.context.loaded.adapters
    assert served is not None
    make("a")
    registry.promote("a")
    telegram.wait_for(lambda: served.pointer.adapter == "a")


@pytest.mark.parametrize("retire", [False, True])
def test_olvidar_marks_the_adapter_and_retires_it_at_once_where_that_is_set(
    telegram: Emulator, start: Start, registry: Registry, make: Register, ana: User, chat: Chat, retire: bool
) -> None:
    running = start(retire_forgotten=retire)
    ask(telegram, chat, ana, "/consentir")
    ask(telegram, chat, ana, "Hola", 1)
    rows = tuple(message.id for message in running.log.history(LogChat("telegram", chat.id)))
    make("a", row_ids=rows)
    registry.promote("a")
    ask(telegram, chat, ana, "¿Qué tal?")
    assert stored(running)[-1] == "a"
    question = ask(telegram, chat, ana, "/olvidar")
    telegram.press(question, es.BUTTON_FORGET)
    telegram.wait_for(lambda: registry.get("a").forgotten is not None, 30)
    mark = es.RETIRED if retire else es.FORGOTTEN_ROWS
    telegram.wait_for(lambda: registry.serving().adapter == (None if retire else "a"), 30)
    ask(telegram, chat, ana, "Hola", 2)
    assert stored(running)[-1] == (None if retire else "a")
    assert mark.format(rows=2) in ask(telegram, chat, ana, "/adaptadores").text


@pytest.mark.parametrize("how", ["/retirar", "/deshacer"])
def test_withdrawing_or_undoing_marks_too(
    telegram: Emulator, start: Start, registry: Registry, make: Register, ana: User, chat: Chat, how: str
) -> None:
    running = start()
    ask(telegram, chat, ana, "/consentir")
    ask(telegram, chat, ana, "Hola", 1)
    make("a", row_ids=tuple(message.id for message in running.log.history(LogChat("telegram", chat.id))))
    ask(telegram, chat, ana, how)
    telegram.wait_for(lambda: registry.get("a").forgotten is not None, 30)


def test_a_bad_trial_is_ended_by_the_bot_itself(
    telegram: Emulator, start: Start, registry: Registry, make: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bot.adapter_watch.TRIAL_EVERY_S", 0.1)
    running = start()
    make("a")
    registry.start_share("a", 0.3)
    served = running.app and running.app.context.loaded.adapters
    assert served
    telegram.wait_for(lambda: served.pointer.candidate == "a")
    for number in range(40):
        adapter = served.of(f"{number}/0")
        facts = replace(FACTS, adapter=adapter and adapter.name)
        _, reply = running.log.append_turn(LogChat("telegram", number), number, "hola", "¡Hola!", facts)
        if adapter is not None:
            running.log.rate(LogChat("telegram", number), reply, number, -1)
    telegram.wait_for(lambda: served.pointer.candidate is None, 30)
    assert registry.changes()[-1].reasons[0].startswith("thumbs-down in ")
