"""What keeps the bot from starting is one line on stderr, without the token."""

from pathlib import Path

import pytest

from bot.errors import BotError
from bot.polling import SECOND_BOT
from bot.settings import Settings
from bot.telegram_process import only_instance
from tests.bot.conftest import Run

TOKEN = "123456789:AAHfiqksKZ8WmR2zSjiQ7_v4TMKl0aAbCdE"


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({}, "TELEGRAM_BOT_TOKEN is not set"),
        ({"TELEGRAM_BOT_TOKEN": "AAHfiqks"}, "Telegram refuses the TELEGRAM_BOT_TOKEN"),
        ({"TELEGRAM_BOT_TOKEN": TOKEN, "TELEGRAM_BASE_URL": "localhost"}, "TELEGRAM_BASE_URL is 'localhost'"),
        ({"TELEGRAM_BOT_TOKEN": TOKEN, "DATABASE_URL": "mysql://a:clave@b/c"}, "DATABASE_URL begins with 'mysql'"),
    ],
)
def test_a_wrong_setting_is_one_line(tertulia: Run, tmp_path: Path, env: dict[str, str], said: str) -> None:
    done = tertulia("bot", TERTULIA_STATE_DIR=str(tmp_path), TERTULIA_HEALTH_PORT="0", **env)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert said in line
    for secret in ("AAHfiqks", "clave"):
        assert secret not in done.stderr


def test_one_bot_a_token(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path, _env_file=None)
    with only_instance(settings, TOKEN):
        with only_instance(settings, "1:other"):
            pass
        with pytest.raises(BotError, match=SECOND_BOT[:30]), only_instance(settings, TOKEN):
            pass
    with only_instance(settings, TOKEN):
        pass
    assert TOKEN not in "".join(path.name for path in tmp_path.iterdir())
