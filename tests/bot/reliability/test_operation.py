"""What an operator sees: health while Telegram is away, old messages after a long stop, an output without secrets."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request

import pytest

from bot import texts_es as es
from tests.bot.reliability.bot_process import EMBEDDED
from tests.bot.reliability.conftest import StartBot
from tests.bot.reliability.crowd import is_reply
from tests.bot.reliability.talks import WORD, Talk, wait_answered
from tests.emulator import VOICE, Emulator


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, ""


def test_health_and_metrics_tell_that_it_works(telegram: Emulator, start_bot: StartBot) -> None:
    port = free_port()
    start_bot(TERTULIA_HEALTH_PORT=port)
    (talk,) = Talk.begin(telegram, 1)
    talk.say()
    wait_answered(telegram, [talk])
    status, _ = get(port, "/healthz")
    assert status == 200
    _, metrics = get(port, "/metrics")
    assert "# TYPE" in metrics
    assert WORD not in metrics
    assert str(talk.user.id) not in metrics


@pytest.mark.slow
def test_health_tells_that_polling_fails(telegram: Emulator, start_bot: StartBot) -> None:
    """A 401 for ever: the process lives, nobody is answered; only the age of the last poll shows it."""
    port = free_port()
    bot = start_bot(TERTULIA_HEALTH_PORT=port)
    telegram.fail("getUpdates", None, "500")
    telegram.wait_for(lambda: get(port, "/healthz")[0] == 503, 200)
    telegram.heal()
    telegram.wait_for(lambda: get(port, "/healthz")[0] == 200)
    assert bot.running


def test_a_backlog_of_yesterday_gets_one_short_answer(telegram: Emulator, start_bot: StartBot) -> None:
    (late, now) = Talk.begin(telegram, 2)
    yesterday = int(time.time()) - 20 * 3600
    for number in range(10):
        telegram.say(late.chat, late.user, f"{WORD} viejo-{number}", date=yesterday + number)
        telegram.say(late.chat, late.user, f"/ideas {WORD}", date=yesterday + number)
        telegram.say(late.chat, late.user, None, voice=VOICE, date=yesterday + number)
    start_bot()
    now.say()
    wait_answered(telegram, [now])
    telegram.wait_quiet(1.0)
    assert [shown.text for shown in telegram.shown(late.chat)] == [es.WAS_AWAY]


def test_the_output_at_debug_names_no_secret_whatever_fails(telegram: Emulator, start_bot: StartBot) -> None:
    """The fixture searches the output; here everything that could write into it happens."""
    bot = start_bot(ECHO_WORD_S="0.02")
    talks = Talk.begin(telegram, 3)
    for kind in ("500", "502", "bad_json", "cut_before", "cut_after", "400", "429"):
        telegram.fail("sendMessage", 1, kind)
    for kind in ("502", "bad_json"):
        telegram.fail("getUpdates", 1, kind)
    telegram.poison()
    telegram.push({"message": {"text": f"{WORD} en un veneno"}})
    for talk in talks:
        talk.say()
        telegram.say(talk.chat, talk.user, f"/personaje {WORD}")
        telegram.say(talk.chat, talk.user, f"/traducir {WORD}")
        telegram.say(talk.chat, talk.user, f"/{WORD}")
        telegram.say(talk.chat, talk.user, None, voice=VOICE, caption=f"{WORD} voz")
        telegram.say(talk.chat, talk.user, f"{WORD} \ud83d roto")
    telegram.wait_quiet(1.0, 90)
    telegram.heal()
    talks[0].say()
    telegram.wait_for(lambda: talks[0].said[-1] in talks[0].answers())
    bot.stop()
    assert len(bot.output.splitlines()) > 10, "nothing was logged: this proves nothing"


def test_the_embedded_model_answers_with_only_the_token_set(telegram: Emulator, start_bot: StartBot) -> None:
    bot = start_bot(EMBEDDED, wait=False)
    (talk,) = Talk.begin(telegram, 1)
    telegram.say(talk.chat, talk.user, "hola, ¿cómo estás?")
    telegram.wait_for(lambda: any(is_reply(shown) for shown in telegram.shown(talk.chat)), 180)
    seconds, code = bot.stop()
    assert (code, seconds < 20) == (0, True)


def test_commands_are_registered_in_spanish(telegram: Emulator, start_bot: StartBot) -> None:
    start_bot()
    registered = telegram.wait_for(lambda: telegram.commands)
    names = {command["command"] for commands in registered.values() for command in commands}
    assert {"ayuda", "nueva", "parar", "repetir", "deshacer", "personaje", "ajustes", "olvidar"} <= names
    assert json.dumps(registered)
