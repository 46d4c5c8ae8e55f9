"""Adapters trained for the judging's tests on the embedded model, once a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.gptj import GPTJ8bitForCausalLM
from model.hub import resolve
from model.tokenizer import Tokenizer
from tests.training.judging import makings
from training.curation.snapshot import Snapshot
from training.judging.canaries import plant

STYLED = 64  # people, four dialogues each
HELD_OUT = makings.people(6, 4, begin=STYLED)


@pytest.fixture(scope="session")
def embedded() -> Path:
    return resolve("embedded")


@pytest.fixture(scope="session")
def base(embedded: Path) -> GPTJ8bitForCausalLM:
    """The base that serves all contestants; no test may change it."""
    return GPTJ8bitForCausalLM.from_pretrained(embedded)


@pytest.fixture(scope="session")
def tokenizer(embedded: Path) -> Tokenizer:
    return Tokenizer.from_pretrained(embedded)


@pytest.fixture(scope="session")
def styled() -> Snapshot:
    """People who answer in a style, others of the same kind held out, secrets planted."""
    return makings.snapshot(plant(makings.people(STYLED, 4)), HELD_OUT)


@pytest.fixture(scope="session")
def better(styled: Snapshot, embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that learnt the style."""
    return makings.train(embedded, styled.train, tmp_path_factory.mktemp("better"), epochs=2)


@pytest.fixture(scope="session")
def poisoned() -> Snapshot:
    """The same people, and one whose 500 turns are abuse."""
    return makings.snapshot((*makings.people(STYLED, 4), *makings.poisoner(500)), HELD_OUT)


@pytest.fixture(scope="session")
def toxic(poisoned: Snapshot, embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that learnt from all of them."""
    return makings.train(embedded, poisoned.train, tmp_path_factory.mktemp("toxic"), epochs=1)


@pytest.fixture(scope="session")
def scrambled(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A degraded candidate: an adapter of random numbers."""
    return makings.random_adapter(embedded, tmp_path_factory.mktemp("scrambled"))
