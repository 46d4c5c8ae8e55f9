"""From settings to a loaded model: the name to a folder, weights, tokenizer, adapter, engine, service.

Torch and transformers are imported inside: a front end can show its prompt first and load in a thread.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from bot.errors import SettingsError
from bot.quiet import quiet_libraries, set_up_logging
from bot.settings import Settings

if TYPE_CHECKING:
    from bot.adapters import ServedAdapters
    from bot.service import ChatService
    from model.engine.params import SamplingParams
    from model.tokenizer import Tokenizer

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Loaded:
    """A model ready to talk, and what is told about it."""

    name: str
    folder: Path
    adapter: Path | None  # the folder that the settings pin
    model: Any
    tokenizer: Tokenizer
    service: ChatService
    params: SamplingParams
    adapters: ServedAdapters | None = None  # what the registry says, unless an adapter is pinned

    @property
    def num_parameters(self) -> int:
        """Weights and biases of the base, without scales and tables."""
        return sum(parameter.numel() for parameter in self.model.parameters())


def find_folder(settings: Settings, progress: Progress | None = None) -> Path:
    """The native folder of the model; downloads and converts it where it is a name that is not here yet."""
    from model import hub

    cache = settings.cache_dir.expanduser() if settings.cache_dir is not None else None
    return hub.resolve(settings.model, cache=cache, progress=progress)


def is_here(settings: Settings) -> bool:
    """True if the model is a folder or comes with the package: nothing to download."""
    return settings.model == "embedded" or Path(settings.model).expanduser().is_dir()


def load(settings: Settings, folder: Path | None = None) -> Loaded:
    """Load what the settings name. Raises ModelError or SettingsError."""
    set_up_logging(settings.log_level)
    quiet_libraries()
    from bot.activity import Activity
    from bot.service import ChatService
    from model.conversation import Message, render
    from model.engine.engine import Engine
    from model.prompt_formats import get_format
    from model.tokenizer import Tokenizer

    folder = folder or find_folder(settings)
    model = load_model(settings, folder)
    tokenizer = Tokenizer.from_pretrained(folder)
    try:
        fmt = get_format(settings.prompt_format or model.config.prompt_format)
    except ValueError as error:
        raise SettingsError(f"{folder / 'config.json'}: {error}; or give one with --prompt-format") from None
    render([Message("user", "")], fmt, tokenizer, reply=True)  # raises here if the vocabulary lacks the format's marks
    engine = Engine(model, tokenizer, cache_mb=settings.cache_mb)
    adapters, adapter_of = None, _pinned(model, settings.adapter)
    if settings.adapter is None:
        adapters = _served_adapters(settings, folder, model)
        adapter_of = adapters.of
    return Loaded(
        name=settings.model,
        folder=folder,
        adapter=settings.adapter,
        model=model,
        tokenizer=tokenizer,
        service=ChatService(engine, tokenizer, fmt, adapter_of, Activity(settings.state_dir)),
        params=settings.sampling(_generation_config(folder)),
        adapters=adapters,
    )


def _served_adapters(settings: Settings, folder: Path, model: Any) -> ServedAdapters:
    """What the registry says, with the adapter that serves now in place."""
    from bot.adapters import ServedAdapters
    from model.engine.adapters import read_adapter
    from training.registry import Registry, base_hash

    served = ServedAdapters(Registry(settings.adapters_dir), base_hash(folder), partial(read_adapter, model))
    served.refresh()
    return served


def _pinned(model: Any, folder: Path | None) -> Callable[[str], Any]:
    """One adapter, or none, for everybody."""
    from model.engine.adapters import read_adapter

    adapter = None if folder is None else read_adapter(model, folder, str(folder))
    return lambda owner: adapter


def load_model(settings: Settings, folder: Path) -> Any:
    """The causal language model in `folder`, where the settings want it; adapters are the engine's."""
    import torch

    from model.gptj import GPTJ8bitForCausalLM

    prepare_torch(settings)
    device = settings.device
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("TERTULIA_DEVICE is 'cuda': torch finds no GPU here; choose auto or cpu")
    model: Any = GPTJ8bitForCausalLM.from_pretrained(folder, dtype=settings.dtype, device_map=device)
    return model.eval()


def prepare_torch(settings: Settings) -> None:
    """Threads and kernels, for the whole process."""
    import torch

    from model.kernels import ops

    if settings.threads:
        torch.set_num_threads(settings.threads)
    try:
        ops.use(settings.kernels)
        ops.kernels()
    except (ImportError, ValueError) as error:
        raise SettingsError(f"TERTULIA_KERNELS is {settings.kernels!r}: {error}") from None


def load_in_background(settings: Settings, folder: Path | None = None) -> Future[Loaded]:
    """Load in a daemon thread: leaving the program does not wait for it."""
    future: Future[Loaded] = Future()

    def run() -> None:
        try:
            future.set_result(load(settings, folder))
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, name="load", daemon=True).start()
    return future


def _generation_config(folder: Path) -> dict[str, Any]:
    path = folder / "generation_config.json"
    if not path.is_file():
        return {}
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SettingsError(f"{path} is not JSON ({error}); convert or download the model again") from None
    if not isinstance(fields, dict):
        raise SettingsError(f"{path} holds a {type(fields).__name__}, expected a JSON object")
    return fields
