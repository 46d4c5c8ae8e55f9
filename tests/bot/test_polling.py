"""The questions for updates: what fails delays them, nothing but a second bot ends them."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from bot.errors import BotError
from bot.health import SECRET_HEADER, serve_health, serve_webhook
from bot.metrics import Metrics
from bot.polling import Poller, connect, make_bot
from tests.bot.reliability.test_operation import free_port
from tests.emulator import Emulator


@pytest.fixture
def telegram(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    monkeypatch.setattr("bot.polling.backoff_s", lambda attempt: 0.05)
    with Emulator() as emulator:
        yield emulator


def poll(telegram: Emulator, enough: int, metrics: Metrics | None = None) -> list[int]:
    """Poll until so many updates came -> their numbers."""
    seen: list[int] = []

    async def work() -> None:
        bot = make_bot(telegram.token, telegram.base_url)
        await connect(bot)
        done = asyncio.Event()

        async def accept(raw: Any) -> None:
            seen.append(raw["update_id"])
            if len(seen) >= enough:
                done.set()

        polling = asyncio.create_task(Poller(bot, accept, metrics or Metrics()).run())
        await asyncio.wait({polling, asyncio.create_task(done.wait())}, return_when="FIRST_COMPLETED", timeout=60)
        await asyncio.sleep(0.5)  # the last ones are confirmed by the next question
        polling.cancel()
        await asyncio.wait({polling})
        await bot.shutdown()

    asyncio.run(work())
    return seen


@pytest.mark.parametrize("kind", ["401", "500", "502", "bad_json", "cut_before", "cut_after", "429", "409"])
def test_polling_survives(telegram: Emulator, kind: str) -> None:
    chat = telegram.private(telegram.user("Ana"))
    numbers = [telegram.say(chat, chat.user, f"hola {i}") for i in range(3)]
    telegram.fail("getUpdates", 1, kind)
    assert poll(telegram, 3) == numbers
    assert telegram.num_pending() == 0


def test_an_update_that_nothing_can_parse_does_not_stop_those_behind_it(telegram: Emulator) -> None:
    chat = telegram.private(telegram.user("Ana"))
    numbers = [telegram.say(chat, chat.user, "hola"), telegram.poison(), telegram.say(chat, chat.user, "adiós")]
    assert poll(telegram, 3) == numbers


def test_nothing_is_confirmed_that_was_not_accepted(telegram: Emulator) -> None:
    chat = telegram.private(telegram.user("Ana"))
    numbers = [telegram.say(chat, chat.user, f"hola {i}") for i in range(3)]

    async def work() -> None:
        bot = make_bot(telegram.token, telegram.base_url)
        await connect(bot)

        async def accept(raw: Any) -> None:
            if raw["update_id"] == numbers[1]:
                await asyncio.sleep(1000)

        polling = asyncio.create_task(Poller(bot, accept, Metrics()).run())
        await asyncio.sleep(1.0)
        polling.cancel()
        await asyncio.wait({polling})
        await bot.shutdown()

    asyncio.run(work())
    assert not telegram.confirmed(numbers[1])


def test_a_young_bot_leaves_when_another_asks_and_says_why(telegram: Emulator) -> None:
    telegram.fail("getUpdates", None, "409")

    async def work() -> None:
        bot = make_bot(telegram.token, telegram.base_url)
        await connect(bot)
        try:
            await Poller(bot, lambda raw: asyncio.sleep(0), Metrics()).run()
        finally:
            await bot.shutdown()

    with pytest.raises(BotError, match="another bot is running with this TELEGRAM_BOT_TOKEN"):
        asyncio.run(work())


def test_a_token_that_telegram_refuses_is_an_error_of_one_line_without_it(telegram: Emulator) -> None:
    async def work() -> None:
        bot = make_bot("1:x", telegram.base_url)
        try:
            await connect(bot)
        finally:
            await bot.shutdown()

    with pytest.raises(BotError, match="Telegram refuses the TELEGRAM_BOT_TOKEN") as caught:
        asyncio.run(work())
    assert "1:x" not in str(caught.value)


def test_connecting_waits_for_a_network_that_comes_later(telegram: Emulator) -> None:
    telegram.fail("getMe", 3, "cut_before")
    telegram.fail("getMe", 1, "401")

    async def work() -> None:
        bot = make_bot(telegram.token, telegram.base_url)
        await connect(bot)
        assert bot.bot.username
        assert telegram.token not in repr(bot)
        await bot.shutdown()

    asyncio.run(work())


def request(url: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, named), timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_the_webhook_wants_its_secret_and_answers_after_the_update_is_stored() -> None:
    stored: list[Any] = []
    port, metrics = free_port(), Metrics()
    url = f"http://127.0.0.1:{port}/a/b"
    header = SECRET_HEADER.replace("-", "_")

    async def accept(raw: Any) -> None:
        await asyncio.sleep(0.2)
        stored.append(raw)

    async def work() -> None:
        server = serve_webhook(url, "127.0.0.1", port, "clave", accept, metrics)
        for secret, body, status in (
            ("", b"{}", 403),
            ("otra", b"{}", 403),
            ("clave", b"no", 400),
            ("clave", b'{"update_id": 1}', 200),
        ):
            got, _ = await asyncio.to_thread(request, url, body, **{header: secret})
            assert got == status
            assert len(stored) == (status == 200)
        assert (await asyncio.to_thread(request, url.replace("/b", "/c"), b"{}", **{header: "clave"}))[0] == 404
        server.stop()
        await server.close_all_connections()

    asyncio.run(work())
    assert metrics.poll_age() >= 0


def test_health_is_red_until_telegram_answers_and_when_it_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    port, metrics = free_port(), Metrics()

    async def status() -> tuple[int, dict[str, Any]]:
        code, body = await asyncio.to_thread(request, f"http://127.0.0.1:{port}/healthz")
        return code, json.loads(body)

    async def work() -> None:
        server = serve_health(port, metrics)
        assert (await status())[0] == 503
        metrics.polled()
        assert (await status())[0] == 200
        monkeypatch.setattr("bot.health.SILENT_S", 0.0)
        assert (await status())[1]["status"] == "silent"
        _, text = await asyncio.to_thread(request, f"http://127.0.0.1:{port}/metrics")
        assert b"tertulia_last_poll_age_seconds" in text
        with pytest.raises(BotError, match=f"TERTULIA_HEALTH_PORT is {port}: cannot listen"):
            serve_health(port, metrics)
        server.stop()

    asyncio.run(work())
