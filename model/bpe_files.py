"""The files of a GPT-2 byte-level BPE: `tokenizer.json`, or `vocab.json` + `merges.txt` where a repository lacks it.

Read for their vocabulary and merges only; whatever else they ask for that would change ids is refused, not ignored.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from model.errors import TokenizerError

END_OF_TEXT = "<|endoftext|>"


def read_tokenizer_json(path: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a `tokenizer.json`, if it describes GPT-2's byte-level BPE and nothing else."""
    spec = _read_json(path)
    model, splitter = _section(spec, "model"), _section(spec, "pre_tokenizer")
    kind, split = model.get("type", "BPE" if model else None), splitter.get("type")
    if kind != "BPE" or split != "ByteLevel" or spec.get("normalizer"):
        raise TokenizerError(f"{path}: model {kind}, splitter {split}: expected GPT-2's BPE, ByteLevel, no normalizer")
    changed = [
        name
        for name in ("dropout", "ignore_merges", "continuing_subword_prefix", "end_of_word_suffix")
        if model.get(name)
    ]
    changed += ["add_prefix_space"] if splitter.get("add_prefix_space") else []
    changed += ["use_regex"] if not splitter.get("use_regex", True) else []
    if changed:
        raise TokenizerError(
            f"{path}: {', '.join(changed)} differ from GPT-2's settings; give the model's own tokenizer"
        )
    vocab = _checked_vocab(path, model.get("vocab"))
    added_tokens = spec.get("added_tokens") or []
    if not isinstance(added_tokens, list) or not all(isinstance(added, dict) for added in added_tokens):
        raise TokenizerError(f"{path}: its added tokens are no list of objects; copy it again")
    for added in added_tokens:  # "<|extratoken_7|>" of GPT-J is a padding row: leave it out
        if added.get("content") == END_OF_TEXT and type(added.get("id")) is int:
            vocab.setdefault(END_OF_TEXT, added["id"])
    merges = model.get("merges")
    if not isinstance(merges, list):
        raise TokenizerError(f"{path}: no list of merges; copy it again")
    return vocab, [_merge(path, item) for item in merges]


def read_vocab_and_merges(vocab_path: Path, merges_path: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    try:
        lines = merges_path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{merges_path}: not UTF-8 text ({one_line(error)}); copy it again") from error
    lines = [line.rstrip("\r") for line in lines]
    merges = [_merge(merges_path, line) for line in lines if line and not line.startswith("#version")]
    return _checked_vocab(vocab_path, _read_json(vocab_path)), merges


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise TokenizerError(f"{path}: not JSON ({one_line(error)}); copy it again") from error
    if not isinstance(value, dict):
        raise TokenizerError(f"{path}: expected a JSON object, found {type(value).__name__}; copy it again")
    return value


def _section(spec: dict[str, Any], name: str) -> dict[str, Any]:
    section = spec.get(name)
    return section if isinstance(section, dict) else {}


def _checked_vocab(path: Path, vocab: Any) -> dict[str, int]:
    if not isinstance(vocab, dict) or not vocab or not all(type(i) is int for i in vocab.values()):
        raise TokenizerError(f"{path}: expected a vocabulary of tokens and their ids; copy it again")
    return dict(vocab)


def _merge(path: Path, item: Any) -> tuple[str, str]:
    """A merge as "a b" (all files up to 2024) or ["a", "b"] (newer ones)."""
    parts = item.split(" ") if isinstance(item, str) else item
    if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) and part for part in parts):
        raise TokenizerError(f"{path}: merge {item!r}: expected two tokens; copy it again")
    return parts[0], parts[1]


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
