"""Order of precedence, and errors that name the key, the value and what is expected."""

from pathlib import Path

import pytest
from dotenv import dotenv_values

from bot.errors import SettingsError
from bot.settings import PLAIN, PREFIX, SAMPLING, Settings, env_name, load_settings
from model.engine.params import SamplingParams

EXAMPLE = Path(__file__).parents[2] / ".env.example"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import os

    for name in list(os.environ):
        if name.startswith(PREFIX) or name.lower() in PLAIN:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_command_line_goes_before_environment_before_file_before_model_before_default(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_model = {"temperature": 0.4, "top_p": 0.8, "top_k": 7, "repetition_penalty": 1.1, "bos_token_id": 0}
    (empty_folder / ".env").write_text("TERTULIA_TEMPERATURE=0.3\nTERTULIA_TOP_P=0.7\nTERTULIA_TOP_K=6\n")
    monkeypatch.setenv("TERTULIA_TEMPERATURE", "0.2")
    monkeypatch.setenv("TERTULIA_TOP_P", "0.6")
    settings = load_settings({"temperature": 0.1, "seed": None})
    assert settings.sampling(of_model) == SamplingParams(
        temperature=0.1, top_p=0.6, top_k=6, repetition_penalty=1.1, max_new_tokens=SamplingParams().max_new_tokens
    )


def test_without_anything_the_embedded_model_and_default_sampling() -> None:
    settings = load_settings()
    assert settings.model == "embedded"
    assert settings.sampling() == SamplingParams()


def test_a_model_that_does_not_sample_is_greedy_unless_told() -> None:
    assert load_settings().sampling({"do_sample": False, "temperature": 0.7}).temperature == 0
    assert load_settings({"temperature": 0.5}).sampling({"do_sample": False}).temperature == 0.5


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("TEMPERATURE", "caliente", "a number from 0"),
        ("TEMPERATURE", "-1", "a number from 0"),
        ("TOP_P", "0", "above 0, up to 1"),
        ("TOP_K", "2.5", "an integer, 0"),
        ("MAX_NEW_TOKENS", "0", "an integer of 1 or more"),
        ("SEED", "-3", "an integer from 0"),
        ("THREADS", "-1", "an integer, 0"),
        ("KERNELS", "fast", "auto, cpu (or cpu:avx2 and the like), triton, bitsandbytes or reference"),
        ("DEVICE", "tpu", "auto, cpu or cuda"),
        ("DTYPE", "int8", "float32, bfloat16 or float16"),
        ("PROMPT_FORMAT", "chatml", "tertulia, plain or alpaca-es"),
        ("HISTORY", "quizá", "true or false"),
        ("LOG_LEVEL", "loud", "debug, info, warning or error"),
        ("ALLOWED_IDS", "@juan", "numeric ids"),
        ("MESSAGES_PER_DAY", "-1", "an integer, 0 (no limit)"),
        ("RETENTION_DAYS", "0", "1 to 3650"),
        ("HEALTH_PORT", "70000", "a port, or 0"),
        ("WEBHOOK_URL", "ftp://a", "https://"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_expected(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    message = str(caught.value)
    assert message.startswith(f"{PREFIX}{name} is {value!r}: expected ")
    assert expected in message
    assert "\n" not in message


def test_telegrams_names_have_no_prefix_and_the_token_stays_out_of_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN", "123:secreto")
    monkeypatch.setenv("TELEGRAM_BASE_URL", "http://127.0.0.1:8081/bot")
    monkeypatch.setenv("DATABASE_URL", "postgresql+psycopg://yo:clave@localhost/t")
    monkeypatch.setenv("TERTULIA_ADMIN_IDS", "7, 8 -100")
    settings = load_settings()
    assert settings.telegram_bot_token.get_secret_value() == "123:secreto"
    assert settings.admin_ids == (7, 8, -100)
    assert settings.log_url().endswith("/t")
    assert "secreto" not in repr(settings)
    assert "clave" not in repr(settings)
    monkeypatch.setenv("TELEGRAM_BASE_URL", "http://127.0.0.1:8081")
    with pytest.raises(SettingsError, match=r"TELEGRAM_BASE_URL is 'http://127.0.0.1:8081': expected the address"):
        load_settings()


def test_a_wrong_option_is_named_as_an_option() -> None:
    with pytest.raises(SettingsError, match=r"--top-p is '1.5': expected a number above 0, up to 1"):
        load_settings({"top_p": 1.5})


def test_a_mistyped_name_is_refused_in_environment_and_file(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty_folder / ".env").write_text("TERTULIA_TEMPERATUR=1\nOTHER=2\n")
    with pytest.raises(SettingsError, match=r"TERTULIA_TEMPERATUR in .env .* did you mean TERTULIA_TEMPERATURE"):
        load_settings()
    monkeypatch.setenv("TERTULIA_XYZZY", "1")
    with pytest.raises(SettingsError, match="TERTULIA_XYZZY in the environment is not a setting"):
        load_settings()


def test_a_file_that_is_not_text_is_one_line(empty_folder: Path) -> None:
    (empty_folder / ".env").write_bytes(b"TERTULIA_SYSTEM=\xff\xfe\n")
    with pytest.raises(SettingsError, match=r"\.env cannot be read"):
        load_settings()


def test_out_of_range_numbers_of_a_model_are_an_error() -> None:
    with pytest.raises(SettingsError, match=r"generation_config.json: top_p is 7"):
        load_settings().sampling({"top_p": 7})


def test_the_example_file_lists_every_setting_with_its_default(empty_folder: Path) -> None:
    listed = dotenv_values(EXAMPLE)
    assert list(listed) == [env_name(name) for name in Settings.model_fields]
    defaults = load_settings()
    (empty_folder / ".env").write_text(EXAMPLE.read_text(encoding="utf-8"), encoding="utf-8")
    assert load_settings() == defaults
    for name in set(Settings.model_fields) - {"state_dir", *SAMPLING}:
        value = getattr(defaults, name)
        shown = "" if value is None or value == () else str(value).lower() if isinstance(value, bool) else str(value)
        assert listed[env_name(name)] == shown, name
    for name in SAMPLING[:-1]:
        before = EXAMPLE.read_text(encoding="utf-8").split(f"{PREFIX}{name.upper()}=")[0]
        assert before.rstrip().endswith(f"[{getattr(SamplingParams(), name)}]"), name


def test_choices_are_those_that_exist() -> None:
    from typing import get_args

    from model.kernels.ops import KERNELS
    from model.prompt_formats import FORMATS

    def choices(name: str) -> set[str]:
        annotation = Settings.model_fields[name].annotation
        literals = [part for part in (annotation, *get_args(annotation)) if part is not type(None)]
        return {choice for part in literals for choice in get_args(part) if isinstance(choice, str)}

    assert {choice.partition(":")[0] for choice in choices("kernels")} == {"auto", *KERNELS}
    assert all(choice.startswith("cpu:") for choice in choices("kernels") if ":" in choice)
    assert choices("prompt_format") == set(FORMATS)
