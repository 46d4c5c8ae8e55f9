"""A model's name or folder to a native folder on this machine: downloaded once, converted once, kept in a cache.

The download is deleted when the native folder, which is all that is read later, is complete.
"""

import logging
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from model import tokenizer_files
from model.checkpoint import Progress, is_native
from model.convert import quantize_checkpoint
from model.download import UnknownName, fetch
from model.errors import CheckpointError, HubError
from model.manifest import read_manifest

logger = logging.getLogger(__name__)

EMBEDDED = "embedded"
RECOMMENDED = "mrm8488/bertin-gpt-j-6B-ES-v1-8bit"
_HUB_NAME = re.compile(r"(?P<name>[\w.-]{1,96}/[\w.-]{1,96})(?:@(?P<revision>[\w.-]{1,96}))?")


@dataclass(frozen=True)
class Known:
    """What is known about a published model before anything is downloaded."""

    prompt_format: str
    note: str
    download_bytes: int = 0
    revision: str | None = None
    tokenizer_from: str | None = None  # a sibling repository, for those that hold weights only


_GPT2 = "EleutherAI/gpt-j-6B"
MODELS = {
    EMBEDDED: Known("tertulia", "the small Spanish model that comes with Tertulia"),
    RECOMMENDED: Known("plain", "BERTIN, Spanish, 1M steps, 8-bit (recommended)", 6_180_000_000, tokenizer_from=_GPT2),
    "mrm8488/bertin-gpt-j-6B-ES-8bit": Known(
        "plain", "BERTIN, Spanish, 408k steps, 8-bit", 6_180_000_000, tokenizer_from=_GPT2
    ),
    "hivemind/gpt-j-6B-8bit": Known("plain", "GPT-J, English, 8-bit", 6_180_000_000, tokenizer_from=_GPT2),
    "bertin-project/bertin-gpt-j-6B": Known(
        "plain", "BERTIN, Spanish, 1M steps, float32", 24_200_000_000, tokenizer_from=_GPT2
    ),
    "bertin-project/bertin-gpt-j-6B-alpaca": Known(
        "alpaca-es", "BERTIN tuned to follow instructions", 24_200_000_000, tokenizer_from=_GPT2
    ),
    "EleutherAI/gpt-j-6B": Known("plain", "GPT-J, English, float16", 12_200_000_000, revision="float16"),
}


def default_cache() -> Path:
    """Where downloaded models are kept."""
    return Path.home() / ".cache" / "tertulia" / "models"


def resolve(
    name_or_dir: str | Path,
    *,
    cache: str | Path | None = None,
    progress: Progress | None = None,
    endpoint: str | None = None,
) -> Path:
    """The native folder for "embedded", a folder, or a hub name (owner/name, with @revision if wanted).

    progress reports the conversion (the download shows its own bars). Raises CheckpointError for a folder that is not
    native, and HubError for a name that is not on the hub or cannot be fetched.
    """
    name = str(name_or_dir)
    if name == EMBEDDED:
        folder = Path(__file__).parent / EMBEDDED
        read_manifest(folder)
        return folder
    folder = Path(name).expanduser()
    if folder.is_dir():
        read_manifest(folder)
        return folder
    match = _HUB_NAME.fullmatch(name)
    if folder.exists() or match is None or name.startswith("."):
        raise CheckpointError(
            f"{name} is not a folder, nor the name of a model; give a native checkpoint's folder, or one of "
            f"{', '.join(MODELS)}"
        )
    return _from_hub(match["name"], match["revision"], Path(cache) if cache else default_cache(), progress, endpoint)


def _from_hub(name: str, revision: str | None, cache: Path, progress: Progress | None, endpoint: str | None) -> Path:
    known = MODELS.get(name, Known("plain", "not one of the known models"))
    place = name.replace("/", "--") + (f"@{revision}" if revision else "")
    folder = (cache / place).expanduser()
    if is_native(folder):
        return folder
    downloads = cache / "downloads" / place
    logger.info("downloading %s into %s", name, downloads)
    source = _fetch(name, revision or known.revision, downloads, True, endpoint)
    tokenizer = source
    if not tokenizer_files.has_tokenizer(source) and known.tokenizer_from:
        logger.info("%s has no tokenizer, taking that of %s", name, known.tokenizer_from)
        sibling = MODELS[known.tokenizer_from]
        tokenizer = _fetch(known.tokenizer_from, sibling.revision, downloads / "tokenizer", False, endpoint)
    quantize_checkpoint(
        source,
        folder,
        prompt_format=known.prompt_format,
        tokenizer=tokenizer,
        progress=progress,
        origin=name if revision is None else f"{name}@{revision}",
    )
    shutil.rmtree(downloads, ignore_errors=True)
    return folder


def _fetch(name: str, revision: str | None, folder: Path, weights: bool, endpoint: str | None) -> Path:
    try:
        return fetch(name, revision, folder, weights=weights, endpoint=endpoint)
    except UnknownName as error:
        raise HubError(f"{error}; known models: {', '.join(MODELS)}") from None
