"""Carries a tokenizer's files from one checkpoint folder to another, and mends what published ones get wrong.

GPT-2's settings there say 1024 positions (the model has 2048) and no pad token; GPT-J's tokenizer adds 143 names
`<|extratoken_N|>` for the padding rows of the embedding, which are no tokens and must not count.
"""

import json
import re
from pathlib import Path
from typing import Any

from model.errors import TokenizerError
from model.geometry import read_json

FILES = (
    "tokenizer.model",
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
)
SETTINGS = "tokenizer_config.json"
_PADDING_NAME = re.compile(r"<\|extratoken_\d+\|>")
_END_OF_TEXT = "<|endoftext|>"


def has_tokenizer(folder: Path) -> bool:
    """True when the folder has the files of one of the two kinds: sentencepiece, or GPT-2's byte-level BPE."""
    names = {name for name in FILES if (folder / name).is_file()}
    return bool(names & {"tokenizer.model", "tokenizer.json"}) or {"vocab.json", "merges.txt"} <= names


def carry(folder: Path, n_positions: int) -> dict[str, bytes]:
    """name -> content of the folder's tokenizer files, settings mended; raises TokenizerError when there are none."""
    if not has_tokenizer(folder):
        raise TokenizerError(
            f"{folder} has no tokenizer (tokenizer.json, or vocab.json with merges.txt, or tokenizer.model); "
            "name a folder that has the model's own with --tokenizer"
        )
    files = {name: (folder / name).read_bytes() for name in FILES if (folder / name).is_file()}
    if "tokenizer.model" not in files:
        settings = read_json(folder / SETTINGS) if SETTINGS in files else {}
        files[SETTINGS] = _mend(settings, n_positions)
    return files


def count_tokens(folder: Path) -> int:
    """How many ids the tokenizer really has (50,257 for GPT-2); raises TokenizerError when they are not 0 ... n-1."""
    if (folder / "tokenizer.model").is_file():
        from sentencepiece import SentencePieceProcessor

        try:
            return SentencePieceProcessor(model_file=str(folder / "tokenizer.model")).vocab_size()
        except (RuntimeError, OSError) as error:
            raise TokenizerError(f"{folder / 'tokenizer.model'} is not a sentencepiece model: {error}") from None
    if (folder / "tokenizer.json").is_file():
        path = folder / "tokenizer.json"
        fields = read_json(path)
        model, added = fields.get("model"), fields.get("added_tokens") or []
        vocab = model.get("vocab") if isinstance(model, dict) else None
        pairs = {str(token.get("content")): token.get("id") for token in added if isinstance(token, dict)}
    else:
        path = folder / "vocab.json"
        vocab = read_json(path)
        pairs = read_json(folder / "added_tokens.json") if (folder / "added_tokens.json").is_file() else {}
    if not isinstance(vocab, dict):
        raise TokenizerError(f"{path} has no vocabulary of a byte-level BPE tokenizer; get the file again")
    ids = {number for name, number in {**vocab, **pairs}.items() if not _PADDING_NAME.fullmatch(name)}
    if ids != set(range(len(ids))):
        raise TokenizerError(f"{path}: its {len(ids)} ids are not 0 to {len(ids) - 1}; get the file again")
    return len(ids)


def _mend(settings: dict[str, Any], n_positions: int) -> bytes:
    """The right length and a pad token; a file that was missing gets the settings of plain GPT-2."""
    for name in ("bos_token", "eos_token", "unk_token"):
        settings.setdefault(name, _END_OF_TEXT)
    settings.setdefault("tokenizer_class", "GPT2Tokenizer")
    if settings.get("pad_token") is None:
        settings["pad_token"] = settings["eos_token"]
    settings["model_max_length"] = n_positions
    return (json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()
