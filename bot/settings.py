"""All settings: command line > environment > .env > default. The only place that reads the environment.

Names in the environment are those of the fields, in capitals, with TERTULIA_ before them, but for those that people
know without it (PLAIN); `.env.example` lists them. A secret never stands in a repr nor in an error.
Sampling numbers left unset come from the model's generation_config.json, then from SamplingParams.
"""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, ValidationInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from bot.errors import SettingsError
from model.engine.params import RANGES, SamplingParams, in_range

PREFIX = "TERTULIA_"
PLAIN = ("telegram_bot_token", "telegram_base_url", "database_url")  # their names in the environment have no prefix
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_new_tokens", "seed")


def _state_home() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "tertulia"


def _sampling_value(value: Any, info: ValidationInfo) -> Any:
    if value is not None and not in_range(str(info.field_name), value):
        raise ValueError
    return value


def _ids(value: Any) -> Any:
    return tuple(int(part) for part in value.replace(",", " ").split()) if isinstance(value, str) else value


Number = Annotated[float | None, AfterValidator(_sampling_value)]
Whole = Annotated[int | None, AfterValidator(_sampling_value)]
Ids = Annotated[tuple[int, ...], NoDecode, BeforeValidator(_ids)]
IDS = "numeric ids with commas between them, for instance 12345,-100987"


