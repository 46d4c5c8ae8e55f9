"""Nothing that a person wrote and no token reaches the log, whoever logs it and at whatever level."""

import io
import logging
from collections.abc import Iterator

import httpx
import pytest
import telegram

from bot.redaction import RedactingFormatter

TOKEN = "123456789:AAHfiqksKZ8WmR2zSjiQ7_v4TMKl0aAbCdE"
TEXT = "mi secreto más íntimo"


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(RedactingFormatter([TOKEN]))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield out
    root.removeHandler(handler)
    root.setLevel(level)


def test_our_own_lines_keep_their_ids_and_lose_the_token(written: io.StringIO) -> None:
    logging.getLogger("bot.delivery").info("sent chat=%s in %.1f s to bot%s", 42, 0.5, TOKEN)
    line = written.getvalue()
    assert "chat=42 in 0.5 s" in line
    assert TOKEN not in line


def test_a_token_nobody_told_of_is_struck_out_too(written: io.StringIO) -> None:
    other = TOKEN.replace("1234", "9876")
    logging.getLogger("bot").warning("https://api.telegram.org/bot%s/getMe", other.replace(":", "%3A"))
    logging.getLogger("bot").warning("%s", other)
    assert "AAHfiq" not in written.getvalue()


def test_libraries_arguments_are_not_written(written: io.StringIO) -> None:
    logging.getLogger("httpx").info('HTTP Request: %s %s "%s"', "POST", f"https://x/bot{TOKEN}/sendMessage", "200 OK")
    logging.getLogger("telegram.Bot").debug("Calling Bot API endpoint `%s` with parameters `%s`", "a", {"text": TEXT})
    logging.getLogger("telegram").error(f"Received {TEXT}")
    lines = written.getvalue()
    assert "HTTP Request: %s" in lines
    assert TEXT not in lines
    assert TOKEN not in lines


def test_an_exception_is_written_without_its_message(written: io.StringIO) -> None:
    try:
        try:
            raise ValueError(TEXT)
        except ValueError as error:
            raise telegram.error.InvalidToken(f"the token {TOKEN} was rejected") from error
    except telegram.error.InvalidToken:
        logging.getLogger("bot.inbox").exception("failed update=%d", 7)
    lines = written.getvalue()
    assert "InvalidToken" in lines
    assert "ValueError" in lines
    assert "failed update=7" in lines
    assert TEXT not in lines
    assert TOKEN not in lines


def test_a_real_request_through_python_telegram_bot_at_debug(written: io.StringIO) -> None:
    """httpx, httpcore and telegram log the address with the token, the body and the reply."""
    import asyncio

    def reply(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=f"not json: {TEXT}")

    async def send() -> None:
        request = telegram.request.HTTPXRequest(httpx_kwargs={"transport": httpx.MockTransport(reply)})
        bot = telegram.Bot(TOKEN, request=request)
        with pytest.raises(telegram.error.TelegramError):
            await bot.send_message(1, TEXT)
        logging.getLogger("bot").error("bot %r", bot)

    asyncio.run(send())
    lines = written.getvalue()
    assert "Can not load invalid JSON data" in lines
    assert TEXT not in lines
    assert TOKEN not in lines
