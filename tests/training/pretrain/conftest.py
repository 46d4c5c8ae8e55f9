"""A work folder with a small vocabulary and a little prose, made once a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.pretrain import charla, corpus, tokenizer
from training.pretrain.batches import Encoder, Stream


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrain")
    (folder / "prose").mkdir()
    documents = [text for _, text in charla.load().stories[:20]]
    (folder / "prose" / "stories.txt").write_text(corpus.SEPARATOR.join(documents), encoding="utf-8")
    tokenizer.run(work=folder, vocab_size=1200, num_dialogues=300)
    return folder


@pytest.fixture(scope="session")
def encoder(work: Path) -> Encoder:
    return Encoder(work / "tokenizer.model")


@pytest.fixture(scope="session")
def data() -> charla.Charla:
    return charla.load()


@pytest.fixture(scope="session")
def stream(work: Path, encoder: Encoder, data: charla.Charla) -> Stream:
    return Stream(encoder, data, corpus.read_prose(work), seed=1)