class Settings(BaseSettings):
    """What a run is told. Descriptions say what is expected; they stand in error messages."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        validate_by_name=True,
        protected_namespaces=(),
    )

    model: str = Field("embedded", description="embedded, a model's folder or a name on the hub", min_length=1)
    adapter: Path | None = Field(None, description="the folder of a LoRA adapter")
    prompt_format: Literal["tertulia", "plain", "alpaca-es"] | None = Field(
        None, description="tertulia, plain or alpaca-es"
    )
    system: str = Field("", description="a text")
    cache_dir: Path | None = Field(None, description="a folder")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto, cpu or cuda")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="float32, bfloat16 or float16")
    threads: int = Field(0, ge=0, le=4096, description="an integer, 0 (as many as torch finds right) to 4096")
    kernels: Literal[
        "auto",
        "cpu",
        "cpu:portable",
        "cpu:avx2",
        "cpu:avx512",
        "cpu:avx512-vbmi",
        "cpu:amx",
        "triton",
        "bitsandbytes",
        "reference",
    ] = Field("auto", description="auto, cpu (or cpu:avx2 and the like), triton, bitsandbytes or reference")
    temperature: Number = Field(None, description=RANGES["temperature"][2])
    top_p: Number = Field(None, description=RANGES["top_p"][2])
    top_k: Whole = Field(None, description=RANGES["top_k"][2])
    min_p: Number = Field(None, description=RANGES["min_p"][2])
    repetition_penalty: Number = Field(None, description=RANGES["repetition_penalty"][2])
    max_new_tokens: Whole = Field(None, description=RANGES["max_new_tokens"][2])
    seed: Whole = Field(None, description=RANGES["seed"][2])
    cache_mb: int = Field(1024, ge=1, le=2**20, description="an integer of 1 or more, in MB")
    history: bool = Field(True, description="true or false")
    state_dir: Path = Field(default_factory=_state_home, description="a folder")
    retire_forgotten: bool = Field(False, description="true or false")
    train_preset: Literal["lora-gpt3", "lora-gpt2", "notebook"] = Field(
        "lora-gpt3", description="lora-gpt3, lora-gpt2 or notebook"
    )
    train_memory_gb: float = Field(0.0, ge=0, le=100_000, description="GB (0: no limit) to 100000")
    train_idle_s: float = Field(10.0, ge=0, le=86400, description="seconds, 0 to 86400")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "warning", description="debug, info, warning or error"
    )

    telegram_bot_token: SecretStr = Field(
        SecretStr(""), validation_alias="TELEGRAM_BOT_TOKEN", description="the token that @BotFather gave"
    )
    telegram_base_url: str = Field(
        "https://api.telegram.org/bot",
        validation_alias="TELEGRAM_BASE_URL",
        pattern=r"^https?://[^\s/]+.*/bot$",
        description="the address of a Bot API server up to /bot, for instance http://127.0.0.1:8081/bot",
    )
    database_url: str = Field(
        "", validation_alias="DATABASE_URL", repr=False, description="sqlite:///... or postgresql+psycopg://..."
    )
    allowed_ids: Ids = Field((), description=IDS)
    admin_ids: Ids = Field((), description=IDS)
    messages_per_minute: int = Field(20, ge=0, description="an integer, 0 (no limit) or more")
    messages_per_day: int = Field(500, ge=0, description="an integer, 0 (no limit) or more")
    retention_days: int = Field(30, ge=1, le=3650, description="an integer, 1 to 3650")
    health_port: int = Field(8083, ge=0, le=65535, description="a port, or 0 for none")
    webhook_url: str = Field("", pattern=r"^(https?://\S+)?$", description="an address that begins with https://")
    webhook_listen: str = Field("127.0.0.1", min_length=1, description="an address of this machine")
    webhook_port: int = Field(8443, ge=1, le=65535, description="a port")
    webhook_secret: SecretStr = Field(SecretStr(""), description="1 to 256 letters, digits, _ or -")

    @property
    def adapters_dir(self) -> Path:
        """The registry of adapters."""
        return self.state_dir.expanduser() / "adapters"

    @property
    def runs_dir(self) -> Path:
        """The folders of training runs."""
        return self.state_dir.expanduser() / "runs"

    def log_url(self) -> str:
        """The database of the dialogues: `database_url`, or a SQLite file in the state folder."""
        from training.database import sqlite_url

        return self.database_url or sqlite_url(self.state_dir.expanduser() / "dialogues.db")

    def sampling(self, of_model: Mapping[str, Any] | None = None) -> SamplingParams:
        """The sampling numbers: those set here, then those of the model's generation_config.json, then the defaults.

        Raises SettingsError if the model's are out of range.
        """
        of_model = of_model or {}
        values = {name: of_model[name] for name in SAMPLING[:-1] if of_model.get(name) is not None}
        if of_model.get("do_sample") is False:
            values["temperature"] = 0.0
        values |= {name: value for name in SAMPLING if (value := getattr(self, name)) is not None}
        try:
            return SamplingParams(**values)
        except ValueError as error:
            raise SettingsError(f"the model's generation_config.json: {error}") from None


def load_settings(options: Mapping[str, Any] | None = None) -> Settings:
    """Settings with the command line's `options` on top (None means not given).

    Raises SettingsError naming the variable or option, its value and what is expected.
    """
    given = {name: value for name, value in (options or {}).items() if value is not None}
    _refuse_unknown_names()
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).lower()
        if name in given:
            where, hint = "--" + name.replace("_", "-"), "see --help"
        else:
            where, hint = env_name(name), "see .env.example"
        expected = Settings.model_fields[name].description
        raise SettingsError(f"{where} is {str(first['input'])!r}: expected {expected}; {hint}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f".env is not UTF-8 text ({error.reason}): save it as UTF-8") from None


def env_name(field: str) -> str:
    """The name of a setting in the environment and in .env."""
    return field.upper() if field in PLAIN else PREFIX + field.upper()


def _refuse_unknown_names() -> None:
    """A mistyped name would otherwise be a setting that silently does nothing."""
    known = {env_name(name) for name in Settings.model_fields}
    try:
        in_file = dotenv_values(".env", encoding="utf-8") if Path(".env").is_file() else {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f".env cannot be read ({error}): expected lines NAME=value in UTF-8") from None
    for where, names in (("the environment", os.environ), (".env", in_file)):
        for name in names:
            if name.upper().startswith(PREFIX) and name.upper() not in known:
                near = difflib.get_close_matches(name.upper(), known, 1)
                hint = f"did you mean {near[0]}?" if near else "see .env.example for those there are"
                raise SettingsError(f"{name} in {where} is not a setting; {hint}")
