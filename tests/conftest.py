"""Fixtures that several tests share: a small tokenizer of each kind, made once a run from the project's own texts."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

CHARLA = Path(__file__).parent.parent / "training" / "pretrain" / "charla"


def charla_texts(limit: int = 6000) -> list[str]:
    """Sentences of the project's Spanish dialogues: user forms, replies and stories."""
    texts: list[str] = []
    for line in (CHARLA / "intents.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        texts += entry["user"] + entry["bot"]
    for line in (CHARLA / "stories.jsonl").read_text(encoding="utf-8").splitlines():
        texts.append(json.loads(line)["text"])
    return texts[-limit:]


@pytest.fixture(scope="session")
def spm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentencepiece unigram of 1,000 pieces, made like the embedded one: control symbols, byte fallback."""
    import sentencepiece

    folder = tmp_path_factory.mktemp("spm")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(charla_texts()),
        model_writer=model,
        model_type="unigram",
        vocab_size=1000,
        byte_fallback=True,
        control_symbols=["<|usuario|>", "<|tertulia|>", "<|sistema|>", "<|fin|>"],
        eos_id=-1,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        num_threads=1,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    return folder


@pytest.fixture(scope="session")
def bpe_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 byte-level BPE of 1,000 tokens in all its files, `<|endoftext|>` last as in the published folders."""
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer

    folder = tmp_path_factory.mktemp("bpe")
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    trainer = BpeTrainer(vocab_size=999, initial_alphabet=ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(charla_texts(), trainer)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    spec = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocab = spec["model"]["vocab"] | {"<|endoftext|>": 999}
    merges = [" ".join(pair) for pair in spec["model"]["merges"]]
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    return folder
